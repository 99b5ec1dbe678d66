"""inspect-ai as it comes: stop sequences and penalties."""

import asyncio

import pytest

inspect_model = pytest.importorskip("inspect_ai.model")


@pytest.fixture
def ask(server, monkeypatch):
    """The completion and the reason of its end, by inspect-ai's provider for servers of OpenAI's protocol."""
    monkeypatch.setenv("LOCAL_BASE_URL", server.base_url)
    monkeypatch.setenv("LOCAL_API_KEY", "any")

    def generate(**config):
        settings = inspect_model.GenerateConfig(temperature=0, max_tokens=12, max_retries=0, **config)
        model = inspect_model.get_model("openai-api/local/tiny", config=settings, memoize=False)
        output = asyncio.run(model.generate("hello"))
        return output.completion, output.stop_reason

    return generate


def test_reply_ends_at_a_stop_sequence(ask, greedy):
    text = greedy("hello")
    stop = text[len(text) // 2]
    assert ask() == (text, "max_tokens")
    assert ask(stop_seqs=[stop]) == (text[: text.index(stop)], "stop")


def test_penalties_reach_the_model(ask, greedy):
    penalties = {"frequency_penalty": 1.5, "presence_penalty": 0.5}
    text, _ = ask(**penalties)
    assert text == greedy("hello", **penalties)
    assert text != greedy("hello")


def test_log_probabilities_and_choices(server, monkeypatch):
    monkeypatch.setenv("LOCAL_BASE_URL", server.base_url)
    monkeypatch.setenv("LOCAL_API_KEY", "any")
    settings = inspect_model.GenerateConfig(max_tokens=5, seed=3, num_choices=2, logprobs=True, top_logprobs=2)
    model = inspect_model.get_model("openai-api/local/tiny", config=settings, memoize=False)
    output = asyncio.run(model.generate("hello"))
    assert len(output.choices) == 2
    assert all(len(choice.logprobs.content) == 5 for choice in output.choices)

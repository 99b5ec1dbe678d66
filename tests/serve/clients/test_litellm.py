"""litellm as it comes: chat, text completion, streams, errors."""

import pytest

litellm = pytest.importorskip("litellm")

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def reach(server):
    return {"api_base": server.base_url, "api_key": "any", "num_retries": 0}


def test_chat(reach, greedy):
    text = greedy("hello")
    asked = {"model": "openai/tiny", "messages": HELLO, "temperature": 0, "max_tokens": 12, **reach}
    whole = litellm.completion(**asked)
    assert whole.choices[0].message.content == text
    assert whole.usage.completion_tokens == 12
    stop = text[len(text) // 2]
    assert litellm.completion(**asked, stop=[stop]).choices[0].message.content == text[: text.index(stop)]
    more = litellm.completion(**asked, logprobs=True, top_logprobs=3, seed=7, n=2, frequency_penalty=1.0)
    assert len(more.choices) == 2


def test_streamed_chat(reach, greedy):
    asked = {"model": "openai/tiny", "messages": HELLO, "temperature": 0, "max_tokens": 12, **reach}
    chunks = list(litellm.completion(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == greedy("hello")
    assert len(chunks) > 2
    assert litellm.stream_chunk_builder(chunks).choices[0].message.content == greedy("hello")


def test_text_completion(reach):
    asked = {"model": "text-completion-openai/tiny", "prompt": "hello", "temperature": 0, "max_tokens": 12, **reach}
    whole = litellm.text_completion(**asked)
    assert whole.choices[0].text
    chunks = list(litellm.text_completion(**asked, stream=True))
    assert "".join(chunk.choices[0].text or "" for chunk in chunks if chunk.choices) == whole.choices[0].text


def test_refusal(reach):
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        litellm.completion(model="openai/tiny", messages=HELLO, temperature=3, **reach)

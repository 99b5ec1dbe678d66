"""The official client: asynchronous calls, its helpers for streams and for typed answers, its errors."""

import asyncio
from typing import Literal

import openai
import pydantic
import pytest

HELLO = [{"role": "user", "content": "hello"}]


class Verdict(pydantic.BaseModel):
    better: Literal["a", "b"]
    sure: bool


def run(server, calls):
    async def inside():
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="any", max_retries=0) as sdk:
            return await calls(sdk)

    return asyncio.run(inside())


def test_concurrent_streams_are_the_whole_replies(server):
    async def streamed(sdk, seed):
        asked = {"model": "tiny", "messages": HELLO, "seed": seed, "max_tokens": 12, "temperature": 0.7}
        chunks = [chunk async for chunk in await sdk.chat.completions.create(**asked, stream=True)]
        whole = await sdk.chat.completions.create(**asked)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks), whole.choices[0].message.content

    async def calls(sdk):
        return await asyncio.gather(*(streamed(sdk, seed) for seed in range(4)))

    replies = run(server, calls)
    assert len({text for text, _ in replies}) == 4
    assert all(text == whole for text, whole in replies)


def test_helper_for_streams_builds_the_message(server):
    async def calls(sdk):
        async with sdk.chat.completions.stream(
            model="tiny", messages=HELLO, seed=1, max_tokens=8, logprobs=True
        ) as stream:
            events = [event.type async for event in stream]
            return events, stream.current_completion_snapshot

    events, final = run(server, calls)
    assert "content.delta" in events
    assert final.choices[0].message.role == "assistant"
    assert len(final.choices[0].logprobs.content) == 8
    assert final.choices[0].finish_reason == "length"


def test_typed_answer_whole_and_streamed(server):
    async def calls(sdk):
        asked = {"model": "tiny", "messages": HELLO, "seed": 2, "response_format": Verdict}
        whole = await sdk.chat.completions.parse(**asked)
        async with sdk.chat.completions.stream(**asked) as stream:
            return whole, await stream.get_final_completion()

    for reply in run(server, calls):
        assert isinstance(reply.choices[0].message.parsed, Verdict)


def test_text_completions_score_their_prompt(server):
    async def calls(sdk):
        return await sdk.completions.create(model="tiny", prompt=["ab", "cd"], echo=True, logprobs=1, max_tokens=1)

    for choice, prompt in zip(run(server, calls).choices, ("ab", "cd"), strict=True):
        assert choice.text.startswith(prompt)
        assert choice.logprobs.token_logprobs[0] is None
        assert len(choice.logprobs.tokens) == 3


def test_stop_and_penalties(server, greedy):
    text = greedy("hello")
    stop = text[len(text) // 2]
    assert greedy("hello", stop=[stop, "\n\n"]) == text[: text.index(stop)]
    assert greedy("hello", frequency_penalty=2, presence_penalty=2) != text


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"model": "other"}, openai.NotFoundError),
        ({"messages": []}, openai.BadRequestError),
        ({"temperature": 3}, openai.BadRequestError),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError),
        ({"max_tokens": 1000}, openai.BadRequestError),
    ],
)
def test_refusals_have_the_clients_own_classes(server, fields, error):
    with (
        openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as sdk,
        pytest.raises(error) as caught,
    ):
        sdk.chat.completions.create(**{"model": "tiny", "messages": HELLO, **fields})
    assert caught.value.type == "invalid_request_error"

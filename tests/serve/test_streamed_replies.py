"""Streamed text of a real engine behind its thread: equal to that of whole completions, cut at stop strings."""

import asyncio
import dataclasses

import pytest

from aloe_jax.decode.engine import Engine
from aloe_jax.decode.requests import Request, Sampling
from aloe_jax.serve.reply_text import ReplyTexts, Stops, joined
from aloe_jax.serve.worker import Worker
from helpers.tiny import MODEL, params
from helpers.tree_samples import tokenizer

TOKENIZER = tokenizer()
REQUEST = Request(tuple(TOKENIZER.encode("Which one is it?")), Sampling(max_tokens=60), seed=3, n=3)
WAIT = 600  # seconds until a test gives up on another thread


@pytest.fixture(scope="module")
def engine():
    return Engine(
        MODEL,
        params(),
        slots=3,
        context=100,
        end_of_turn=TOKENIZER.end_of_turn_ids,
        vocab=TOKENIZER.vocab_size,
    )


@pytest.fixture(scope="module")
def worker(engine):
    running = Worker(engine)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def whole(worker):
    return worker.submit(REQUEST).result(WAIT)


def by_completion(deltas):
    return [joined([delta for delta in deltas if delta.index == index]) for index in range(REQUEST.n)]


def test_streamed_texts_are_those_of_whole_completions(worker, whole):
    """For a thread and for a coroutine, read at once or late."""

    async def read(stream):
        return [delta async for delta in ReplyTexts(stream, TOKENIZER, REQUEST.n)]

    late = worker.stream(REQUEST)
    runs = [list(ReplyTexts(worker.stream(REQUEST), TOKENIZER, REQUEST.n)), asyncio.run(read(worker.stream(REQUEST)))]
    runs.append(list(ReplyTexts(late, TOKENIZER, REQUEST.n)))
    for run in runs:
        assert len(run) > 2 * REQUEST.n
        for found, completion in zip(by_completion(run), whole, strict=True):
            assert found.text == TOKENIZER.decode(completion.text_ids)
            assert found.token_ids == completion.token_ids
            assert found.finish_reason == completion.finish_reason
            assert found.log_probs == pytest.approx(completion.log_probs, abs=5e-5)


def test_a_stop_string_ends_the_decoding_of_its_completion(worker, engine, whole):
    texts = [TOKENIZER.decode(completion.text_ids) for completion in whole]
    longest = max(texts, key=len)
    stop = longest[len(longest) // 2 :][:3]
    found = by_completion(list(ReplyTexts(worker.stream(REQUEST), TOKENIZER, REQUEST.n, Stops((stop,)))))
    for one, text, completion in zip(found, texts, whole, strict=True):
        assert one.text == text.split(stop)[0]
        assert (one.stop is not None) == (stop in text)
        assert one.token_ids == completion.token_ids[: len(one.token_ids)]
    assert found[texts.index(longest)].stop == stop
    with worker.stream(dataclasses.replace(REQUEST, n=1)) as stream:
        [*_, last] = ReplyTexts(stream, TOKENIZER, 1, Stops((texts[0][1],)))
    assert (last.finish_reason, last.stop) == ("stop", texts[0][1])
    assert worker.submit(Request((7,), Sampling(max_tokens=1))).result(WAIT)
    assert not engine.busy
    assert all(not share.running for share in engine._shares)

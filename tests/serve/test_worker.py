"""The engine's thread: what happens to requests when it is full, stops or fails."""

import asyncio
import threading

import pytest

from aloe_jax.decode.requests import Request
from aloe_jax.errors import InputError
from aloe_jax.serve.worker import OverloadedError, UnavailableError, Worker

REQUEST = Request(prompt=(1, 2, 3))
WAIT = 10  # seconds until a test gives up on another thread


def test_request_before_start_is_refused(engine):
    with pytest.raises(UnavailableError):
        Worker(engine).submit(REQUEST)


def test_full_worker_refuses_until_a_request_is_done(engine):
    """One request runs and one may wait."""
    engine.hold()
    engine.rows = 1
    worker = Worker(engine, max_waiting=1)
    worker.start()
    first, second = worker.submit(REQUEST), worker.submit(REQUEST)
    for _ in range(2):  # cancelled before the engine has it, a request never gets there
        engine.submitted.get(timeout=WAIT)
    with pytest.raises(OverloadedError):
        worker.submit(REQUEST)
    assert second.cancel()
    assert engine.cancelled.get(timeout=WAIT) == 2
    third = worker.submit(REQUEST)
    engine.release()
    assert first.result(WAIT) == third.result(WAIT)
    worker.stop()


def test_stop_fails_what_is_open_and_refuses_what_comes(engine):
    engine.hold()
    worker = Worker(engine)
    worker.start()
    open_request = worker.submit(REQUEST)
    worker.stop()
    with pytest.raises(UnavailableError):
        open_request.result(WAIT)
    with pytest.raises(UnavailableError):
        worker.submit(REQUEST)
    assert worker.failure is None


def test_failed_step_fails_what_is_open_and_refuses_what_comes(engine):
    engine.hold()
    failed = threading.Event()
    worker = Worker(engine, on_failure=failed.set)
    worker.start()
    open_request = worker.submit(REQUEST)
    engine.broken = True
    with pytest.raises(UnavailableError):
        open_request.result(WAIT)
    assert failed.wait(WAIT)
    with pytest.raises(UnavailableError):
        worker.submit(REQUEST)
    assert str(worker.failure) == "the device is lost"
    assert not worker.accepting
    worker.stop()


def test_refused_request_leaves_the_worker_running(engine):
    engine.longest_prompt = 2
    worker = Worker(engine)
    worker.start()
    with pytest.raises(InputError, match="the engine refuses"):
        worker.submit(REQUEST).result(WAIT)
    assert len(worker.submit(Request(prompt=(1,))).result(WAIT)) == 1
    worker.stop()


def drain(stream):
    """The deltas of a stream, as (token ids, finish reason) by completion."""
    found = {}
    for delta in stream:
        ids, _ = found.get(delta.index, ((), None))
        found[delta.index] = ids + delta.token_ids, delta.finish_reason
    return found


def test_a_stream_has_the_tokens_of_the_completions(engine):
    worker = Worker(engine)
    worker.start()
    request = Request(prompt=(1, 2, 3), n=2)
    expected = {number: (one.token_ids, "stop") for number, one in enumerate(worker.submit(request).result(WAIT))}
    assert drain(worker.stream(request)) == expected
    assert asyncio.run(drain_async(worker.stream(request))) == expected
    worker.stop()


async def drain_async(stream):
    return drain([delta async for delta in stream])


def test_a_stream_raises_what_the_request_fails_with(engine):
    engine.longest_prompt = 2
    worker = Worker(engine)
    worker.start()
    with pytest.raises(InputError, match="the engine refuses"):
        next(worker.stream(REQUEST))
    engine.longest_prompt = 3
    engine.hold()
    stream = worker.stream(REQUEST)
    worker.stop()
    with pytest.raises(UnavailableError):
        next(stream)
    with pytest.raises(UnavailableError):
        worker.stream(REQUEST)


def test_a_stream_that_nobody_reads_keeps_nobody_waiting(engine):
    worker = Worker(engine)
    worker.start()
    unread = worker.stream(REQUEST)
    for _ in range(3):
        assert worker.submit(REQUEST).result(WAIT)
    assert drain(unread)[0][1] == "stop"
    worker.stop()


def test_leaving_a_stream_cancels_its_request(engine):
    engine.hold()
    worker = Worker(engine)
    worker.start()
    with worker.stream(REQUEST) as stream:
        engine.submitted.get(timeout=WAIT)
    assert engine.cancelled.get(timeout=WAIT) == 1
    assert drain(stream) == {}
    worker.stop()

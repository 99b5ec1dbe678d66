"""Streamed requests: the tokens of the completions, after every burst, and pages that become free at once."""

import dataclasses

import pytest

from aloe_jax.decode.filling import LIVE_BURST
from aloe_jax.decode.programs import BURST
from aloe_jax.decode.requests import Delta, Request, Sampling
from decode.test_engine import CONSTRAINED, REQUESTS, assert_agree, engine

LONG = Request((7, 8, 9), Sampling(max_tokens=40, ignore_eos=True), seed=1, n=2, stream=True, live=True)


@pytest.fixture(scope="module")
def made():
    return engine()


@pytest.fixture
def shared(made):
    """The engine of all tests, which begin and end with nothing told of."""
    assert made.streamed() == []
    yield made
    made.streamed()


def steps(found):
    """The deltas of each step until the engine is idle, and the completions by ticket."""
    told, done = [], {}
    while found.busy:
        done.update(found.step())
        told.append(found.streamed())
    return told, done


def pages_in_use(found):
    return [share.shape.pages - 1 - share.tree.available for share in found._shares]


def test_deltas_are_the_completions(shared):
    requests = REQUESTS + CONSTRAINED
    expected = shared.generate(requests)
    tickets = [shared.submit(dataclasses.replace(request, stream=True, live=True)) for request in requests]
    told, done = steps(shared)
    assert_agree(requests, expected, [done[ticket] for ticket in tickets])
    for ticket in tickets:
        for index, completion in enumerate(done[ticket]):
            deltas = [delta for step in told for number, delta in step if (number, delta.index) == (ticket, index)]
            assert all(len(delta.token_ids) <= LIVE_BURST for delta in deltas)
            assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
            assert deltas[-1].finish_reason == completion.finish_reason
            for field in ("token_ids", "log_probs", "top"):
                assert sum((getattr(delta, field) for delta in deltas), ()) == getattr(completion, field)


def test_only_live_requests_shorten_bursts(shared):
    for live, most in ((False, BURST), (True, LIVE_BURST)):
        shared.submit(Request((7, 8), Sampling(max_tokens=20, ignore_eos=True), stream=True, live=live))
        told, _ = steps(shared)
        assert max(len(delta.token_ids) for step in told for _, delta in step) == most


def test_only_streamed_requests_are_told_of(shared):
    shared.generate(REQUESTS)
    assert shared.streamed() == []


@pytest.mark.parametrize("begun", [True, False])
def test_stopping_one_completion_leaves_the_other(shared, begun):
    [expected] = shared.generate([dataclasses.replace(LONG, stream=False, live=False)])
    ticket = shared.submit(LONG)
    if begun:
        shared.step()
        shared.step()
    earlier = [delta for _, delta in shared.streamed() if delta.index == 0]
    held = sum(pages_in_use(shared))
    shared.stop(ticket, 0)
    shared.stop(ticket, 0)
    assert not begun or sum(pages_in_use(shared)) < held
    assert [delta for _, delta in shared.streamed()] == [Delta(0, finish_reason="stop")]
    _, done = steps(shared)
    stopped, other = done[ticket]
    assert stopped.token_ids == sum((delta.token_ids for delta in earlier), ()) == expected[0].token_ids[: 8 * begun]
    assert stopped.finish_reason == "stop"
    assert_agree([LONG], [expected[1:]], [[other]])
    assert sum(pages_in_use(shared)) == 0


def test_stopping_the_last_completion_finishes_the_request(shared):
    one = dataclasses.replace(LONG, n=1)
    ticket = shared.submit(one)
    shared.step()
    shared.stop(ticket, 0)
    assert shared.busy
    [(number, [completion])] = shared.step()
    assert (number, completion.finish_reason, len(completion.token_ids)) == (ticket, "stop", LIVE_BURST)
    assert not shared.busy


def test_cancelling_frees_the_pages_and_tells_no_more(shared):
    ticket = shared.submit(LONG)
    shared.step()
    assert sum(pages_in_use(shared)) > 0
    shared.stop(ticket, 1)
    shared.cancel(ticket)
    assert sum(pages_in_use(shared)) == 0
    assert not shared.busy
    assert shared.streamed() == []


def test_a_request_for_no_tokens_ends_behind_its_prompt(shared):
    none = Sampling(max_tokens=0)
    prompt = tuple(range(8, 8 + shared.context))  # as long as the context
    requests = [Request(prompt, none, n=2), Request((7,), none)]
    for completions, request in zip(shared.generate(requests), requests, strict=True):
        assert [(one.token_ids, one.finish_reason) for one in completions] == [((), "length")] * request.n

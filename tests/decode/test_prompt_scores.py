"""Log-probabilities of prompts against the plain forward pass, and what scoring leaves of the page tree."""

import numpy as np
import pytest

from aloe_jax.decode.requests import Request, Sampling
from aloe_jax.parallel.mesh import make_mesh
from decode.test_engine import REQUESTS, assert_agree, engine
from helpers.tiny import params, token_log_probs

PAGE, CHUNK = 64, 16


@pytest.fixture(scope="module")
def shared():
    return engine(slots=4, context=2 * PAGE)


def prompt(length, seed=0):
    return tuple(np.random.default_rng(seed).integers(6, 90, length).tolist())


def scored(ids, **sampling):
    return Request(ids, Sampling(temperature=0.0, **sampling), score=True)


def assert_scores(ids, scores):
    assert scores.log_probs[0] is None
    np.testing.assert_allclose(scores.log_probs[1:], token_log_probs(params(), list(ids)), atol=1e-4)


@pytest.mark.parametrize("tokens", [0, 3])
def test_scores_are_those_of_the_forward_pass(shared, tokens):
    """Of prompts that end at borders of chunks and pages, all of them at once."""
    lengths = (1, 2, CHUNK, CHUNK + 1, CHUNK + 2, PAGE, PAGE + 1, 2 * PAGE - 3)
    requests = [scored(prompt(length, seed=length), max_tokens=tokens) for length in lengths]
    for request, [completion] in zip(requests, shared.generate(requests), strict=True):
        assert len(completion.token_ids) <= tokens
        assert_scores(request.prompt, completion.prompt)
        assert completion.prompt.top == ()
        [[plain]] = shared.generate([Request(request.prompt, request.sampling)])
        assert plain.token_ids == completion.token_ids
        assert plain.prompt is None


def test_the_most_probable_tokens_of_the_prompt(shared):
    """The first of them is the token that a greedy reply to the tokens before would have, which is how a choice is
    found to be the greedy one."""
    [[reply]] = shared.generate([Request(prompt(20), Sampling(temperature=0.0, max_tokens=9, ignore_eos=True))])
    ids = (*prompt(20), *reply.token_ids)
    [[completion]] = shared.generate([scored(ids, max_tokens=1, top_logprobs=2)])
    assert completion.prompt.top[0] == ()
    assert [len(top) for top in completion.prompt.top[1:]] == [2] * (len(ids) - 1)
    greedy = [(top[0][0], pytest.approx(top[0][1], abs=1e-4)) for top in completion.prompt.top[20:]]
    assert greedy == list(zip(reply.token_ids, completion.prompt.log_probs[20:], strict=True))


def test_scoring_neither_uses_nor_changes_what_the_pages_hold():
    fresh = engine(slots=4, context=2 * PAGE)
    ids = prompt(PAGE + 30, seed=5)
    request = Request(ids, Sampling(temperature=0.0, max_tokens=5))
    [before] = fresh.generate([request])
    tree, body = fresh._shares[0].tree, len(ids) - 1
    assert (tree.held, fresh.found, fresh.prefilled) == (2, 0, body)
    [[first], [second]] = fresh.generate([scored(ids, max_tokens=5), scored(ids, max_tokens=0)])
    assert_scores(ids, first.prompt)
    assert_scores(ids, second.prompt)
    assert (tree.held, tree.available) == (2, fresh.shape.pages - 1)
    assert (fresh.found, fresh.prefilled) == (0, 3 * body)
    assert fresh.generate([request]) == [before]
    assert (fresh.found, fresh.prefilled) == (body, 3 * body)


def test_neighbours_of_scored_prompts_keep_their_tokens(shared):
    alone = shared.generate(REQUESTS)
    company = [scored(prompt(50, seed=number), max_tokens=2) for number in range(len(REQUESTS))]
    mixed = shared.generate([each for pair in zip(REQUESTS, company, strict=True) for each in pair])
    assert_agree(REQUESTS, alone, mixed[::2])
    for request, [completion] in zip(company, mixed[1::2], strict=True):
        assert_scores(request.prompt, completion.prompt)


def test_a_stream_has_the_scores_in_its_first_delta(shared):
    for tokens in (0, 9):
        request = Request(prompt(20), Sampling(max_tokens=tokens, ignore_eos=True), n=2, score=True, stream=True)
        shared.submit(request)
        told = []
        while shared.busy:
            shared.step()
            told += [delta for _, delta in shared.streamed()]
        for index in range(2):
            first, *rest = (delta for delta in told if delta.index == index)
            assert_scores(request.prompt, first.prompt)
            assert all(delta.prompt is None for delta in rest)


@pytest.mark.slow
def test_a_mesh_gives_the_same():
    """Where prefill and scores are one program."""
    meshed = engine(slots=8, context=2 * PAGE, mesh=make_mesh(fsdp=4, tensor=2))
    requests = [scored(prompt(length, seed=length), max_tokens=2, top_logprobs=3) for length in (2, 40, 100)]
    for request, [completion] in zip(requests, meshed.generate(requests), strict=True):
        assert_scores(request.prompt, completion.prompt)
        assert [len(top) for top in completion.prompt.top] == [0] + [3] * (len(request.prompt) - 1)

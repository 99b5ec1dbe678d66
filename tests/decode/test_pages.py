"""The radix tree of pages against a plain list of sequences, and what reuse leaves to compute."""

import dataclasses

import jax
import numpy as np
import pytest

from aloe_jax.decode.pages import PageTree, common_prefix
from aloe_jax.decode.requests import Request, Sampling
from aloe_jax.errors import InputError
from decode.test_engine import engine

PAGE, CHUNK = 64, 16


def enter(tree, tokens):
    """A sequence that was computed and let go."""
    found = tree.find(tokens)
    path = list(found.full)
    for page in path:
        tree.use(page)
    for start in range(len(path) * tree.size, len(tokens), tree.size):
        page = tree.new(path[-1] if path else None)
        path.append(tree.enter(page, tokens[start : start + tree.size]))
    tree.leave(path)


def test_the_longest_beginning_is_found():
    draw = np.random.default_rng(0)
    tree, held = PageTree(1000, 4), []
    for _ in range(150):
        base = held[draw.integers(len(held))][: draw.integers(1, 12)] if held and draw.random() < 0.7 else ()
        tokens = (*base, *draw.integers(0, 3, draw.integers(1, 9)).tolist())
        found = tree.find(tokens)
        longest = max((common_prefix(tokens, other) for other in held), default=0)
        assert len(found.full) * 4 + found.common == longest
        enter(tree, tokens)
        held.append(tokens)
        assert tree.available == 999
    assert tree.held == tree.unused


def test_the_pages_left_longest_ago_are_evicted():
    tree = PageTree(5, 2)
    for tokens in ((1, 2, 3, 4), (5, 6), (7, 8)):
        enter(tree, tokens)
    enter(tree, (1, 2, 9))  # uses the page (1, 2) again, and needs one more: (3, 4) is the oldest
    assert [len(tree.find(tokens).full) for tokens in ((1, 2, 3, 4), (5, 6), (7, 8))] == [1, 1, 1]
    assert tree.evicted == 1
    enter(tree, (10, 11))
    assert not tree.find((5, 6)).full
    assert tree.available == 4


def test_a_dialogue_goes_on_where_it_stopped():
    """Each turn computes what is new in it, and the tokens and log-probabilities are those of a fresh engine."""
    draw = np.random.default_rng(0)
    long, prompt, seen = engine(slots=2, context=8 * PAGE), (), 0
    for _ in range(5):
        prompt += tuple(draw.integers(6, 90, 30).tolist())
        request = Request(prompt, Sampling(max_tokens=20), seed=7)
        before = long.prefilled, long.found
        [[completion]] = long.generate([request])
        assert long.prefilled - before[0] == len(prompt) - 1 - seen
        assert long.found - before[1] == seen
        assert_agree_long(request, completion)
        prompt += completion.token_ids
        seen = len(prompt) - 1  # the last token was drawn and not run


def assert_agree_long(request, completion):
    [[fresh]] = engine(slots=1, context=8 * PAGE).generate([request])
    assert fresh.token_ids == completion.token_ids
    np.testing.assert_allclose(fresh.log_probs, completion.log_probs, atol=5e-5)


def test_siblings_and_samples_share_their_trunk():
    trunk = tuple(np.random.default_rng(1).integers(6, 90, 100).tolist())
    many = engine(slots=6, context=4 * PAGE)
    siblings = [Request((*trunk, number), Sampling(max_tokens=3), seed=number) for number in range(6, 9)]
    requests = [Request(trunk, Sampling(max_tokens=20), n=3), *siblings]
    together = many.generate(requests)
    assert many.prefilled == 100  # the trunk without its last token, and that one for the siblings
    for request, completions in zip(requests, together, strict=True):
        [fresh] = engine(slots=1, context=4 * PAGE).generate([request])
        assert [each.token_ids for each in fresh] == [each.token_ids for each in completions]


def test_requests_wait_for_pages_and_nothing_is_lost():
    small = engine(slots=6, context=2 * PAGE, pages=6)
    draw = np.random.default_rng(2)
    prompts = [tuple(draw.integers(6, 90, draw.integers(1, 90)).tolist()) for _ in range(12)]
    requests = [Request(prompt, Sampling(max_tokens=30), seed=number) for number, prompt in enumerate(prompts)]
    expected = [engine(slots=1, context=2 * PAGE).generate([request])[0] for request in requests]
    found = small.generate(requests)
    assert [[each.token_ids for each in one] for one in found] == [[each.token_ids for each in one] for one in expected]
    [share] = small._shares
    assert (share.tree.available, share._promised, share.running) == (5, 0, [])
    with pytest.raises(InputError, match="pages: 3 of 64 tokens are too few for a context of 128; give 4 or more"):
        engine(context=2 * PAGE, pages=3)


def test_new_parameters_use_nothing_old():
    from helpers.tiny import params

    prompt = Request(tuple(range(6, 80)), Sampling(max_tokens=5), seed=1)
    reloaded = engine(slots=2, context=2 * PAGE)
    reloaded.generate([prompt])
    reloaded.load(params(seed=1))
    before = reloaded.prefilled
    found = reloaded.generate([prompt])
    assert reloaded.prefilled - before == 73
    [[fresh]] = engine(slots=2, context=2 * PAGE, weights=params(seed=1)).generate([prompt])
    assert found == [[fresh]]


def test_memory_goes_back_between_parameters():
    """Of the parameters in the layout of decoding and of the pages nothing is left, and what is loaded again decodes as
    before."""
    from helpers.tiny import params

    request, given = Request(tuple(range(6, 80)), Sampling(max_tokens=5), seed=1), params()
    held = engine(slots=2, context=2 * PAGE)
    before, arrays = held.generate([request]), len(jax.live_arrays())
    own = len(jax.tree.leaves((held._executor._params, held._executor._cache)))
    held.unload()
    assert arrays - len(jax.live_arrays()) == own
    held.load(given)
    assert held.generate([request]) == before


def test_random_company_leaks_nothing_and_changes_nothing():
    """Random submissions, forks and cancels: every page is available again, and replies are those given alone."""
    draw = np.random.default_rng(3)
    busy, context = engine(slots=5, context=4 * PAGE, pages=14), 4 * PAGE
    alone = engine(slots=1, context=context)
    sent, done, said = {}, {}, [()]
    for _ in range(60):
        for _ in range(draw.integers(0, 3)):
            base = said[draw.integers(len(said))]
            prompt = (*base[: draw.integers(0, len(base) + 1)], *draw.integers(6, 90, draw.integers(1, 40)).tolist())
            if len(prompt) < context - 8:
                request = Request(
                    prompt, Sampling(max_tokens=int(draw.integers(1, 20))), seed=3, n=int(draw.integers(1, 3))
                )
                sent[busy.submit(request)] = request
        if sent and draw.random() < 0.15:
            ticket = list(sent)[draw.integers(len(sent))]
            busy.cancel(ticket)
            if ticket not in done:
                del sent[ticket]
        for ticket, completions in busy.step():
            done[ticket] = completions
            said.append((*sent[ticket].prompt, *completions[0].token_ids))
    while busy.busy:
        done.update(busy.step())
    assert set(done) == set(sent)
    assert len(done) > 30
    [share] = busy._shares
    assert (share.tree.available, share._promised, busy._finished) == (13, 0, {})
    assert min(busy.found, 200 * share.tree.evicted) >= 200
    for ticket in list(done)[::5]:
        request = dataclasses.replace(sent[ticket])
        assert [each.token_ids for each in alone.generate([request])[0]] == [each.token_ids for each in done[ticket]]

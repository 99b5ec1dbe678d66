"""What users of other engines have reported, with the same input here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aloe_jax.decode import programs
from aloe_jax.decode.filling import MIXED_BURST
from aloe_jax.decode.requests import Constraint, Request, Sampling
from decode.test_engine import END, engine
from helpers.tiny import params, path_log_prob

PAGE, CHUNK = 64, 16


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).integers(6, 90, shape).tolist()


@pytest.fixture(scope="module")
def two_pages():
    return engine(slots=4, context=2 * PAGE)


@pytest.mark.parametrize("around", [CHUNK, PAGE, PAGE + CHUNK, 2 * PAGE - 2])
def test_prompts_that_end_at_a_border(around, two_pages):
    """Of a chunk, a page and the context (GeeeekExplorer/nano-vllm#114, vllm-project/vllm#17999). The second time all
    of the prompt is in the cache, and the last page is the one that is full or nearly so."""
    for length in (around - 1, around, around + 1):
        prompt = tuple(drawn(length, seed=around))
        request = Request(prompt, Sampling(temperature=0.0, max_tokens=3))
        for computed in (None, 0):
            before = two_pages.prefilled
            [[completion]] = two_pages.generate([request])
            assert computed is None or two_pages.prefilled - before == computed
            ids = completion.token_ids
            assert len(ids) == min(3, 2 * PAGE - length) or ids[-1] == END
            expected = path_log_prob(params(), [*prompt, *ids], len(ids))
            assert sum(completion.log_probs) == pytest.approx(float(expected), abs=1e-4)


def test_an_end_of_turn_in_the_prompt_ends_nothing(two_pages):
    """Nor does the last token of the prompt, which is the first that decoding runs (vllm-project/vllm#5543)."""
    [[completion]] = two_pages.generate([Request((7, END, END, 8, END), Sampling(temperature=0.0, max_tokens=4))])
    assert len(completion.token_ids) == 4


def test_numbers_that_are_none_do_not_outlive_their_parameters():
    """0 x NaN is NaN: a mask does not hide what a diverged model left in a page (vllm-project/vllm#641,
    Dao-AILab/flash-attention#2374)."""
    found = engine(slots=2, context=2 * PAGE)
    request = Request(tuple(drawn(70)), Sampling(max_tokens=5), seed=1)
    before = found.generate([request])
    found.load(jax.tree.map(lambda leaf: leaf * jnp.nan, params()))
    [[broken]] = found.generate([request])
    assert np.isnan(broken.log_probs).all()
    found.load(params())
    assert found.generate([request]) == before


def test_short_requests_do_not_keep_a_long_one_waiting():
    """Of three pages the long one needs two, and now and then one becomes free, which the short ones that wait would
    take (vllm-project/vllm#31731 has the opposite: short ones wait although they would fit)."""
    found = engine(slots=3, context=2 * PAGE, pages=4)
    prompts = [tuple(prompt) for prompt in drawn(60, 10)]
    short = (Request(prompt, Sampling(temperature=0.0, max_tokens=40)) for prompt in prompts)
    for _ in range(3):
        found.submit(next(short))
        found.step()
    long, done = found.submit(Request(tuple(drawn(100)), Sampling(max_tokens=8))), []
    while long not in done:
        assert len(done) < 10
        while len(found._waiting) < 3:
            found.submit(next(short))
        done += [ticket for ticket, _ in found.step()]


def test_equal_requests_of_a_batch_get_equal_replies(two_pages):
    """The row of a batch is no part of the seed (vllm-project/vllm#51226)."""
    request = Request((7, 8, 9), Sampling(max_tokens=8), seed=4)
    assert len({one.token_ids for [one] in two_pages.generate([request] * 4)}) == 1


def test_neighbours_of_a_constrained_reply_take_full_bursts():
    """Concurrent requests with grammars break other engines (vllm-project/tpu-inference#1531). Here the constrained row
    takes one step of a burst and pauses, and its neighbour takes every step: one token per step, as alone."""
    found = engine(slots=2, context=2 * PAGE)
    choice = Constraint(choices=("maybe so, or perhaps not, or neither of the two",))
    found.submit(Request((15, 16), Sampling(), seed=6, constraint=choice))
    found.submit(Request((3, 4), Sampling(max_tokens=40), seed=1))
    taken, bursts = [], []
    run = found._executor.run

    def counted(plan):
        result = run(plan)
        if result is not None:
            taken.append(result.going.sum(axis=0).tolist())
            bursts.append(int(plan.steps))
        return result

    found._executor.run = counted
    while found.busy:
        found.step()
    mixed = [rows for rows, steps in zip(taken, bursts, strict=True) if len(rows) == 2 and all(rows)]
    assert len(mixed) > 5
    assert {constrained for constrained, _ in mixed} == {1}
    assert {free for _, free in mixed[:-1]} == {MIXED_BURST}


@pytest.fixture
def compilations():
    """The events of JAX's compilation cache, as they come."""
    events = []
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
    yield events
    jax.monitoring.clear_event_listeners()


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_nothing_is_compiled_after_the_warm_up_or_at_a_second_start(whole, compilations):
    """The number of programs is fixed, and a process that starts later loads all of them. (JAX keeps what took a second
    or longer to compile, and less only if told so, as in `conftest.py`: OpenSourceEconomics/pylcm#397.)"""
    requests = [Request(tuple(drawn(n, seed=n)), Sampling(max_tokens=n), seed=1, n=2) for n in (1, 17, 50)]
    requests.append(Request((9,), Sampling(top_logprobs=3), seed=1, constraint=Constraint(choices=("yes", "no"))))
    requests.append(Request((9, 8), Sampling(top_logprobs=3, presence_penalty=1.0, max_tokens=20), seed=1, score=True))
    first = engine(slots=2, whole=whole)
    first.warm_up(options=True)
    first.generate(requests)
    programs.programs.cache_clear()  # as in a new process
    second = engine(slots=2, whole=whole)
    compilations.clear()
    second.warm_up(options=True)
    asked = compilations.count("/jax/compilation_cache/compile_requests_use_cache")
    assert asked == compilations.count("/jax/compilation_cache/cache_hits") > 0
    number = asked if whole else 2 * 5 + 4 * 3 + 1  # rows of 1 and 2, chunks of 1, 4, 16 and 64, the copy
    assert second.compiled == f"{number} of at most {number} programs compiled"
    compilations.clear()
    second.generate(requests)
    assert not compilations
    assert second.compiled == f"{number} of at most {number} programs compiled"


def test_options_are_compiled_when_a_request_has_some():
    """Two row counts and four chunk counts there can be; of the programs of options only those for what came."""
    programs.programs.cache_clear()
    found = engine(slots=2)
    found.warm_up()
    plain = 2 * 3 + 4 * 2 + 1
    assert found.compiled == f"{plain} of at most {plain + 2 * 2 + 4} programs compiled"
    found.generate([Request((7, 8, 9), Sampling(max_tokens=20), seed=1, stream=True)])
    assert found.compiled == f"{plain} of at most {plain + 2 * 2 + 4} programs compiled"
    found.generate([Request((7, 8, 9), Sampling(max_tokens=20, min_p=0.1), seed=1)])
    assert found.compiled == f"{plain + 2} of at most {plain + 2 * 2 + 4} programs compiled"


def test_another_model_of_the_same_shape_compiles_nothing(compilations):
    """As when a benchmark plays one model after the other."""
    request, weights = Request((3, 4, 9, 10), Sampling(max_tokens=10), seed=1), params(seed=1)
    first = engine(slots=2).generate([request])
    compilations.clear()
    assert engine(slots=2, weights=weights).generate([request]) != first
    assert not compilations

"""Sampling against a plain twin that sorts, its frequencies, and what constraints leave."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_jax.decode.sampling import ALL, sample

VOCAB = 40
DRAWS = 4000


@jax.jit
def draw(logits, temperature, top_p, top_k):
    """Many draws from one distribution."""
    keys = jax.random.split(jax.random.key(0), DRAWS)
    fill = lambda value, dtype: jnp.full(DRAWS, value, dtype)  # noqa: E731
    return sample(
        jnp.broadcast_to(logits, (DRAWS, VOCAB)),
        keys,
        fill(temperature, jnp.float32),
        fill(top_p, jnp.float32),
        fill(top_k, jnp.int32),
    )


def kept_by_sorting(logits, temperature, top_p, top_k):
    """The plain twin: sort, cut after top-k, then after the token that brings the mass to top_p."""
    probs = np.exp(np.asarray(jax.nn.log_softmax(logits / temperature), np.float64))
    order = np.argsort(-probs)[: top_k or None]
    mass = np.cumsum(probs[order]) / probs[order].sum()
    return set(order[: int(np.searchsorted(mass, top_p - 1e-6)) + 1].tolist()) if top_p < 1 else set(order.tolist())


@given(
    seed=st.integers(0, 1000),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_p=st.sampled_from([0.1, 0.5, 0.9, 1.0]),
    top_k=st.sampled_from([0, 1, 3, 20]),
)
@settings(max_examples=30, deadline=None)
def test_filters_equal_sorting(seed, temperature, top_p, top_k):
    logits = jax.random.normal(jax.random.key(seed), (VOCAB,)) * 2
    tokens, log_probs, *_ = draw(logits, temperature, top_p, top_k)
    kept = kept_by_sorting(logits, temperature, top_p, top_k)
    assert set(np.unique(tokens).tolist()) <= kept
    # Each kept token that is likely to be drawn is drawn: P(missed) < e^-20 at probability 20 / DRAWS.
    probs = np.exp(np.asarray(jax.nn.log_softmax(logits / temperature)))
    likely = {token for token in kept if probs[token] > 20 / DRAWS}
    assert likely <= set(np.unique(tokens).tolist())
    np.testing.assert_allclose(log_probs, jax.nn.log_softmax(logits)[tokens], atol=1e-5)


def test_frequencies_follow_the_temperature():
    logits = jnp.linspace(-2, 2, VOCAB)
    tokens, *_ = draw(logits, 0.7, 1.0, 0)
    expected = np.asarray(jax.nn.softmax(logits / 0.7))
    observed = np.bincount(np.asarray(tokens), minlength=VOCAB) / DRAWS
    # Five standard deviations of a binomial share.
    assert (np.abs(observed - expected) <= 5 * np.sqrt(expected / DRAWS) + 1e-9).all()


@pytest.mark.parametrize("top_p", [0.3, 1.0])
def test_greedy(top_p):
    logits = jax.random.normal(jax.random.key(3), (VOCAB,))
    tokens, *_ = draw(logits, 0.0, top_p, 0)
    assert set(np.unique(tokens).tolist()) == {int(jnp.argmax(logits))}


@pytest.mark.parametrize("top_p", [1e-9, 1e-40])
def test_the_most_probable_token_is_kept_under_any_top_p(top_p):
    """1e-40 is 0 in f32 on a CPU (huggingface/text-generation-inference#544)."""
    logits = jax.random.normal(jax.random.key(3), (VOCAB,))
    tokens, *_ = draw(logits, 1.0, top_p, 0)
    assert set(np.unique(tokens).tolist()) == {int(jnp.argmax(logits))}


def test_only_allowed_tokens_are_drawn_and_the_filters_see_no_others():
    """Slots: free, two allowed tokens, the same under top-k 1, one allowed token at temperature 0."""
    logits = jnp.broadcast_to(jnp.linspace(-2, 2, VOCAB), (4, VOCAB))
    few = np.zeros((2, 32), bool)
    few[0, 3] = few[1, 1] = True  # tokens 3 and 33
    one = np.zeros((2, 32), bool)
    one[0, 31] = True
    pack = lambda bits: (bits.astype(np.uint64) << np.arange(32, dtype=np.uint64)).sum(axis=1).astype(np.uint32)  # noqa: E731
    allowed = jnp.asarray(np.stack([np.full(2, ALL), pack(few), pack(few), pack(one)]))
    draw = jax.jit(lambda keys, *settings, **options: sample(logits, keys, *settings, **options))
    found = []
    for seed in range(40):
        keys = jax.random.split(jax.random.key(seed), 4)
        settings = jnp.array([1.0, 1.5, 1.0, 0.0]), jnp.ones(4), jnp.array([0, 0, 1, 0])
        drawn = draw(keys, *settings, allowed=allowed, want_top=True)
        assert drawn.token[0] == draw(keys, *settings).token[0]
        np.testing.assert_allclose(drawn.log_prob, jax.nn.log_softmax(logits)[jnp.arange(4), drawn.token], atol=1e-6)
        found.append(np.asarray(drawn.token))
    free_tokens, two, best, only = (set(column.tolist()) for column in np.transpose(found))
    assert len(free_tokens) > 5
    assert (two, best, only) == ({3, 33}, {33}, {31})
    np.testing.assert_array_equal(drawn.top_ids[0], np.arange(VOCAB)[::-1][:20])
    np.testing.assert_array_equal(drawn.top_ids[1, :2], [33, 3])
    assert np.isneginf(drawn.top_log_probs[1, 2:]).all()

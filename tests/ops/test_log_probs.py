"""Log-probabilities and entropy of targets: chunks equal full logits, which never exist."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aloe_jax.ops.log_probs import target_log_probs


@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
def test_chunks_equal_full_logits(chunk):
    keys = jax.random.split(jax.random.key(0), 4)
    hidden, head = jax.random.normal(keys[0], (2, 10, 16)), jax.random.normal(keys[1], (16, 33))
    source, target = (jax.random.randint(key, (2, 7), 0, top) for key, top in zip(keys[2:], (10, 33), strict=True))
    cotangent = jnp.arange(14.0).reshape(2, 7)

    def full(hidden, head):
        log_probs = jax.nn.log_softmax(hidden @ head)
        rows = jnp.arange(2)[:, None]
        return jnp.sum(log_probs[rows, source, target] * cotangent)

    def chunked(hidden, head):
        return jnp.sum(target_log_probs(hidden, head, source, target, chunk).log_prob * cotangent)

    got = jax.value_and_grad(chunked, argnums=(0, 1))(hidden, head)
    expected = jax.value_and_grad(full, argnums=(0, 1))(hidden, head)
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-4), got, expected)


def test_logits_of_all_tokens_never_exist():
    """4,096 targets over 8,192 tokens and 4,096 words: [T, V] in f32 would be 128 MiB, [M, V] 64 MiB."""
    hidden, head = jnp.zeros((1, 8192, 8)), jnp.zeros((8, 4096))
    index = jnp.zeros((1, 4096), jnp.int32)

    def total(hidden, head):
        scores = target_log_probs(hidden, head, index, index, 256, entropy=True)
        return jnp.sum(scores.log_prob), scores.entropy

    run = jax.jit(jax.grad(total, (0, 1), has_aux=True))
    assert run.lower(hidden, head).compile().memory_analysis().temp_size_in_bytes < 32 * 2**20


@pytest.mark.parametrize("soft_cap", [None, 5.0])
def test_entropy(soft_cap):
    """-sum p log p of the full distribution, uniform and certain ones too: log 33 and 0."""
    keys = jax.random.split(jax.random.key(0), 4)
    hidden, head = 3 * jax.random.normal(keys[0], (2, 10, 16)), jax.random.normal(keys[1], (16, 33))
    hidden = hidden.at[0, 0].set(0).at[0, 1].set(200 * head[:, 0])
    source, target = (jax.random.randint(key, (2, 7), 0, top) for key, top in zip(keys[2:], (10, 33), strict=True))
    source = source.at[0, 0].set(0).at[0, 1].set(1)
    logits = jnp.take_along_axis(hidden, source[..., None], axis=1) @ head
    log_p = jax.nn.log_softmax(logits if soft_cap is None else soft_cap * jnp.tanh(logits / soft_cap))
    got = target_log_probs(hidden, head, source, target, 3, soft_cap, entropy=True).entropy
    np.testing.assert_allclose(got, -jnp.sum(jnp.exp(log_p) * log_p, axis=-1), rtol=1e-5, atol=1e-5)
    assert got[0, 0] == pytest.approx(np.log(33), rel=1e-6)
    if soft_cap is None:
        assert got[0, 1] == pytest.approx(0.0, abs=1e-6)


def test_entropy_carries_no_gradient_and_leaves_the_backward_pass_alone():
    """Its gradient is zero, and the step with it has as many matrix products as without it."""
    keys = jax.random.split(jax.random.key(1), 2)
    hidden, head = jax.random.normal(keys[0], (1, 10, 16)), jax.random.normal(keys[1], (16, 33))
    index = jnp.arange(8)[None]

    def total(hidden, head, entropy):
        scores = target_log_probs(hidden, head, index, index, 4, entropy=entropy)
        return jnp.sum(scores.log_prob), scores.entropy

    def of_entropy(hidden, head):
        return jnp.sum(target_log_probs(hidden, head, index, index, 4, entropy=True).entropy)

    assert not any(jnp.any(part) for part in jax.grad(of_entropy, (0, 1))(hidden, head))
    products = []
    for entropy in (False, True):
        step = jax.value_and_grad(functools.partial(total, entropy=entropy), (0, 1), has_aux=True)
        run = jax.jit(step).lower(hidden, head)
        products.append(run.compile().as_text().count(" dot("))
        assert (run.out_info[0][1] is None) != entropy
    assert products[0] == products[1] > 0

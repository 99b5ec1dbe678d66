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
        return jnp.sum(target_log_probs(hidden, head, source, target, chunk) * cotangent)

    got = jax.value_and_grad(chunked, argnums=(0, 1))(hidden, head)
    expected = jax.value_and_grad(full, argnums=(0, 1))(hidden, head)
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-4), got, expected)


def test_logits_of_all_tokens_never_exist():
    """4,096 targets over 8,192 tokens and 4,096 words: [T, V] in f32 would be 128 MiB, [M, V] 64 MiB."""
    hidden, head = jnp.zeros((1, 8192, 8)), jnp.zeros((8, 4096))
    index = jnp.zeros((1, 4096), jnp.int32)
    run = jax.jit(jax.grad(lambda hidden, head: jnp.sum(target_log_probs(hidden, head, index, index, 256)), (0, 1)))
    assert run.lower(hidden, head).compile().memory_analysis().temp_size_in_bytes < 32 * 2**20

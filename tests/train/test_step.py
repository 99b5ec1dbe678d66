"""A step gives the same result on one device or eight, as one batch or micro-batches, packed or not."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aloe_jax.models import decoder, lora
from aloe_jax.models.lora import LoraSettings
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.parallel.sharding import row_sharding
from aloe_jax.train.adapters import with_adapters
from aloe_jax.train.forward import Compute, make_score
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.optimizer import OptimizerSettings, make_optimizer
from aloe_jax.train.state import create_state
from aloe_jax.train.step import make_gradient, make_step
from aloe_jax.tree.pack import empty_row, stack
from aloe_jax.tree.row import Capacity
from helpers.gradient_agreement import TOLERANCE, assert_agree
from helpers.tiny import MODEL, params, rows_of
from helpers.tree_samples import aloe_tree

CAPACITY = Capacity(tokens=256, targets=128, replies=8, pairs=8)
COMPUTE = Compute(chunk=64)
OPTIMIZER = OptimizerSettings(learning_rate=1e-3, warmup=0.0, schedule="constant", weight_decay=0.1)
SETTINGS = ObjectiveSettings(beta=0.5, ranking="preferences", margin=0.2, turn_weights=(1.0, 0.5), turn_buckets=0)


@pytest.fixture(scope="module")
def batch():
    """Eight rows of trees with reference log-probabilities of another model, as one micro-batch [1, 8, ...]."""
    rows = rows_of([aloe_tree(1 + number % 3, name=f"t{number}") for number in range(10)], CAPACITY)
    assert rows.tokens.shape[0] <= 8
    padding = stack([empty_row(CAPACITY)] * (9 - rows.tokens.shape[0]))
    rows = jax.tree.map(lambda leaf, pad: np.concatenate([leaf, pad])[:8], rows, padding)
    reference = np.asarray(make_score(MODEL, COMPUTE)(params(1), rows))
    return stack([dataclasses.replace(rows, reference=reference)])


@functools.cache
def compiled(objective, compute, mesh, model):
    return jax.jit(make_gradient(model, dataclasses.replace(SETTINGS, objective=objective), compute, mesh))


ADAPTED = with_adapters(MODEL, LoraSettings(maps=".*", rank=4, alpha=8.0, dropout=0.0))


@functools.cache
def adapters():
    """Random adapters, with B not 0, so that every part has a gradient."""
    made = jax.jit(lambda key: lora.split(decoder.init_params(ADAPTED, key))[0])(jax.random.key(2))
    return jax.tree.map(lambda leaf: leaf + 0.05, made)


def gradient(objective, batch, used=None, compute=COMPUTE, mesh=None, model=MODEL):
    run = compiled(objective, compute, mesh, model)
    if mesh is not None:
        batch = jax.device_put(batch, row_sharding(mesh, leading=1))
    trained, frozen = (adapters(), params()) if model.lora else (params(), {})
    sums, grads = run(trained, frozen, batch, jnp.asarray(used or batch.tokens.shape[0]))
    return {name: float(total / weight) for name, (total, weight) in sums.items()}, grads


def assert_equal(got, expected):
    """Metrics to 1e-5 of themselves, or of 1 where they cancel (margins); gradients as `assert_agree` says."""
    assert got[0] == pytest.approx(expected[0], rel=TOLERANCE, abs=TOLERANCE)
    assert_agree(got[1], expected[1])


def test_what_agrees():
    """A leaf with small entries counts as much as one with large entries, and a leaf without a gradient fails."""
    expected = {"large": np.array([1.0, 1e-9]), "small": np.array([2e-6, -1e-6])}
    assert_agree({"large": np.array([1.0, 0.0]), "small": expected["small"] * (1 + 5e-6)}, expected)
    for small in (np.zeros(2), expected["small"] * (1 + 2e-5), expected["small"][::-1]):
        with pytest.raises(AssertionError, match="small"):
            assert_agree(expected | {"small": small}, expected)
    with pytest.raises(AssertionError, match="small'\\] has no gradient"):
        assert_agree(expected, expected | {"small": np.zeros(2)})


@pytest.mark.parametrize("model", [MODEL, ADAPTED], ids=["full", "lora"])
@pytest.mark.parametrize("objective", ["sft", "dpo"])
@pytest.mark.parametrize(
    "shape", [(1, 4, 2), *(pytest.param(shape, marks=pytest.mark.slow) for shape in ((1, 8, 1), (1, 2, 4), (2, 2, 2)))]
)
def test_eight_devices_equal_one(objective, shape, model, batch):
    replica, fsdp, tensor = shape
    mesh = make_mesh(replica=replica, fsdp=fsdp, tensor=tensor)
    assert_equal(gradient(objective, batch, mesh=mesh, model=model), gradient(objective, batch, model=model))


def test_adapters_gradient_is_that_of_the_merged_weights(batch):
    """d loss / d B = alpha / rank * A^T d loss / d W for W + alpha / rank * A B, here of the map `down`."""
    merged = jax.jit(lora.merge, static_argnums=1)(lora.join(params(), adapters()), ADAPTED.lora)
    _, by_weight = compiled("sft", COMPUTE, None, MODEL)(merged, {}, batch, jnp.asarray(1))
    _, by_adapter = gradient("sft", batch, model=ADAPTED)
    assert set(by_adapter["layers"]) == set(adapters()["layers"])  # nothing of the base is differentiated
    a, weight = adapters()["layers"]["down_lora_a"], by_weight["layers"]["down"]
    expected = ADAPTED.lora.scale * jnp.einsum("lfr,lfd->lrd", a, weight)
    found = by_adapter["layers"]["down_lora_b"]
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("objective", ["apo_zero_unpaired", pytest.param("listwise", marks=pytest.mark.slow)])
def test_lists_and_labels_on_eight_devices(objective, batch):
    assert_equal(gradient(objective, batch, mesh=make_mesh(replica=2, fsdp=2, tensor=2)), gradient(objective, batch))


@pytest.mark.parametrize("objective", ["sft", "dpo", "listwise", "apo_zero_unpaired"])
def test_micro_batches_equal_one_batch(objective, batch):
    split = jax.tree.map(lambda leaf: leaf.reshape(4, 2, *leaf.shape[2:]), batch)
    assert_equal(gradient(objective, split), gradient(objective, batch))


def test_unused_micro_batches_do_not_count(batch):
    twice = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), batch)
    assert_equal(gradient("dpo", twice, used=1), gradient("dpo", batch))


@pytest.mark.parametrize("objective", ["sft", "dpo", "apo_zero_unpaired"])
def test_packed_equals_unpacked(objective):
    trees = [aloe_tree(2, name="first"), aloe_tree(1, name="second"), aloe_tree(2, system="Kind.", name="third")]
    together = stack([rows_of(trees, Capacity(512, 256, 16, 16))])
    alone = [rows_of([tree], CAPACITY) for tree in trees]
    alone = stack([jax.tree.map(lambda *leaves: np.concatenate(leaves), *alone)])
    assert together.tokens.shape[1] == 1
    assert alone.tokens.shape[1] == 3
    assert_equal(gradient(objective, together), gradient(objective, alone))


OTHERS = [Compute(attention="dense"), Compute(chunk=17), *(Compute(remat=name) for name in decoder.REMAT)]


@pytest.mark.parametrize("other", OTHERS)
def test_how_it_is_computed_does_not_matter(other, batch):
    assert_equal(gradient("dpo", batch, compute=other), gradient("dpo", batch))


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_bfloat16_is_near(objective, batch):
    """bf16 has 8 bits, so each rounding changes a state by up to 2^-8 of its size, a dozen times in each of two
    layers: 2^-8 sqrt(24) = 0.019, about as many nats per token. Of a DPO margin, beta 0.5 and two replies of 16
    tokens, that is 0.5 sqrt(32) 0.019 = 0.054, of the mean of 19 pairs 0.012. The backward pass rounds as often again,
    so a gradient is off by 2^-8 sqrt(48) = 0.027 of its norm. Four of these; parameters' gradients stay f32."""
    got, grads = gradient(objective, batch, compute=Compute(dtype="bfloat16", chunk=64))
    exact, expected = gradient(objective, batch)
    assert got["loss"] == pytest.approx(exact["loss"], abs=0.05)
    off = optax.tree.norm(jax.tree.map(jnp.subtract, grads, expected)) / optax.tree.norm(expected)
    assert 1e-4 < off < 4 * 2**-8 * 48**0.5
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {np.dtype("float32")}


@pytest.mark.slow
def test_steps_on_a_mesh_equal_steps_on_one_device(batch, one_device):
    """Three whole steps, optimiser included, sharded four ways by rows and parameters and two ways by heads."""
    final = []
    for mesh in (one_device, make_mesh(fsdp=4, tensor=2)):
        optimizer = make_optimizer(OPTIMIZER, 3)
        state = create_state(jax.tree.map(jnp.copy, params()), MODEL, optimizer, mesh)
        step = make_step(MODEL, SETTINGS, COMPUTE, optimizer, mesh)
        rows = jax.device_put(batch, row_sharding(mesh, leading=1))
        losses = []
        for _ in range(3):
            state, metrics = step(state, rows, jnp.asarray(1))
            losses.append(float(metrics["loss"]))
        final.append((losses, state.params))
    assert final[0][0] == pytest.approx(final[1][0], rel=1e-5, abs=1e-5)
    assert final[0][0][-1] < final[0][0][0]
    # Adam divides by the root of the second moment: entries with tiny gradients move by up to the learning rate.
    for left, right in zip(jax.tree.leaves(final[0][1]), jax.tree.leaves(final[1][1]), strict=True):
        np.testing.assert_allclose(left, right, atol=3 * OPTIMIZER.learning_rate * 0.05)


def test_parameters_are_really_sharded():
    mesh = make_mesh(fsdp=4, tensor=2)
    state = create_state(params(), MODEL, make_optimizer(OPTIMIZER, 1), mesh)
    for leaves in (state.params, state.opt_state[1][0].mu, state.opt_state[1][0].nu):
        query = leaves["layers"]["query"]
        assert query.addressable_shards[0].data.size == query.size // 8

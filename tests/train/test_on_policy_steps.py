"""Objectives of a policy's own replies on a model: rows, meshes, micro-batches, chains, and a training on stored trees.

All three are compiled as one objective, the sum of their sums, so that a program is checked for all of them.
"""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from aloe_jax import files
from aloe_jax.data.builder import IDS, FragmentSource, write_dataset
from aloe_jax.data.pipeline import Batches
from aloe_jax.data.plan import pack_plan
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.parallel.sharding import row_sharding
from aloe_jax.train.forward import make_score
from aloe_jax.train.loop import train
from aloe_jax.train.objectives import OBJECTIVES
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.policy_pass import make_policy_pass
from aloe_jax.train.reference import reference_log_probs
from aloe_jax.train.rounding import expected_first_loss
from aloe_jax.train.step import make_gradient
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.pack import best_fit, empty_row, pack, stack
from aloe_jax.tree.schema import Conversation, Node
from aloe_jax.tree.trie import build_trie
from helpers.gradient_agreement import TOLERANCE, assert_agree
from helpers.on_policy import ALL, ENTRY, SETTINGS, grown
from helpers.small_training import CAPACITY, COMPUTE, copied, records, training
from helpers.tiny import CHAT, MODEL, params

ROWS = 8


@pytest.fixture(scope="module", autouse=True)
def combined():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OBJECTIVES, ALL, ENTRY)
        yield


TREES = [grown("t0", (3, 1, 2), (0, 4)), grown("t1", (1, 0)), grown("t2", (2, 5)), grown("t3", (0, 1, 5))]
VARIANCES = [1, 8, 0.5, 4.5, 7]  # sample variances of the groups above


def part_of(number):
    (part,) = fragments(TREES[number], build_trie(TREES[number], CHAT), CAPACITY, number)
    return part


def batch_of(rows):
    """Rows as one micro-batch [1, ROWS, ...], empty ones last."""
    return stack([stack([*rows, *[empty_row(CAPACITY)] * (ROWS - len(rows))])])


POLICY = make_policy_pass(MODEL, COMPUTE)


def sampled(batch):
    """The batch with the old policy's log-probabilities: those of the model itself."""
    old = np.asarray(POLICY(params(), batch, 1))
    return batch.replace(old_log_prob=old, reference_log_prob=old)


def elsewhere(batch):
    """The batch as sampled by a policy nearby, with a hint for most of the replies; no ratio is at a border of the
    clip. The noise belongs to the tokens, wherever they lie."""
    inside = batch.reply < CAPACITY.replies
    reply = np.where(inside, batch.reply, 0)
    node = np.take_along_axis(batch.node, reply, axis=-1)
    noise = [np.where(inside, np.sin(batch.target * factor + node), 0) for factor in (1, 2, 3)]
    old = batch.old_log_prob + 0.5 * noise[0]
    told = inside & (node % 3 != 0)
    return batch.replace(
        old_log_prob=np.float32(old),
        reference_log_prob=np.float32(batch.old_log_prob + 0.5 * noise[1]),
        hinted_log_prob=np.where(told, old + 2 * noise[2], np.nan).astype(np.float32),
    )


@pytest.fixture(scope="module")
def batch():
    return sampled(batch_of([pack([part_of(number)], CAPACITY) for number in range(4)]))


@functools.cache
def compiled(mesh, settings):
    return jax.jit(make_gradient(MODEL, settings, COMPUTE, mesh))


def gradient(batch, mesh=None, settings=SETTINGS):
    if mesh is not None:
        batch = jax.device_put(batch, row_sharding(mesh, leading=1))
    sums, grads = compiled(mesh, settings)(params(), {}, batch, jnp.asarray(batch.tokens.shape[0]))
    return {name: (float(total), float(weight)) for name, (total, weight) in sums.items()}, grads


def assert_equal(got, expected):
    """Loss and metrics to `TOLERANCE`, gradients to twice that: a token's gradient is multiplied by a function of
    log-probabilities (a ratio, a distance), which agree to `TOLERANCE` themselves."""
    assert got[0].keys() == expected[0].keys()
    for name, pair in expected[0].items():
        assert got[0][name] == pytest.approx(pair, rel=TOLERANCE, abs=TOLERANCE * max(1.0, pair[1])), name
    assert_agree(got[1], expected[1], 2 * TOLERANCE)


def test_at_the_first_update(batch):
    """Ratios are 1 and the divergence 0; the regression's loss is the mean variance of the values, turn weights 1 and
    0.5 included; the policy gradient's is minus the advantages by length, over 16 x the weights."""
    found, _ = gradient(batch)
    assert found["policy_gradient ratio_max"] == (pytest.approx(1.0, abs=1e-4), 1.0)
    total, weight = found["policy_gradient ratio"]
    assert total / weight == pytest.approx(1.0, abs=1e-5)
    assert found["policy_gradient clipped"][0] == 0.0
    assert found["policy_gradient reference_kl"][0] == pytest.approx(0.0, abs=1e-6)
    assert found["policy_gradient groups_without_spread"] == (0.0, 5.0)
    scale = np.array([1, 0.5, 1, 1, 1])
    expected = (VARIANCES @ scale, scale.sum())
    assert found["tree_regression loss"] == pytest.approx(expected, rel=1e-4)
    turn = np.where(batch.turn == 2, 0.5, 1.0) * (batch.length > 0)
    gain = np.nansum(turn * batch.length * batch.advantage)
    assert found["policy_gradient loss"] == (pytest.approx(-gain, abs=1e-2), 16 * turn.sum())


def test_packed_equals_unpacked(batch):
    parts = [part_of(number) for number in range(4)]
    plan = best_fit(np.array([part.sizes for part in parts]), CAPACITY)
    assert len(plan) < 4
    together = sampled(batch_of([pack([parts[index] for index in row], CAPACITY) for row in plan]))
    assert_equal(gradient(elsewhere(together)), gradient(elsewhere(batch)))


def test_micro_batches_equal_one_batch(batch):
    moved = elsewhere(batch)
    split = jax.tree.map(lambda leaf: leaf.reshape(4, 2, *leaf.shape[2:]), moved)
    assert_equal(gradient(split), gradient(moved))


@pytest.mark.parametrize(
    "shape", [(2, 2, 2), *(pytest.param(shape, marks=pytest.mark.slow) for shape in ((1, 8, 1), (1, 2, 4)))]
)
def test_eight_devices_equal_one(shape, batch):
    """The pass over the old policy's rows too."""
    replica, fsdp, tensor = shape
    mesh = make_mesh(replica=replica, fsdp=fsdp, tensor=tensor)
    assert_equal(gradient(elsewhere(batch), mesh), gradient(elsewhere(batch)))
    rows = jax.device_put(batch, row_sharding(mesh, leading=1))
    found = make_policy_pass(MODEL, COMPUTE, mesh)(params(), rows, 1)
    assert found.sharding.spec == row_sharding(mesh, leading=1).spec
    np.testing.assert_allclose(found, batch.old_log_prob, atol=1e-5)


def chain(number, replies):
    """A conversation without branches."""
    nodes, parent = [], None
    for turn, (text, advantage) in enumerate(replies, 1):
        nodes.append(Node(id=f"u{turn}", parent=parent, role="user", text=f"Question {turn}?"))
        reply = {"id": f"a{turn}", "parent": f"u{turn}", "role": "assistant", "text": text, "advantage": advantage}
        nodes.append(Node(**reply))
        parent = f"a{turn}"
    return Conversation(id=f"chain{number}", nodes=tuple(nodes))


def test_a_tree_is_its_chains():
    """Chain GRPO on the leaves x (advantage 3), y (-1) and z (4), paths r x, r s y, r s z: r has the mean 2 over 3 of
    3 leaves, s the mean 1.5 over 2 of 3, a leaf its own over 1 of 3. Both are sums over tokens times the leaves'
    number, at ratio 1 and without bounds; the tree has 5 replies of weight, the chains 8."""
    rows = [chain(0, [("Root.", 3.0), ("Leaf x.", 3.0)]),
            chain(1, [("Root.", -1.0), ("Then s.", -1.0), ("Leaf y.", -1.0)]),
            chain(2, [("Root.", 4.0), ("Then s.", 4.0), ("Leaf z.", 4.0)])]  # fmt: skip
    tree = chain(3, [("Root.", 2.0 * 3), ("Then s.", 1.5 * 2), ("Leaf y.", -1.0)])
    more = [{"id": "x", "parent": "u2", "text": "Leaf x.", "advantage": 3.0},
            {"id": "z", "parent": "u3", "text": "Leaf z.", "advantage": 4.0}]  # fmt: skip
    tree = tree.model_copy(update={"nodes": (*tree.nodes, *(Node(role="assistant", **node) for node in more))})
    settings = ObjectiveSettings("policy_gradient", kl_weight=0.0, tokens_per_reply=1, turn_buckets=0)
    results = []
    for trees in (rows, [tree]):
        parts = [fragments(one, build_trie(one, CHAT), CAPACITY, number)[0] for number, one in enumerate(trees)]
        found, grads = gradient(sampled(batch_of([pack([part], CAPACITY) for part in parts])), settings=settings)
        results.append((found["loss"], jax.tree.map(lambda leaf, weight=found["loss"][1]: leaf * weight, grads)))
    assert [loss[1] for loss, _ in results] == [8.0, 5.0]
    assert results[1][0][0] == pytest.approx(results[0][0][0], rel=1e-4)
    assert_agree(results[1][1], results[0][1])


@pytest.fixture(scope="module")
def stored(tmp_path_factory, one_device):
    """A data set of the trees, and its batches for the objective, with the start model's log-probabilities."""
    folder = tmp_path_factory.mktemp("stored")
    write_dataset([part_of(number) for number in range(4)], folder)
    files.write_lines(folder / IDS, (json.dumps({"id": tree.id, "source": "trees"}) for tree in TREES))
    source = FragmentSource(folder, OBJECTIVES["tree_regression"].chooses)
    plan = pack_plan(source.sizes, source.conversation, CAPACITY, batch=2, unit="conversations", seed=0, epochs=1)
    batches = Batches(source, plan, CAPACITY, 1)
    score = make_score(MODEL, COMPUTE, by_token=True)

    def reference():
        key = {"model": "tiny", "by": "token"}
        return reference_log_probs(params(), score, batches, one_device, epath.Path(folder), key, by_token=True)

    found, again = reference(), reference()
    assert all((again[key] == value).all() for key, value in found.items())  # as read from the file
    return dataclasses.replace(batches, reference=again)


def test_a_training_on_stored_trees(stored, one_device, tmp_path):
    """The old policy and reference are the start model; the loop checks the first loss, which is the variance of the
    first batch's values, and the replies that are worth more gain on their siblings."""
    changes = {"objective": "tree_regression", "eta": 0.1, "beta": 0.9, "learning_rate": 3e-3}
    given = training(stored, stored.reference, one_device, tmp_path, **changes)
    row = stack([stored.row(0, number) for number in range(len(stored.plan.steps[0]))])
    groups = {(owner, turn) for owner, turn in zip(row.conversation.flat, row.turn.flat, strict=True) if owner >= 0}
    values = {pair: row.value[(row.conversation == pair[0]) & (row.turn == pair[1])] for pair in groups}
    first = np.mean([np.var(found, ddof=1) for found in values.values()])
    assert expected_first_loss(given.settings, stored) == pytest.approx(first, rel=1e-5)
    feed = dataclasses.replace(given.feed, first_loss=float(first))
    train(dataclasses.replace(given, feed=feed), copied)
    lines = records(tmp_path)
    assert lines[0]["loss"] == pytest.approx(first, rel=1e-4)
    assert lines[0]["ratio_max"] == pytest.approx(1.0, abs=1e-4)
    assert lines[-1]["ratio_max"] > 1.001

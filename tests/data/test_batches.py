"""The dataset on disk and the batches that are read from it."""

import jax
import numpy as np
import pytest

from aloe_jax.data import tfds_builder
from aloe_jax.data.builder import FragmentSource, write_dataset
from aloe_jax.data.pipeline import Batches, micro_batch_rows, owned_rows, to_device
from aloe_jax.data.plan import pack_plan
from aloe_jax.errors import InputError
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.prune import advantaged
from aloe_jax.tree.row import COLUMNS, Capacity
from aloe_jax.tree.trie import build_trie
from helpers.tiny import CHAT
from helpers.tree_samples import aloe_tree

CAPACITY = Capacity(tokens=512, targets=256, replies=16, pairs=16)


@pytest.fixture(scope="module")
def parts():
    trees = [aloe_tree(1 + number % 3, name=f"t{number}") for number in range(9)]
    return [
        part for number, tree in enumerate(trees) for part in fragments(tree, build_trie(tree, CHAT), CAPACITY, number)
    ]


@pytest.fixture(scope="module")
def source(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    assert write_dataset(parts, folder) == len(parts)
    return FragmentSource(folder)


def batches(source, rows=2, **changes):
    settings = {"batch": 4, "unit": "conversations", "seed": 3, "epochs": 2} | changes
    plan = pack_plan(source.sizes, source.conversation, CAPACITY, **settings)
    return Batches(source, plan, CAPACITY, rows)


def test_dataset_gives_back_what_was_written(parts, source):
    assert len(source) == len(parts)
    for number, part in enumerate(parts):
        stored = source[number]
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(stored, name), getattr(part, name), err_msg=name)
            assert getattr(stored, name).dtype == getattr(part, name).dtype
        assert tuple(source.sizes[number]) == part.sizes


def test_a_dataset_from_before_there_were_advantages(parts, tmp_path, monkeypatch):
    """It was written with fewer columns: the others are padding."""
    before = {name: column for name, column in COLUMNS.items() if name != "advantage"}
    with monkeypatch.context() as patch:
        patch.setattr(tfds_builder, "COLUMNS", before)
        write_dataset(parts, tmp_path)
    assert '"advantage"' not in next(tmp_path.rglob("features.json")).read_text()
    for number, part in enumerate(parts):
        stored = FragmentSource(tmp_path)[number]
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(stored, name), getattr(part, name), err_msg=name)
    assert not FragmentSource(tmp_path, advantaged).sizes.any()


def test_log_probabilities_of_single_tokens(parts, source):
    """They fill the columns of the old policy and of the reference, in the order of the targets, and add up."""
    tokens = {
        (int(owner), int(node)): np.linspace(-1, -2, int(length), dtype=np.float32) - int(node)
        for part in parts
        for owner, node, length in zip(part.conversation, part.node, part.length, strict=True)
    }
    given = Batches(source, batches(source).plan, CAPACITY, 2, tokens)
    row = given.row(0, 0)
    for reply in np.flatnonzero(row.length):
        expected = tokens[int(row.conversation[reply]), int(row.node[reply])]
        for column in (row.old_log_prob, row.reference_log_prob):
            np.testing.assert_array_equal(column[row.reply == reply], expected)
        assert row.reference[reply] == pytest.approx(expected.sum(), rel=1e-6)
    assert not row.old_log_prob[row.reply == CAPACITY.replies].any()


def test_no_dataset_and_empty_dataset(tmp_path):
    with pytest.raises(InputError, match="holds no complete dataset"):
        FragmentSource(tmp_path / "nothing")
    with pytest.raises(InputError, match="there is no fragment to write"):
        write_dataset([], tmp_path / "empty")


def test_iterator_state_is_the_step(source):
    given = batches(source)
    whole = list(given.iterator((0, 1)))
    assert len(whole) == len(given) > 2
    iterator = given.iterator((0, 1))
    next(iterator)
    state = iterator.get_state()
    assert state == {"next_index": 1}
    resumed = given.iterator((0, 1))
    resumed.set_state(state)
    for expected in whole[1:]:
        jax.tree.map(np.testing.assert_array_equal, next(resumed), expected)


def test_rows_do_not_depend_on_how_they_are_split(source):
    """The rows of two hosts together are those of one host; the mesh does not change the plan."""
    given = batches(source, rows=4)
    halves = [given.local(0, (0, 3)), given.local(0, (1, 2))]
    joined = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1)[:, [0, 2, 3, 1]], *halves)
    jax.tree.map(np.testing.assert_array_equal, joined, given.local(0, range(4)))
    assert given.plan == batches(source, rows=8).plan


def test_micro_batches_hold_every_row_once(source):
    given = batches(source, rows=1, batch=9)
    assert given.micro_batches == given.plan.most_rows > 1
    local = given.local(0, (0,))
    assert local.tokens.shape == (given.micro_batches, 1, CAPACITY.tokens)
    seen = sorted(np.unique(local.conversation[local.conversation >= 0]).tolist())
    assert seen == list(range(9))
    real = int(sum(source.sizes[:, 0]))
    assert given.tokens(0) == real


def test_reference_is_filled_in(source):
    given = batches(source)
    keys = {
        key
        for number in range(len(source))
        for key in zip(source[number].conversation.tolist(), source[number].node.tolist(), strict=True)
    }
    reference = {key: -float(sum(key)) for key in keys}
    local = Batches(source, given.plan, CAPACITY, 2, reference).local(0, (0, 1))
    real = local.conversation >= 0
    np.testing.assert_array_equal(local.reference[real], -(local.conversation + local.node)[real].astype(np.float32))


def test_devices_get_the_rows_they_own(source):
    mesh = make_mesh(fsdp=4, tensor=2)
    rows = micro_batch_rows(3, mesh)
    assert rows == 4
    assert owned_rows(rows, mesh) == (0, 1, 2, 3)
    given = batches(source, rows=rows)
    local = given.local(0, range(4))
    placed = to_device(local, rows, mesh)
    np.testing.assert_array_equal(placed.tokens, local.tokens)
    assert placed.tokens.addressable_shards[0].data.shape == (local.tokens.shape[0], 1, CAPACITY.tokens)

"""What a step is fed: pairs that attention computes, and the layout with one sequence per reply."""

import numpy as np
import pytest

from aloe_jax.data.builder import write_dataset
from aloe_jax.plan import workload
from aloe_jax.plan.workload import batch_of, fitting_batch, measured, running_pairs, synthetic
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.pack import stack
from aloe_jax.tree.prune import compared, weighted
from aloe_jax.tree.row import Capacity, allowed
from aloe_jax.tree.trie import build_trie
from helpers.tiny import CHAT
from helpers.tree_samples import aloe_tree, conversation

CAPACITY = Capacity(512, 400, 32, 16)


def test_blocks_that_run():
    """Of a row of 8 tokens in blocks of 2: a conversation of 4, another of 2, padding. The first one's second block of
    queries sees both of its blocks, every other only itself: 5 blocks of 4 pairs."""
    row = synthetic(1, 2, CAPACITY).rows
    ends = np.array([[4, 4, 4, 4, 6, 6, 7, 8]])
    assert running_pairs(row.replace(tokens=ends, subtree_end=ends), 2) == 5 * 4
    assert running_pairs(row.replace(tokens=ends, subtree_end=ends), None) == 64


def test_pairs_and_paths_are_those_of_the_trees(tmp_path):
    """Against the mask itself, and the paths that the trie counts."""
    trees = [aloe_tree(turns=turns) for turns in (2, 3)]
    tries = [build_trie(tree, CHAT) for tree in trees]
    parts = [part for index, tree in enumerate(trees) for part in fragments(tree, tries[index], CAPACITY, index)]
    assert len(parts) == 2
    write_dataset(parts, tmp_path)
    load = measured(tmp_path, CAPACITY, compared)
    assert load.conversations == 2
    assert load.pairs * 2 == sum(int(allowed(part.positions, part.subtree_end).sum()) for part in parts)
    assert load.unshared_tokens * 2 == sum(trie.path_tokens for trie in tries)
    assert load.mean(0) * 2 == sum(trie.tree_tokens for trie in tries)
    assert (stack(parts[:1]).tokens > 0).any()


def test_synthetic_conversations_have_the_stated_size():
    """Ten turns of 50 and 2 x 45 tokens; uniform spreads have mean 1, so the mean of 512 lies within 3 deviations: a
    conversation's is 0.5 / sqrt(3), 29 % (messages' own add little), over sqrt(512) 1.3 %."""
    load = synthetic(10, 2, Capacity(8192, 6144, 256, 128))
    assert load.mean(0) == pytest.approx(workload.TREE_TOKENS, rel=3 * 0.013)
    assert (load.mean(2), load.mean(3)) == (20, 10)
    assert 6 < load.unshared_tokens / load.mean(0) < 9


def test_the_largest_batch_that_fits_fits():
    capacity = Capacity(8192, 6144, 256, 128)
    load = synthetic(10, 2, capacity)
    found = fitting_batch(load, capacity, 16, "pairs")
    assert found.rows <= 16
    assert batch_of(load, capacity, round(found.batch * 1.1), "pairs").rows > 16
    assert found.real_tokens > 0.93 * 16 * 8192


def test_an_epoch_is_that_of_the_config():
    """3,310 conversations of 10 pairs by 910 pairs: 37 steps, however few conversations were made to be repeated."""
    capacity = Capacity(8192, 6144, 256, 128)
    found = batch_of(synthetic(10, 2, capacity, epoch=3310), capacity, 910, "pairs")
    assert found.conversations == pytest.approx(3310 / 37)
    assert found.rows == 16


def test_a_measured_epoch_mixes_the_sources_as_the_config_says(tmp_path):
    """Three trees, and of five chats 2 x 3 / 1.5 = 4; chats have no pairs and no part in preference training."""
    trees = [aloe_tree(turns=2, name=f"t{number}") for number in range(3)]
    chats = [path(number) for number in range(5)]
    parts = [
        (int(number >= 3), part)
        for number, tree in enumerate([*trees, *chats])
        for part in fragments(tree, build_trie(tree, CHAT), CAPACITY, number)
    ]
    write_dataset(parts, tmp_path, ("trees", "chat"))
    weights = {"trees": 1.5, "chat": 2.0}
    assert measured(tmp_path, CAPACITY, weighted, weights).conversations == 3 + 4
    assert measured(tmp_path, CAPACITY, compared, weights).conversations == 3


def path(number):
    """A chat of one turn."""
    return conversation(
        ("u", None, "user", f"Question {number}?"), ("a", "u", "assistant", "Yes."), name=f"chat{number}"
    )

"""What is left of a fragment for an objective: every kept reply sees what it saw, and nothing else is computed."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.prune import compared, pruned, ranked, weighted
from aloe_jax.tree.row import COLUMNS, Capacity, allowed
from aloe_jax.tree.trie import build_trie
from helpers.tiny import CHAT
from helpers.tree_samples import aloe_tree, trees

ROOM = Capacity(tokens=4_000, targets=2_000, replies=100, pairs=100)


def parts_of(tree):
    return fragments(tree, build_trie(tree, CHAT), ROOM, 0)


def seen(part):
    """By node: what each of its targets is predicted from, (token, position) of all that its state attends to."""
    mask, found = allowed(part.positions, part.subtree_end), {}
    for source, target, reply in zip(part.source, part.target, part.reply, strict=True):
        path = np.flatnonzero(mask[source])
        read = part.tokens[path].tolist(), part.positions[path].tolist()
        found.setdefault(int(part.node[reply]), []).append((int(target), *read))
    return found


@given(trees(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_kept_replies_see_what_they_saw(tree, seed):
    for part in parts_of(tree):
        keep = np.random.default_rng(seed).random(part.length.size) < 0.4
        less = pruned(part, keep)
        nodes = set(part.node[keep].tolist())
        before = seen(part)
        assert seen(less) == {node: targets for node, targets in before.items() if node in nodes}
        for name in ("node", "length", "turn", "label", "conversation"):
            np.testing.assert_array_equal(getattr(less, name), getattr(part, name)[keep], err_msg=name)
        siblings = [part.group[keep][:, None] == part.group[keep], less.group[:, None] == less.group]
        np.testing.assert_array_equal(*siblings)
        kept_pairs = [(part.node[a], part.node[b]) for a, b in part.pairs if keep[a] and keep[b]]
        assert [(less.node[a], less.node[b]) for a, b in less.pairs] == kept_pairs
        for name, column in COLUMNS.items():
            assert getattr(less, name).dtype == column.dtype, name


@given(trees())
@settings(max_examples=30, deadline=None)
def test_every_token_that_stays_is_read(tree):
    for part in parts_of(tree):
        less = pruned(part, weighted(part))
        read = allowed(less.positions, less.subtree_end)[less.source].any(axis=0)
        assert part.length.size == less.length.size or read.all()


def test_what_objectives_choose():
    """Two replies a turn, the first preferred: SFT reads one of them, which the conversation goes on from in odd
    turns alone."""
    (part,) = parts_of(aloe_tree(4))
    assert weighted(part).tolist() == [True, False] * 4
    assert compared(part).all()
    assert ranked(part).all()
    sft = pruned(part, weighted(part))
    assert pruned(part, compared(part)) is part
    assert (sft.length.size, len(sft.pairs)) == (4, 0)
    # The poor replies of turns 1 and 3 are gone, and the last token of the good ones of turns 2 and 4.
    gone = sum(int(part.length[number]) for number in (1, 5)) + int(part.length[7])
    assert part.tokens.size - sft.tokens.size >= gone


def test_nothing_to_train_on():
    (part,) = parts_of(aloe_tree(2))
    less = pruned(part, np.zeros(part.length.size, bool))
    assert less.sizes == (0, 0, 0, 0)

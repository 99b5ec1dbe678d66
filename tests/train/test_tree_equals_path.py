"""The core property: every reply of a packed tree has the same log-probability and gradient as its path alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aloe_jax.train.forward import Compute, gather_replies, make_score, reply_log_probs
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.pack import pack, stack
from aloe_jax.tree.probe import answer_text, probe_answer, probe_question
from aloe_jax.tree.prune import pruned, weighted
from aloe_jax.tree.row import Capacity
from aloe_jax.tree.trie import build_trie
from helpers.tiny import CHAT, MODEL, params, path_log_prob, rows_of
from helpers.tree_samples import aloe_tree, trees

CAPACITY = Capacity(tokens=1024, targets=512, replies=64, pairs=64)
# f32 rounding of a sum of up to 60 log-probabilities of magnitude 10: 60 * 10 * 2^-24 * a few operations < 1e-4.
TOLERANCE = 1e-4
SCORES = {name: make_score(MODEL, Compute(attention=name, chunk=64)) for name in ("blocked", "dense")}


def spans(forest):
    """(conversation, node) -> (path ids, reply length) from the tries."""
    found = {}
    for number, tree in enumerate(forest):
        trie = build_trie(tree, CHAT)
        for reply in trie.replies:
            found[number, reply.node] = trie.path_ids(reply.piece), len(trie.pieces[reply.piece].tokens)
    return found


def by_node(rows, values):
    keys = zip(np.asarray(rows.conversation).ravel().tolist(), np.asarray(rows.node).ravel().tolist(), strict=True)
    return {key: value for key, value in zip(keys, np.asarray(values).ravel().tolist(), strict=True) if key[0] >= 0}


@pytest.mark.parametrize("attention", ["blocked", "dense"])
@given(forest=st.lists(trees(max_turns=6), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_log_probs(attention, forest):
    expected = spans(forest)
    if not expected:
        return
    rows = rows_of(forest, CAPACITY)
    got = {}
    for index in range(rows.tokens.shape[0]):  # one compiled shape
        row = jax.tree.map(lambda leaf, index=index: leaf[index : index + 1], rows)
        got |= by_node(row, SCORES[attention](params(), row))
    assert got.keys() == expected.keys()
    for key, (path, length) in expected.items():
        assert got[key] == pytest.approx(float(path_log_prob(params(), path, length)), abs=TOLERANCE), key


def test_replies_that_an_objective_chooses():
    """Without the others they have the log-probabilities that they had."""
    tree = aloe_tree(5, system="Be kind.")
    (part,) = fragments(tree, build_trie(tree, CHAT), CAPACITY, 0)
    whole, less = (stack([pack([each], CAPACITY)]) for each in (part, pruned(part, weighted(part))))
    expected, got = (by_node(row, SCORES["dense"](params(), row)) for row in (whole, less))
    assert 0 < len(got) < len(expected)
    for key, value in got.items():
        assert value == pytest.approx(expected[key], abs=TOLERANCE), key


def test_answers_of_probes():
    """Beside the path and beside each other, and what goes on does not see them."""
    tree = aloe_tree(2, system="Be kind.")
    probes = [probe_question("good1"), probe_answer("good1", '{"known":[{"item":"walks","turn":1}]}')]
    probes += [probe_question("poor2"), *(probe_answer("poor2", answer_text(()) * n, n) for n in (1, 2))]
    tree = tree.model_copy(update={"nodes": (*tree.nodes, *probes)})
    rows, expected = rows_of([tree], CAPACITY), spans([tree])
    got = by_node(rows, SCORES["blocked"](params(), rows))
    assert len(got) == len(expected) == 7
    for key, (path, length) in expected.items():
        assert got[key] == pytest.approx(float(path_log_prob(params(), path, length)), abs=TOLERANCE), key


@pytest.mark.parametrize("attention", ["blocked", "dense"])
def test_gradients(attention):
    """The gradient of a weighted sum over replies, from the packed row and from separate paths."""
    forest = [aloe_tree(4, name="first"), aloe_tree(2, system="Be kind.", name="second")]
    rows = rows_of(forest, CAPACITY)
    coefficient = {key: 0.5 + index % 3 for index, key in enumerate(sorted(spans(forest)))}
    weights = np.vectorize(lambda c, n: coefficient.get((c, n), 0.0))(rows.conversation, rows.node)

    def tree(values):
        log_probs = reply_log_probs(values, MODEL, rows, Compute(attention=attention, chunk=64))
        return jnp.sum(gather_replies(log_probs, rows)[0].log_prob * weights)

    def paths(values):
        return sum(coefficient[key] * path_log_prob(values, *span) for key, span in spans(forest).items())

    got, expected = jax.jit(jax.grad(tree))(params()), jax.grad(paths)(params())
    for (path, left), right in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        scale = float(jnp.max(jnp.abs(right)))
        assert float(jnp.max(jnp.abs(left - right))) <= TOLERANCE * max(scale, 1.0), path

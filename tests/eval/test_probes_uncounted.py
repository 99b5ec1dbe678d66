"""A tree with probes looks like the same tree without them wherever messages, replies or turns are counted or shown."""

import pytest

from aloe_jax.formats.outline import tree_lines
from aloe_jax.formats.report import tree_count
from aloe_jax.inspect.conversation import UNLIMITED
from aloe_jax.inspect.statistics import StatisticsOf
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.probe import Claim, answer_text, probe_answer, probe_question
from aloe_jax.tree.schema import write_records
from aloe_jax.tree.trie import build_trie
from data_gen.game.counts import tree_counts
from data_gen.publish.publish import Diversity
from eval.benchmark.dialogues import replies_of
from eval.report.dialogues import dialogue
from eval.report.findings import said
from eval.report.inspect_log import _messages
from eval.report.reading import summarise
from eval.viewer.index import TreeIndex
from helpers.tree_samples import aloe_tree, chat_format

PLAIN = aloe_tree(3).model_copy(update={"path": ("user1", "good1", "user2", "poor2", "user3", "good3")})
ANSWERS = [
    (reply, [probe_question(reply), *(probe_answer(reply, answer_text([Claim("walks", 1)]), n) for n in (1, 2))])
    for reply in ("good1", "poor2", "good3")
]
NODES = [(*(node for reply, more in ANSWERS if reply == at.id for node in (at, *more)),) or (at,) for at in PLAIN.nodes]
PROBED = PLAIN.model_copy(update={"nodes": tuple(node for nodes in NODES for node in nodes)})


def statistics(tree):
    found, trie = StatisticsOf(10_000), build_trie(tree, chat_format("chatml"))
    found.add(tree, trie, fragments(tree, trie, UNLIMITED, 0))
    counts = found.read()
    names = ("turns of a conversation", "replies to a message", "tokens of a reply", "margin of a pair")
    return counts.replies, counts.pairs, [each for each in counts.distributions if each.name in names]


def diversity(tree):
    found = Diversity()
    list(found.seen([tree]))
    return vars(found)


def viewed(tree, folder):
    (folder / "conversations").mkdir(parents=True)
    write_records(folder / "conversations/trees.jsonl", [tree])
    return TreeIndex(folder).part().trees, tree_counts(folder / "conversations/trees.jsonl")


def test_the_sample():
    assert len(PROBED.nodes) == len(PLAIN.nodes) + 9
    assert PROBED.nodes.index(PROBED.node("good1/belief")) < PROBED.nodes.index(PROBED.node("user2"))


@pytest.mark.parametrize(
    "shown",
    [
        statistics,
        diversity,
        dialogue,
        said,
        replies_of,
        lambda tree: list(_messages(tree, "model")),
        lambda tree: tree_count([tree]),
        lambda tree: next(iter(tree_lines(tree))),
        lambda tree: vars(summarise(iter([tree]), 0)),
    ],
)
def test_it_looks_the_same(shown):
    assert shown(PROBED) == shown(PLAIN)


def test_so_it_does_in_the_viewer_and_the_manifest(tmp_path):
    assert viewed(PROBED, tmp_path / "probed") == viewed(PLAIN, tmp_path / "plain")

"""General ability: likelihoods by hand and against a plain forward pass, and where they are shown."""

import math

import numpy as np
import pytest

from aloe_jax import files
from aloe_jax.train.forward import Compute
from aloe_jax.train.score import score_trees
from aloe_jax.tree.trie import build_trie
from data_gen.world.facts import by_id, named
from eval.benchmark.general import PlainDialogue, general, general_difference
from eval.benchmark.plain_chat import DIALOGUES, plain_dialogues
from eval.report.names import Style
from eval.report.parts import Shown, general_grid
from eval.report.reading import ModelResult
from helpers import tiny


def of(*pairs, texts="t"):
    """The figures of dialogues with (nats, tokens)."""
    return general(
        [PlainDialogue(id=f"d{k}", nats=nats, tokens=tokens) for k, (nats, tokens) in enumerate(pairs)], texts
    )


def test_by_hand():
    """(2 + 6) nats / (2 + 2) tokens = 2; influences 2 (2 - 4) / 4 = -1 and 1, their variance over 2 dialogues
    2 / 2 = 1: the interval is 2 +- 12.706 (t, one degree of freedom)."""
    found = of((2.0, 2), (6.0, 2))
    assert (found.nats_per_token, found.perplexity) == (2.0, pytest.approx(math.e**2))
    assert found.interval == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-3)


def test_a_paired_difference_does_not_see_how_hard_the_dialogues_are():
    """Half a nat more per token throughout: a difference of 0.5 without spread, whatever the dialogues."""
    base = of((2.0, 2), (9.0, 3), (4.0, 8))
    worse = of((3.0, 2), (10.5, 3), (8.0, 8))
    made = general_difference(worse, base)
    assert made.value == pytest.approx(0.5)
    assert made.interval() == pytest.approx((0.5, 0.5))
    assert general_difference(of((2.0, 2), (9.0, 4), (4.0, 8)), base) is None  # another tokenizer
    assert general_difference(of((2.0, 2), (9.0, 3), (4.0, 8), texts="other"), base) is None


def test_the_likelihoods_are_those_of_a_plain_forward_pass():
    trees = plain_dialogues()[:3]
    tries = [build_trie(tree, tiny.CHAT) for tree in trees]
    scores = score_trees(tiny.params(), tiny.MODEL, trees, tries, Compute(dtype="float32"))
    for score in scores:
        number = [tree.id for tree in trees].index(score.conversation)
        node = [each.id for each in trees[number].nodes].index(score.node)
        [span] = [each for each in tries[number].replies if each.node == node]
        path = tries[number].path_ids(span.piece)
        assert -score.log_prob == pytest.approx(-float(tiny.path_log_prob(tiny.params(), path, score.tokens)), abs=2e-3)


def test_the_dialogues_are_plain():
    """Twenty of two turns, all different, and none names a fact of the scripted world by its special words."""
    assert len(set(DIALOGUES)) == 20
    facts = list(by_id().values())
    recited = [len(named(facts, reply)) for _, first, _, second in DIALOGUES for reply in (first, second)]
    assert np.mean(recited) < 1


def test_the_table_has_the_difference_to_the_baseline():
    base, worse = of((2.0, 2), (6.0, 2)), of((3.0, 2), (7.0, 2))
    shown = {
        name: Shown(name, Style(name, "circle"), ModelResult(general=found))
        for name, found in (("base", base), ("sft", worse), ("far", None))
    }
    grid = general_grid(shown, "base")
    assert [text for text, _ in grid.heads] == ["base", "sft"]
    assert [[cell.value for cell in row.cells] for row in grid.rows] == [
        ["7.39", "12.18"],
        ["2.000", "2.500"],
        ["–", "+0.500"],
    ]
    assert grid.rows[2].cells[1].remarks == ("[+0.500, +0.500]",)
    assert general_grid({"far": shown["far"]}, "base") is None
    assert files.json_line(base.model_dump(mode="json"))

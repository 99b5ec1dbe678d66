"""The report's parts: charts, numbers as text, trees as turns, and the sentences that depend on the result."""

import itertools
import re

import numpy as np
import pytest

from aloe_jax.run.manifest import Manifest
from aloe_jax.tree.schema import Conversation, Node, Score
from eval.benchmark.figures import Figures
from eval.benchmark.metrics import metrics
from eval.benchmark.scores import ScoreRecord
from eval.report.charts import Guide, Series, line_chart, nice_ticks, number, spread_labels, tick_labels
from eval.report.dialogues import all_cases, dialogue, overall, side_by_side
from eval.report.findings import contrasts_of
from eval.report.page import pairs, thinned, whole_ticks
from eval.report.parts import level_ticks
from eval.report.reading import ModelResult, RunRecord, summarise
from eval.report.tables import FIGURES, bracket, count, decimal, duration, leaves, verdict
from eval.report.wording import interval_caveat, model_name, parameters, result_sentence, sizing
from helpers.synthetic_run import training_tree


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (1.3, 2.9, [1.0, 1.5, 2.0, 2.5, 3.0]),
        (0.0, 70.27, [0, 20, 40, 60, 80]),
        (-0.3, 0.21, [-0.4, -0.2, 0.0, 0.2, 0.4]),
        (3.0, 3.0, [2.4, 2.6, 2.8, 3.0, 3.2, 3.4, 3.6]),
    ],
)
def test_ticks_are_round_and_hold_the_range(low, high, ticks):
    found = nice_ticks(low, high)
    assert found[0] <= low <= high <= found[-1]
    assert len(found) <= 6
    steps = {round(b - a, 9) for a, b in itertools.pairwise(found)}
    assert len(steps) == 1
    if low != high:
        assert found == pytest.approx(ticks)


def test_labels_move_apart_and_stay_inside():
    placed = spread_labels([50, 52, 10], gap=17, low=0, high=100)
    assert placed == [50, 67, 10]
    crowded = spread_labels([98, 99, 100], gap=17, low=0, high=100)
    assert crowded == [66, 83, 100]


def test_chart_places_points_and_cuts_at_missing_ones():
    """The plot is 400 - 42 px high from 12 to 356; score 3 of 1..5 lies in its middle, (12 + 356) / 2 = 184."""
    one = Series("only", "base", [1, 2, 3, 4], [3.0, 5.0, None, 1.0], [(2.0, 4.0), (5.0, 5.0), None, None])
    svg = line_chart([one], "a <title>", "turn", (500, 400), [1, 2, 3, 4, 5], [1, 2, 3, 4])
    lines = re.findall(r'<polyline class="line base" points="([^"]*)"', svg)
    assert [len(points.split()) for points in lines] == [2, 1]
    heights = [float(point.split(",")[1]) for points in lines for point in points.split()]
    assert heights == [184.0, 12.0, 356.0]
    assert svg.count("<polygon") == 1
    assert "only, 1: 3.00 [2.00, 4.00]" in svg
    assert 'aria-label="a &lt;title&gt;"' in svg


def test_guide_line_is_drawn_only_inside_the_axis():
    one = Series("loss", "sft", [1, 2], [0.9, 0.8])
    drawn = [line_chart([one], "t", "step", (400, 200), [0.5, 1.0], [1, 2], Guide(at, "log 2")) for at in (0.69, 0.2)]
    assert ["log 2" in svg for svg in drawn] == [True, False]


def test_ticks_are_told_apart():
    assert tick_labels([0, 0.25, 0.5]) == ["0", "0.25", "0.5"]
    assert tick_labels([0.69312, 0.69314, 0.69316]) == ["0.69312", "0.69314", "0.69316"]


def test_ticks_below_the_axis_are_told_apart_too():
    one = Series("loss", "sft", [10_000.25, 10_000.75], [0.9, 0.8])
    svg = line_chart([one], "t", "step", (400, 200), [0.5, 1.0], [10_000.25, 10_000.75])
    labels = re.findall(r'<text class="tick x"[^>]*>([^<]*)<', svg)
    assert len(set(labels)) == 2


def test_a_line_leads_to_a_label_that_is_not_beside_its_curve():
    """Ends at 3, 3 and 5 of 1..5: the first two labels move apart by 17 px, so 8.5 px is too far for one of them at
    least; a curve that ends at the second of four turns is far from its label too."""

    def chart(*ends, last=4):
        many = [Series(f"s{n}", f"other{n}", [1, last], [2.0, end]) for n, end in enumerate(ends)]
        return line_chart(many, "t", "turn", (500, 400), [1, 2, 3, 4, 5], [1, 2, 3, 4])

    assert chart(3.0, 5.0).count("leader") == 0
    assert chart(3.0, 3.0, 5.0).count("leader") >= 1
    assert chart(3.0, 5.0, last=2).count("leader") == 2


def test_score_axis_is_the_whole_scale_or_round_numbers():
    assert level_ticks([1.0, 2.5]) == [1, 2, 3, 4, 5]
    assert level_ticks([6.76, 70.27]) == [0, 20, 40, 60, 80]


def test_long_curves_are_thinned_to_means():
    points = [(float(k), float(k % 2)) for k in range(1, 1201)]
    assert thinned(points)[:2] == [(2.5, 0.5), (6.5, 0.5)]
    assert len(thinned(points)) == 300
    assert whole_ticks(1, 18) == [1, 5, 10, 15, 18]
    assert whole_ticks(7, 7) == [7]


def test_numbers_as_text():
    assert [number(value) for value in (0, 0.25, -2.0, 12345, 0.693147)] == ["0", "0.25", "−2", "12,345", "0.693"]
    assert decimal(-0.0001, 2, signed=True) == "0.00"
    assert decimal(None, 2) == "undefined"
    assert bracket((-0.25, 1.171), 2, signed=True) == "[−0.25, +1.17]"
    assert bracket(None, 2) == ""
    assert [duration(value) for value in (3.14, 71.2, 3 * 3600 + 59, None)] == ["3.1 s", "1 min 11 s", "3 h 0 min", ""]
    assert dict(leaves({"a": {"b": 1, "c": {}}, "d": [2]})) == {"a.b": 1, "d": [2]}
    assert [count(value) for value in (12345, 0.5, True, "x")] == ["12,345", "0.5", "True", "x"]
    assert [verdict(each) for each in ((0.1, 1.0), (-1.0, -0.1), (0.0, 1.0), None)] == [
        "above zero",
        "below zero",
        "may be chance",
        "no interval",
    ]


def test_the_table_shows_every_figure():
    assert {"AL", *(key for key, _, _ in FIGURES)} == set(Figures.model_fields)


def node(name, parent, role="user", **more):
    return Node(id=name, parent=parent, role=role, text=name, **more)


def test_a_tree_is_shown_along_its_path_with_other_branches_folded():
    tree = Conversation(
        id="t",
        nodes=(
            node("s", None, "system"),
            node("u0", "s"),
            node("a0", "u0", "assistant"),
            node("b0", "u0", "assistant"),
            node("u1", "a0"),
            node("a1", "u1", "assistant"),
            node("v1", "b0"),
            node("c1", "v1", "assistant"),
        ),
        path=("u0", "b0", "v1", "c1"),
    )
    shown = dialogue(tree)
    assert shown.system == "s"
    assert [turn.message for turn in shown.turns] == ["u0", "v1"]
    assert [(each.text, each.continued) for each in shown.turns[0].candidates] == [("a0", False), ("b0", True)]
    folded = shown.turns[0].candidates[0].branches
    assert [[turn.message for turn in branch] for branch in folded] == [["u1"]]
    without_path = dialogue(tree.model_copy(update={"path": ()}))
    assert [turn.message for turn in without_path.turns] == ["u0", "u1"]


def test_overall_score():
    several = (Score(judge="j", criterion="style", value=2.0), Score(judge="j", criterion="overall", value=4.0))
    assert overall(several) == 4.0
    assert overall(several[:1]) == 2.0
    assert overall((several[0], several[0])) is None
    assert overall(()) is None


def test_dialogues_of_a_case_stand_side_by_side():
    def path(name, turns):
        nodes = [node("u0", None), node("a0", "u0", "assistant"), node("u1", "a0"), node("a1", "u1", "assistant")]
        return Conversation(id=name, nodes=tuple(nodes[: 2 * turns]))

    results = {"base": ModelResult(trees=(path("x", 2), path("y", 2))), "sft": ModelResult(trees=(path("y", 1),))}
    case = side_by_side(results, "y")
    assert [[(model, turn is not None) for model, turn in row.turns] for row in case.rows] == [
        [("base", True), ("sft", True)],
        [("base", True), ("sft", False)],
    ]
    assert [row.shared for row in case.rows] == ["u0", ""]
    cases, count = all_cases(results, 10**6)
    assert ([each.id for each in cases], count) == (["x", "y"], 2)
    assert len(all_cases(results, 1)[0]) == 1  # one is always shown


def test_summary_counts_over_all_trees_and_keeps_the_first():
    rng = np.random.default_rng(0)
    summary = summarise(iter([training_tree(k, rng, turns=2 + k % 2, candidates=2) for k in range(4)]), keep=1)
    assert (summary.conversations, summary.turns, summary.candidates) == (4, 3, 2)
    assert summary.replies == 2 * (2 + 3 + 2 + 3)
    assert summary.preferences == 10
    assert [tree.id for tree in summary.first] == ["train-000"]


def records(shift, profiles=3, personalities=2, persona=None):
    return [
        ScoreRecord(case=f"{p}{q}", profile=f"{p}", personality=f"{q}", turn=k, score=2.0 + shift(p),
                    score_persona=None if persona is None else 2.0 + persona(p))
        for p in range(profiles)
        for q in range(personalities)
        for k in (1, 2)
    ]  # fmt: skip


def sentence(base, **trained):
    """The sentence of a run with these scores, of twelve trees and a scripted teacher."""
    scores = {"base": base, **trained}
    run = RunRecord(
        "r",
        config={"roles": {"teacher": {"player": "scripted"}}},
        manifests={"conversations": Manifest("conversations", counts={"trees": 12})},
        results={name: ModelResult(tuple(each), metrics(each)) for name, each in scores.items()},
    )
    return result_sentence(run, contrasts_of(run.results, pairs(run)))


AFTER = "After supervised fine-tuning on 12 trees by the scripted teacher, "


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        (lambda p: 1.0, "replies score 1.00 [1.00, 1.00] above base on what users had shown (6 cases)."),
        (lambda p: -1.0, "replies score 1.00 [1.00, 1.00] below base on what users had shown (6 cases)."),
        (lambda p: p - 1.0, "no difference to base could be shown: 0.00 [−2.48, +2.48] on what users had shown"),
    ],
)
def test_the_result_is_said_with_its_interval_and_no_more(shift, expected):
    """Differences -1, 0, 1 of three profiles: standard error sqrt(1 / 3) = 0.577, t(0.975; 2) = 4.303, so 2.484."""
    said = sentence(records(lambda p: 0.0), sft=records(shift))
    assert said.startswith(AFTER + expected)


def test_both_scales_and_both_trainings_are_said():
    base = records(lambda p: 0.0, persona=lambda p: 0.0)
    sft = records(lambda p: 1.0, persona=lambda p: p - 1.0)
    said = sentence(base, sft=sft, preference=records(lambda p: 2.0, persona=lambda p: 0.5))
    assert said == (
        f"{AFTER}replies score 1.00 [1.00, 1.00] above base on what users had shown (6 cases), and no difference could "
        "be shown counting the whole persona: 0.00 [−2.48, +2.48]; after preference training as well, replies score "
        "2.00 [2.00, 2.00] above base on what users had shown (6 cases), and 0.50 [0.50, 0.50] above base "
        "counting the whole persona."
    )


def test_a_result_without_comparison_or_interval_says_so():
    one = records(lambda p: 0.0, 1, 1)
    alone = metrics(one)
    assert "no trained model" in sentence(one)
    assert "0.00 without an interval on what users had shown (1 case)" in sentence(one, sft=one)
    assert "there are no intervals" in interval_caveat({"base": alone})
    assert "another profile" in interval_caveat({"base": metrics(records(lambda p: 0.0, 1, 2))})
    assert "3 profiles and 2 personalities" in interval_caveat({"base": metrics(records(lambda p: 0.0))})
    assert interval_caveat({"base": metrics(records(lambda p: 0.0, 20, 5))}) == ""


def test_reply_limits_come_from_the_config():
    roles = {"responder": {"max_tokens": 1024}, "user": {"max_tokens": 77}}
    config = {"roles": roles, "benchmark": {"max_tokens": 32}}
    assert sizing(RunRecord("r", config=config), {}) == ["Replies were cut at 32 or 1,024 tokens."]


def test_model_and_its_size():
    assert model_name({"model": {"source": "embedded:smollm2"}}) == "embedded:smollm2"
    assert model_name({"model": "Qwen/Qwen2.5-0.5B-Instruct"}) == "Qwen/Qwen2.5-0.5B-Instruct"
    assert model_name({}) == "the base model"
    assert parameters(RunRecord("r", config={"model": "Qwen/Qwen2.5-0.5B-Instruct"})) == 0.5e9
    assert parameters(RunRecord("r", config={"model": "SmolLM2-135M"})) == 135e6
    assert parameters(RunRecord("r", config={"model": "some/model-v2"})) is None
    counted = Manifest("sft", counts={"parameters": 7})
    assert parameters(RunRecord("r", config={"model": "SmolLM2-135M"}, manifests={"sft": counted})) == 7

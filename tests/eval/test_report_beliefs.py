"""What the report shows of what the models say that they have learned."""

import re

from eval.benchmark.belief import BeliefCounts, Change
from eval.benchmark.metrics import metrics
from eval.benchmark.scores import ScoreRecord
from eval.report.beliefs import belief_part
from eval.report.names import Style
from eval.report.parts import Shown
from eval.report.reading import ModelResult


def shown(*beliefs, profiles=1):
    """A result with these beliefs by turn, the same for every profile."""
    records = [
        ScoreRecord(case=f"c{p}", profile=f"p{p}", personality="q", turn=turn, score=3.0, belief=each)
        for p in range(profiles)
        for turn, each in enumerate(beliefs, start=1)
    ]
    return Shown("sft", Style("sft", "circle"), ModelResult(metrics=metrics(records, 20, 0)))


def test_the_numbers_stand_in_the_tables_and_the_curve():
    """Turn 1: 1 of 2 claims right of 2 shown, so F1 = 2 / 4; turn 2: 3 of 3 of 5, F1 = 6 / 8. Together precision 4/5,
    recall 4/7, F1 = 8 / 12, unfounded 1/5; Brier (0.2^2 + 0.4^2) / 2 = 0.1."""
    first = BeliefCounts(claims=2, right=1, unfounded=1, shown=2, probabilities=((0.8, True), (0.4, False)))
    change = Change(since=0, shown=True, new=True, old=False)
    second = BeliefCounts(claims=3, right=3, unfounded=0, shown=5, change=change)
    part = belief_part({"sft": shown(first, second)})
    assert [(row.label, row.cells[0].value) for row in part.figures.rows] == [
        ("F1", "0.67"),
        ("Precision", "0.80"),
        ("Recall", "0.57"),
        ("Claims without evidence", "0.20"),
        ("Brier score", "0.10"),
        ("Calibration error", "0.30"),
    ]
    assert [row.cells[0].value for row in part.turns.rows] == ["0.50", "0.75"]
    assert part.turns.rows[0].cells[0].remarks == ("precision 0.50, recall 0.50, unfounded 0.50, brier 0.10",)
    (row,) = part.revision.rows
    assert (row.label, row.note, row.cells[0].value) == ("in that turn", "1 user", "1.00")
    assert row.cells[0].remarks == ("new 1.00, old 0.00",)
    (note,) = part.notes
    assert note.startswith("sft: 3 of 5 claims have no probability")
    heights = re.search(r'<polyline class="line sft" points="([^"]*)"', part.curves[0])[1].split()
    assert len(heights) == 2


def test_results_without_probes_have_no_part():
    assert belief_part({"sft": shown(None, None)}) is None

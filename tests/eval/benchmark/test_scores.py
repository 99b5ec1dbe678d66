"""Reading `scores.jsonl`: every way a line can be wrong is named with its place."""

import json

import numpy as np
import pytest

from aloe_jax.errors import InputError
from eval.benchmark.scores import ScoreRecord, read_scores, score_table


def line(case="a", profile="p", personality="q", turn=1, score=3.0, **more):
    return {"case": case, "profile": profile, "personality": personality, "turn": turn, "score": score, **more}


def write(path, *lines):
    path.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in lines))
    return path


def test_reads_numbers_null_numeric_ids_and_ignores_further_keys(tmp_path):
    path = write(tmp_path / "scores.jsonl", line(case=7, score=2, reply="hi"), line(case=8, score=None, criteria={}))
    records = read_scores(path)
    assert [(record.case, record.score) for record in records] == [("7", 2.0), ("8", None)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"case": '], "line 1: broken|line 1: .*JSON"),
        ([line(), line(turn=0)], "line 2: field turn: .*greater than or equal to 1"),
        ([line(turn=1.5)], "line 1: field turn: "),
        ([line(score="3")], "line 1: field score: .*number"),
        ([line(score=True)], "line 1: field score: .*number"),
        ([json.dumps(line())[:-1] + ', "score": 5.0}'], "line 1: key 'score' stands twice"),
        ([json.dumps(line(score=float("nan")))], "line 1: field score: .*finite"),
        ([json.dumps(line(score=float("inf")))], "line 1: field score: .*finite"),
        ([{"case": "a", "profile": "p", "personality": "q", "turn": 1}], "line 1: field score: .*required"),
        ([line(), line(case="b"), line()], "line 3: case 'a' turn 1 is scored twice"),
        ([line(), line(turn=2, profile="other")], "line 2: case 'a' has profile and personality .*'other'"),
        ([line(), line(case="b"), line(case="b", turn=2)], "case 'a' has no line for turn 2 of 2"),
        ([line(turn=2)], "case 'a' has no line for turn 1 of 2"),
        ([], "no scores"),
    ],
)
def test_refuses(tmp_path, lines, message):
    path = write(tmp_path / "scores.jsonl", *lines)
    with pytest.raises(InputError, match=message) as caught:
        read_scores(path)
    assert str(path) in str(caught.value)


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_scores(tmp_path / "none.jsonl")


def test_table_does_not_depend_on_the_order_of_lines():
    records = [
        ScoreRecord(**line(case=f"{p}{q}", profile=f"p{p}", personality=f"q{q}", turn=k, score=10.0 * p + q + k / 10))
        for p in range(3)
        for q in range(2)
        for k in (1, 2)
    ]
    table, shuffled = score_table(records), score_table(records[::-1])
    assert table.levels == (3, 2)
    assert table.cases == shuffled.cases == ("00", "01", "10", "11", "20", "21")
    np.testing.assert_array_equal(table.profiles, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(table.personalities, [0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(table.scores[3], [11.1, 11.2])
    np.testing.assert_array_equal(table.scores, shuffled.scores)


def test_unscored_is_nan_in_the_table():
    table = score_table([ScoreRecord(**line(score=None)), ScoreRecord(**line(turn=2))])
    np.testing.assert_array_equal(table.scores, [[np.nan, 3.0]])

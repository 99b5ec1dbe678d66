"""A judge against labels of the same replies: agreement, corrected scores, and files of labels that cannot be used."""

import json

import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Conversation, Node, Score, write_records
from eval.benchmark.calibration import calibrate
from eval.benchmark.labels import Label, label_sheet, read_labels
from eval.benchmark.truth import metrics_file
from helpers.aloe_in_process import refused
from helpers.score_tables import crossed_table

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(1, 6, size=(4, 3, 5)).astype(float)


def labels_of(truth, share=1.0, labeller="", seed=1):
    """Labels of a random share of the replies of a complete crossing."""
    drawn = np.random.default_rng(seed).random(truth.shape) < share
    return [
        Label(case=f"{3 * row + column:04d}", turn=int(turn) + 1, score=truth[row, column, turn], labeller=labeller)
        for row, column, turn in zip(*np.nonzero(drawn), strict=True)
    ]


def test_a_judge_that_is_right_agrees_and_is_not_corrected():
    found = calibrate(crossed_table(TRUTH), labels_of(TRUTH, 0.5))
    assert (found.weighted_kappa, found.krippendorff_alpha, found.gwet_ac2) == (1.0, 1.0, 1.0)
    assert found.average.corrected == pytest.approx(found.average.raw)
    assert (found.labellers, found.between) == (1, None)
    assert found.labelled == len(labels_of(TRUTH, 0.5)) < TRUTH.size


def test_a_kind_judge_is_corrected_by_its_bias():
    """0.5 too kind throughout: the corrected average is the truth, and alpha and kappa are below 1."""
    found = calibrate(crossed_table(TRUTH + 0.5), labels_of(TRUTH, 0.5))
    assert found.average.kind == "graded"
    assert found.average.raw == pytest.approx(TRUTH.mean() + 0.5)
    assert found.average.corrected == pytest.approx(TRUTH.mean())
    assert 0.5 < found.krippendorff_alpha < 1.0


def test_a_judge_of_zeros_and_ones_is_corrected_by_its_error_rates():
    """Of eight replies four are good. Three of the good and one of the bad are judged good: p = 1/2, q1 = q0 = 3/4,
    (1/2 + 3/4 - 1) / (1/2) = 1/2; agreement 3/4, chance 1/2: kappa 1/2."""
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=float).reshape(2, 2, 2)
    judged = np.array([1, 1, 1, 0, 1, 0, 0, 0], dtype=float).reshape(2, 2, 2)
    labels = [
        Label(case=f"{case:04d}", turn=turn + 1, score=truth.reshape(4, 2)[case, turn])
        for case in range(4)
        for turn in range(2)
    ]
    found = calibrate(crossed_table(judged), labels)
    assert (found.average.kind, found.average.sensitivity, found.average.specificity) == ("binary", 0.75, 0.75)
    assert found.average.corrected == pytest.approx(0.5)
    assert found.weighted_kappa == pytest.approx(0.5)


def test_the_mean_of_several_labellers_counts_and_their_agreement_stands_beside():
    """They are 0.5 above and below the truth on every reply: their mean is the truth."""
    above, below = labels_of(TRUTH + 0.5, labeller="ann"), labels_of(TRUTH - 0.5, labeller="ben")
    found = calibrate(crossed_table(TRUTH), [*above, *below])
    assert (found.labellers, found.krippendorff_alpha) == (2, 1.0)
    assert 0.5 < found.between < 1.0


def test_an_unscored_reply_and_an_empty_line_of_the_sheet_count_nowhere():
    judged = TRUTH.copy()
    judged[0, 0, 0] = np.nan
    labels = [*labels_of(TRUTH)[:20], Label(case="0011", turn=5, score=None)]
    found = calibrate(crossed_table(judged), labels)
    assert found.labelled == 19


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([Label(case="9999", turn=1, score=3.0)], "case '9999' turn 1 is labelled but not among the scores"),
        ([Label(case="0000", turn=6, score=3.0)], "turn 6 is labelled but not"),
        ([Label(case="0000", turn=1, score=3.0, labeller="a")] * 2, "labelled twice by 'a'"),
        ([Label(case="0000", turn=1, score=3.0)], "1 judged replies have a label"),
        ([], "0 judged replies have a label"),
        ([Label(case="0000", turn=turn, score=1e308) for turn in (1, 2)], "exceed 1e\\+100"),
    ],
)
def test_labels_that_correct_nothing(labels, message):
    with pytest.raises(InputError, match=message):
        calibrate(crossed_table(TRUTH), labels)


@pytest.fixture
def result(tmp_path):
    """A result's folder: 4 x 3 cases of 5 turns, of which one is unscored, on both scales."""
    lines, trees = [], []
    for row, column in np.ndindex(4, 3):
        name, nodes = f"{3 * row + column:04d}", []
        for turn, value in enumerate(TRUTH[row, column], start=1):
            nodes.append(
                Node(id=f"u{turn}", parent=f"a{turn - 1}" if turn > 1 else None, role="user", text=f"ask {turn}")
            )
            score = Score(judge="j", criterion="overall", value=value)
            text = f"{name} answers {turn}"
            nodes.append(Node(id=f"a{turn}", parent=f"u{turn}", role="assistant", text=text, scores=(score,)))
            line = {
                "case": name,
                "profile": f"p{row}",
                "personality": f"q{column}",
                "turn": turn,
                "score": value + 0.25,
            }
            lines.append({**line, "score_persona": value})
        trees.append(Conversation(id=name, nodes=tuple(nodes), path=tuple(node.id for node in nodes)))
    lines[0] |= {"score": None, "score_persona": None}
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_records(tmp_path / "trees.jsonl", trees)
    return tmp_path


def filled(lines, path, **more):
    """A sheet that people filled in: the truth of each reply."""
    for line in lines:
        line["score"] = TRUTH[int(line["case"]) // 3, int(line["case"]) % 3, line["turn"] - 1]
    path.write_text("".join(json.dumps(line | more) + "\n" for line in lines))
    return path


def test_from_the_sheet_to_corrected_scores(result, aloe):
    code, out, errors = aloe("metrics", result / "scores.jsonl", "--label-sheet=20")
    assert (code, errors) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert len({(line["case"], line["turn"]) for line in lines}) == 20
    assert ("0000", 1) not in {(line["case"], line["turn"]) for line in lines}
    for line in lines:
        assert line["dialogue"][-1] == {"role": "user", "content": f"ask {line['turn']}"}
        assert (line["reply"], line["score"]) == (f"{line['case']} answers {line['turn']}", None)
    path = filled(lines, result / "labels.jsonl")
    code, out, errors = aloe("metrics", result / "scores.jsonl", f"--labels={path}")
    assert (code, errors) == (0, "")
    found = json.loads(out)
    assert found["corrected"]["labelled"] == 20
    assert found["corrected"]["average"]["raw"] == pytest.approx(found["average"])
    assert found["corrected"]["average"]["corrected"] == pytest.approx(found["average"] - 0.25)
    assert "corrected" not in found["persona"]  # nobody labelled that scale


def test_the_scores_of_the_scripted_judge_are_labels_on_both_scales(result):
    found = metrics_file(result / "scores.jsonl", labels=result / "scores.jsonl")
    assert found["corrected"]["krippendorff_alpha"] == 1.0
    assert found["persona"]["corrected"]["labelled"] == TRUTH.size - 1
    only = metrics_file(result / "scores.jsonl", scale="persona", labels=result / "scores.jsonl")
    assert only["corrected"] == found["persona"]["corrected"]


def test_labels_of_another_models_replies_are_refused(result, aloe):
    path = filled(label_sheet(result / "scores.jsonl", 5), result / "labels.jsonl", reply="something else")
    refused(aloe("metrics", result / "scores.jsonl", f"--labels={path}"), "labelled for another reply")


def test_files_that_are_no_labels(result, tmp_path, aloe):
    path = tmp_path / "labels.jsonl"
    preference = {"time": "now", "conversation": "c", "first": "a", "second": "b", "label": "tie", "judge_label": None}
    path.write_text(json.dumps(preference) + "\n")
    with pytest.raises(InputError, match="line 1: a preference between two replies, as `aloe view` stores them"):
        read_labels(path)
    path.write_text('{"case": "0000", "turn": 0, "score": 3}\n')
    with pytest.raises(InputError, match=r"labels\.jsonl line 1: .*turn"):
        read_labels(path)
    refused(aloe("metrics", result / "scores.jsonl", f"--labels={tmp_path / 'none.jsonl'}"), "none.jsonl")
    refused(aloe("metrics", result / "scores.jsonl", "--label-sheet=0"), "--label-sheet: 0 must be at least 1")
    (result / "trees.jsonl").unlink()
    refused(aloe("metrics", result / "scores.jsonl", "--label-sheet=3"), "trees.jsonl")

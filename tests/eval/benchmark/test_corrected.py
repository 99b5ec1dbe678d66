"""Corrected judge scores against closed forms; tests/long/coverage.py measures how often the intervals hold."""

import numpy as np
import pytest

from aloe_jax.errors import InputError
from eval.benchmark.corrected import corrected
from helpers.score_tables import crossed_table, table

LABELS = np.full((10, 2), np.nan)


def binary_case():
    """Twenty replies of ten cases, 13 judged good. Labelled: four truly good, three of them judged good; five truly
    bad, four of them judged bad."""
    scores = np.array([1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0], dtype=float).reshape(10, 2)
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0] + [np.nan] * 11).reshape(10, 2)
    return table(np.repeat(np.arange(5), 2), np.tile(np.arange(2), 5), scores), labels


def test_binary_by_hand():
    """p = 13/20, q1 = 3/4, q0 = 4/5: (13/20 - 1/5) / (11/20) = 9/11."""
    found = corrected(*binary_case(), "binary")
    assert (found.sensitivity, found.specificity, found.labelled) == (0.75, 0.8, 9)
    assert found.raw == pytest.approx(0.65)
    assert found.corrected == pytest.approx(9 / 11)
    low, high = found.interval
    assert 0 <= low < 9 / 11 < high <= 1
    assert found.raw_interval[0] < 0.65 < found.raw_interval[1]


def test_a_judge_without_error_changes_nothing():
    """With q0 = q1 = 1, g(theta) = p - theta, and the interval is the raw one, cut to 0..1."""
    scores = (np.random.default_rng(0).random((6, 4, 5)) < 0.5).astype(float)
    judged = crossed_table(scores)
    found = corrected(judged, judged.scores.copy(), "binary")
    assert found.corrected == pytest.approx(found.raw)
    assert found.interval == pytest.approx(found.raw_interval, abs=1e-9)
    graded = corrected(judged, judged.scores.copy(), "graded")
    assert (graded.corrected, graded.interval) == (graded.raw, pytest.approx(graded.raw_interval))


def test_graded_is_the_judge_minus_its_bias():
    """A judge that is 0.5 too kind on every reply: the mean is 0.5 lower and the interval is as wide as before."""
    rng = np.random.default_rng(1)
    truth = rng.normal(3, 1, size=(5, 4, 3))
    judged = crossed_table(truth + 0.5)
    labels = np.where(rng.random((20, 3)) < 0.4, truth.reshape(20, 3), np.nan)
    found = corrected(judged, labels, "graded")
    assert found.corrected == pytest.approx(truth.mean())
    assert found.interval == pytest.approx(tuple(edge - 0.5 for edge in found.raw_interval))
    assert (found.sensitivity, found.specificity) == (None, None)


def test_fewer_labels_widen_the_interval():
    rng = np.random.default_rng(2)
    truth = (rng.random((8, 5, 6)) < 0.6).astype(float)
    wrong = rng.random(truth.shape) < 0.2
    judged = crossed_table(np.where(wrong, 1 - truth, truth))
    order = rng.permutation(240).reshape(40, 6)
    widths = []
    for count in (240, 60, 30):
        found = corrected(judged, np.where(order < count, truth.reshape(40, 6), np.nan), "binary")
        widths.append(found.interval[1] - found.interval[0])
    assert widths == sorted(widths)


def test_unscored_replies_are_left_out():
    judged, labels = binary_case()
    judged.scores[9] = np.nan  # a case without a score
    found = corrected(judged, labels, "binary")
    assert found.raw == pytest.approx(13 / 18)
    judged.scores[0, 0] = np.nan  # a labelled reply without a score: q1 = 2/3
    assert corrected(judged, labels, "binary").sensitivity == pytest.approx(2 / 3)


def test_refused_where_the_judge_knows_nothing():
    judged, labels = binary_case()
    with pytest.raises(InputError, match=r"specificity 0\.200 and sensitivity 0\.250 add up to at most 1"):
        corrected(table(judged.profiles, judged.personalities, 1 - judged.scores), labels, "binary")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda scores, labels: labels.fill(np.nan), "0 judged replies have a label"),
        (lambda scores, labels: labels.put(range(4), np.nan), "0 labelled replies are good and 5 bad"),
        (lambda scores, labels: scores.put(3, 0.5), "scores hold 0.5, expected 0 or 1"),
        (lambda scores, labels: labels.put(3, 4), "labels hold 4, expected 0 or 1"),
        (lambda scores, labels: scores[:, 1].fill(np.nan), "a turn has no scored reply"),
    ],
)
def test_refused_with_a_sentence(change, said):
    judged, labels = binary_case()
    change(judged.scores, labels)
    with pytest.raises(InputError, match=said):
        corrected(judged, labels, "binary")


def test_labels_are_in_the_form_of_the_scores():
    with pytest.raises(InputError, match=r"shape \(2, 10\), expected that of the scores, \(10, 2\)"):
        corrected(binary_case()[0], LABELS.T, "binary")


def test_one_cell_has_no_interval():
    judged = table([0, 0], [0, 0], np.array([[1.0, 0], [1, 0]]))
    found = corrected(judged, judged.scores.copy(), "binary")
    assert (found.corrected, found.interval, found.raw_interval) == (0.5, None, None)

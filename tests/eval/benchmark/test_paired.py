"""Paired differences against plain loops: power, needed cases, equal length."""

import numpy as np
import pytest
from scipy import stats

from aloe_jax.errors import InputError
from eval.benchmark.crossed import average_weights, linear
from eval.benchmark.paired import length_controlled, paired_difference
from helpers.score_tables import crossed_table, table


def two_models(gain, levels=(6, 4), turns=5, seed=0):
    """Scores of two models that share hard effects of profile and personality; the first gains `gain` on average."""
    rng = np.random.default_rng(seed)
    shared = 3 * rng.normal(size=(levels[0], 1, 1)) + 3 * rng.normal(size=(1, levels[1], 1))
    own = rng.normal(size=(2, *levels, turns)) + 0.4 * rng.normal(size=(2, levels[0], 1, 1))
    first, second = shared + own
    return crossed_table(first + gain), crossed_table(second)


def test_shared_effects_cancel_and_the_sign_follows_the_order():
    first, second = two_models(1.5)
    found, swapped = paired_difference(first, second), paired_difference(second, first)
    assert found.average.estimate == pytest.approx((first.scores - second.scores).mean())
    assert found.average.error < 0.5 * linear(first, average_weights(5)).estimate().error
    assert swapped.average.estimate == pytest.approx(-found.average.estimate)
    assert swapped.average.interval == pytest.approx(tuple(-edge for edge in reversed(found.average.interval)))
    assert (swapped.average.p, swapped.average.cases_needed) == (found.average.p, found.average.cases_needed)
    assert found.average.p < 0.05 < found.IR.p
    assert len(found.AL) == 5
    assert found.AL[2].estimate == pytest.approx((first.scores - second.scores)[:, 2].mean())


def test_power_of_one_factor_equals_a_loop():
    """Eight profiles, one personality: the needed number is the first n with (t(0.975) + t(0.8)) s / sqrt(n) <= d."""
    differences = np.random.default_rng(1).normal(0.4, 1.0, size=(8, 1, 1))
    found = paired_difference(crossed_table(differences), crossed_table(np.zeros((8, 1, 1)))).average
    d, s = differences.mean(), differences.std(ddof=1)

    def reach(n):
        return (stats.t.ppf(0.975, n - 1) + stats.t.ppf(0.8, n - 1)) * s / np.sqrt(n)

    assert found.detectable == pytest.approx(reach(8))
    assert found.cases_needed == next(n for n in range(2, 10_000) if reach(n) <= d)


def test_needed_cases_keep_the_proportion_and_end_where_the_difference_is_found():
    """The layout that was needed finds the difference, and the next smaller one does not."""
    first, second = two_models(0.3, levels=(8, 4))
    found = paired_difference(first, second).average
    assert abs(found.estimate) < found.detectable
    sizes = [(n, max(2, -(-n // 2))) for n in range(2, 400)]
    assert found.cases_needed in {profiles * personalities for profiles, personalities in sizes}
    assert found.cases_needed > 32
    larger = paired_difference(first, second, power=0.95).average
    assert larger.cases_needed > found.cases_needed
    assert larger.detectable > found.detectable


def test_enough_cases_need_no_more():
    found = paired_difference(*two_models(5.0)).average
    assert found.detectable < found.estimate
    assert found.cases_needed < 24


def test_no_difference_needs_no_number():
    same = crossed_table(np.random.default_rng(2).normal(size=(3, 3, 2)))
    found = paired_difference(same, same).average
    assert (found.estimate, found.interval, found.p, found.cases_needed) == (0.0, (0.0, 0.0), 1.0, None)


def test_a_reply_counts_if_both_models_have_a_score():
    first, second = two_models(1.0, levels=(3, 2), turns=2)
    first.scores[0, 0] = second.scores[4, 1] = np.nan
    found = paired_difference(first, second)
    assert found.unscored == 2
    assert found.average.estimate == pytest.approx(np.nanmean(first.scores - second.scores, axis=0).mean())
    first.scores[:, 1] = np.nan
    found = paired_difference(first, second)
    assert (found.average, found.IR, found.AL[1]) == (None, None, None)
    assert found.AL[0].interval is not None


def test_one_turn_has_no_rate_and_one_case_no_interval():
    found = paired_difference(crossed_table(np.ones((1, 1, 1))), crossed_table(np.zeros((1, 1, 1))))
    assert found.IR is None
    assert found.average.estimate == 1.0
    assert {found.average.interval, found.average.p, found.average.detectable, found.average.cases_needed} == {None}


def test_tables_must_match():
    with pytest.raises(InputError, match="2 and 3 turns"):
        paired_difference(crossed_table(np.ones((2, 2, 2))), crossed_table(np.ones((2, 2, 3))))
    with pytest.raises(InputError, match="different profiles"):
        paired_difference(table([0, 1], [0, 0], np.ones((2, 1))), table([0, 0], [0, 1], np.ones((2, 1))))


def test_longer_replies_explain_their_part():
    """The difference is 0.2 plus 0.01 per word that the first model's reply is longer."""
    rng = np.random.default_rng(3)
    words = rng.integers(10, 80, size=(2, 24, 5)).astype(float)
    base = rng.normal(size=(6, 4, 5))
    second = crossed_table(base)
    gain = 0.2 + 0.01 * (words[0] - words[1])
    first = crossed_table(base + gain.reshape(6, 4, 5))
    found = paired_difference(first, second, lengths=(words[0], words[1]))
    assert found.length_controlled.estimate == pytest.approx(0.2)
    assert found.average.estimate == pytest.approx(gain.mean())
    assert paired_difference(first, second).length_controlled is None
    assert paired_difference(first, second, lengths=(words[0], words[0])).length_controlled is None


def test_influence_on_the_intercept_is_its_derivative():
    rng = np.random.default_rng(4)
    differences = crossed_table(rng.normal(size=(3, 2, 4)))
    longer = rng.normal(5, 10, size=(6, 4))
    differences.scores[1, 2] = longer[4, 0] = np.nan
    used = ~np.isnan(differences.scores + longer)
    step = 1e-5

    def intercept(counts):
        weights = np.sqrt(np.broadcast_to(counts[:, None], longer.shape)[used])
        return np.polyfit(longer[used], differences.scores[used], 1, w=weights)[1]

    slopes = [(intercept(1 + step * row) - intercept(1 - step * row)) / (2 * step) for row in np.eye(6)]
    found = length_controlled(differences, longer)
    assert found.value == pytest.approx(intercept(np.ones(6)))
    np.testing.assert_allclose(found.influences / 6, slopes, atol=1e-7)

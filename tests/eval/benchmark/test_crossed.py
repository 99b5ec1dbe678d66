"""Variance components against the analysis of variance by hand, one-sample t intervals and exact expectations."""

import numpy as np
import pytest
from scipy import stats

from eval.benchmark.crossed import (
    Estimate,
    average_weights,
    components,
    influences,
    layout_of,
    linear,
    planned_variance,
    slope_weights,
    sums_of_squares,
    turn_weights,
    variance,
)
from helpers.score_tables import crossed_table, table

INCOMPLETE = np.array([[1, 1, 1, 0], [1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]], dtype=bool)


def test_two_way_by_hand():
    """Scores 1 2 6 / 3 8 10: rows 3 and 7, columns 2, 5, 8, mean 5. SS: rows 3 (4 + 4) = 24, columns 2 (9 + 9) = 36,
    residuals 0 -1 1 / 0 1 -1 give 4. MS 24, 18, 2; V = (24 + 18 - 2) / 6 = 20/3, more than (64 / 5) / 6 of independent
    cases. df = 40^2 / (24^2/3 + 18^2/4 + 2^2/4) - 2 = 1600 / 274 - 2 = 526/137.
    Components: (24 - 2) / 3, (18 - 2) / 2, 2."""
    found = linear(crossed_table(np.array([[1.0, 2, 6], [3, 8, 10]])[..., None]), average_weights(1))
    made = found.estimate()
    assert made.value == pytest.approx(5.0)
    assert made.error**2 == pytest.approx(20 / 3)
    assert made.df == pytest.approx(526 / 137)
    np.testing.assert_allclose(components(found.layout, found.influences), [22 / 3, 8, 2])
    low, high = made.interval(0.95)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 526 / 137) * np.sqrt(20 / 3))


def test_no_less_than_independent_cases():
    """Scores 0 1 / 1 0: both factors have mean square 0, the residual 1. As independent cases: variance 1/3 over 4,
    three degrees of freedom."""
    made = linear(crossed_table(np.array([[0.0, 1], [1, 0]])[..., None]), average_weights(1)).estimate()
    assert made.error**2 == pytest.approx(1 / 12)
    assert made.df == 3


def test_one_factor_is_the_one_sample_t_interval():
    scores = np.random.default_rng(0).normal(size=(7, 1, 4))
    for weights in (average_weights(4), slope_weights(4), turn_weights(2, 4)):
        expected = stats.ttest_1samp(scores[:, 0] @ weights, 0.0)
        for values in (scores, scores.swapaxes(0, 1)):
            made = linear(crossed_table(values), weights).estimate()
            assert made.interval(0.9) == pytest.approx(tuple(expected.confidence_interval(0.9)))
            assert made.p_value() == pytest.approx(expected.pvalue)


def test_personalities_of_their_own_leave_the_profiles_as_clusters():
    scores = np.random.default_rng(1).normal(size=(5, 3, 1)) + np.arange(5)[:, None, None]
    profiles, personalities = np.repeat(np.arange(5), 3), np.arange(15)
    nested = linear(table(profiles, personalities, scores.reshape(15, 1)), average_weights(1)).estimate()
    expected = stats.ttest_1samp(scores.mean(axis=(1, 2)), 0.0)
    assert nested.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_several_cases_of_a_cell_count_once():
    scores = np.random.default_rng(2).normal(size=(4, 3, 2))
    whole = crossed_table(scores)
    twice = table(np.repeat(whole.profiles, 2), np.repeat(whole.personalities, 2), np.repeat(whole.scores, 2, axis=0))
    one, other = (linear(each, average_weights(2)).estimate() for each in (whole, twice))
    assert (other.value, other.error, other.df) == pytest.approx((one.value, one.error, one.df))


def test_one_cell_has_no_interval_and_equal_scores_a_point():
    alone = linear(crossed_table(np.ones((1, 1, 3))), average_weights(3)).estimate()
    assert (alone.value, alone.interval(), alone.p_value()) == (1.0, None, None)
    same = linear(crossed_table(np.ones((4, 3, 2))), average_weights(2)).estimate()
    assert same.interval() == (1.0, 1.0)
    assert same.p_value() == 0.0
    assert Estimate(0.0, 0.0, 3.0).p_value() == 1.0


@pytest.mark.parametrize("occupied", [np.ones((4, 3), dtype=bool), INCOMPLETE])
def test_expected_sums_of_squares_are_exact(occupied):
    """For effects with covariance L L^T a quadratic form's expectation is the sum of its values over the columns of
    L; so is the variance of the mean, which the combination of mean squares must hit."""
    profiles, personalities = np.nonzero(occupied)
    layout = layout_of(profiles, personalities)
    parts = np.array([0.7, 1.9, 0.4])
    columns = [np.eye(occupied.shape[0])[profiles], np.eye(occupied.shape[1])[personalities], np.eye(profiles.size)]
    roots = np.concatenate([np.sqrt(part) * each for part, each in zip(parts, columns, strict=True)], axis=1).T
    squares = np.stack(sums_of_squares(layout, roots)[2]).sum(axis=1)
    np.testing.assert_allclose(squares, layout.expected @ parts)
    np.testing.assert_allclose(np.linalg.solve(layout.expected, squares), parts)
    if occupied.all():
        planned, _ = planned_variance(parts, np.array(4.0), np.array(3.0))
        assert planned == pytest.approx(np.square(roots.mean(axis=1)).sum())


def test_incomplete_crossing_is_unbiased():
    """20,000 draws; the standard error of a mean variance is about 1 % here."""
    rng = np.random.default_rng(3)
    profiles, personalities = np.nonzero(INCOMPLETE)
    draws = rng.normal(size=(20_000, 5))[:, profiles] + rng.normal(size=(20_000, 4))[:, personalities]
    draws += 0.5 * rng.normal(size=draws.shape)
    found, _ = variance(layout_of(profiles, personalities), draws)
    assert found.mean() == pytest.approx(draws.mean(axis=1).var(), rel=0.05)


@pytest.mark.parametrize("weights", [average_weights(4), slope_weights(4), turn_weights(2, 4)])
def test_influence_is_the_derivative_by_the_weight_of_a_case(weights):
    """Case c counted 1 + e times moves the estimate by e times its influence over N."""
    scores = np.random.default_rng(4).normal(size=(6, 4))
    scores[0, 1] = scores[3, 1] = scores[3, 2] = np.nan
    scored, step = ~np.isnan(scores), 1e-6

    def value(counts):
        return (counts @ np.where(scored, scores, 0)) / (counts @ scored) @ weights

    slopes = [(value(1 + step * row) - value(1 - step * row)) / (2 * step) for row in np.eye(6)]
    np.testing.assert_allclose(influences(scores, weights) / 6, slopes, atol=1e-8)


def test_a_case_without_scores_is_left_out():
    scores = np.random.default_rng(5).normal(size=(4, 3, 2))
    scores[1, 2] = np.nan
    whole = crossed_table(scores)
    kept = ~np.isnan(whole.scores).any(axis=1)
    rest = table(whole.profiles[kept], whole.personalities[kept], whole.scores[kept])
    one, other = (linear(each, average_weights(2)).estimate() for each in (whole, rest))
    assert (one.value, one.error, one.df) == pytest.approx((other.value, other.error, other.df))
    scores[..., 1] = np.nan
    assert linear(crossed_table(scores), average_weights(2)) is None
    assert linear(crossed_table(scores), turn_weights(1, 2)) is not None


def test_zero_is_outside_the_interval_where_p_is_small():
    rng = np.random.default_rng(6)
    for _ in range(50):
        made = linear(crossed_table(0.6 + rng.normal(size=(4, 3, 2))), average_weights(2)).estimate()
        low, high = made.interval(0.95)
        assert (made.p_value() < 0.05) == (not low <= 0 <= high)


@pytest.mark.parametrize("levels", [(5, 3), (20, 5)])
@pytest.mark.parametrize("spread", [(0, 0, 1), (1, 1, 1), (1, 0.3, 1), (0.3, 1, 1)])
def test_coverage_on_crossed_random_effects(levels, spread):
    """The standard error of 4,000 trials is 0.35 %; tests/long/coverage.py has more layouts and figures."""
    rng = np.random.default_rng(7)
    profiles, personalities = (index.ravel() for index in np.indices(levels))
    trials = spread[0] * rng.normal(size=(4000, levels[0]))[:, profiles]
    trials += spread[1] * rng.normal(size=(4000, levels[1]))[:, personalities]
    trials += spread[2] * rng.normal(size=trials.shape)
    found, df = variance(layout_of(profiles, personalities), trials)
    held = np.abs(trials.mean(axis=1)) <= stats.t.ppf(0.975, df) * np.sqrt(found)
    assert 0.92 <= held.mean() <= 0.98

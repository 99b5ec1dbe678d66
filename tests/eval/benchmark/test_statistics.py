"""The two-way bootstrap against a plain loop, and its coverage on data whose truth is known."""

import numpy as np
import pytest

from eval.benchmark.statistics import level_counts, percentile_interval, two_way_weights, weighted_means


def test_equals_a_loop_that_builds_every_resample():
    """The twin draws the same levels one by one and averages the cases it lists, repeated as often as drawn."""
    profiles, personalities = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1])  # the cell (2, 0) is missing
    values = np.random.default_rng(3).normal(size=(5, 4))
    values[1, 2] = np.nan
    means = weighted_means(values, two_way_weights(profiles, personalities, resamples=50, seed=9))
    rng = np.random.default_rng(9)
    profile_draws, personality_draws = rng.integers(3, size=(50, 3)), rng.integers(2, size=(50, 2))
    for row, drawn_profiles, drawn_personalities in zip(means, profile_draws, personality_draws, strict=True):
        listed = [
            case
            for p in drawn_profiles
            for q in drawn_personalities
            for case in range(5)
            if (profiles[case], personalities[case]) == (p, q)
        ]
        for turn in range(4):
            scored = [values[case, turn] for case in listed if not np.isnan(values[case, turn])]
            expected = sum(scored) / len(scored) if scored else np.nan
            assert row[turn] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(means).any()  # some resample holds the missing cell only


def test_counts_add_up_and_repeat_with_the_seed():
    counts = level_counts(7, 300, np.random.default_rng(0))
    np.testing.assert_array_equal(counts.sum(axis=1), 7)
    np.testing.assert_array_equal(counts, level_counts(7, 300, np.random.default_rng(0)))
    assert abs(counts.mean(axis=0) - 1).max() < 5 * np.sqrt((6 / 7) / 300)  # variance of one count is 1 - 1/7


def test_a_single_level_always_counts_once():
    weights = two_way_weights(np.zeros(4, int), np.arange(4), resamples=20, seed=0)
    np.testing.assert_array_equal(weights.sum(axis=1), 4)


def test_percentiles_leave_out_what_is_undefined():
    values = np.array([np.nan, *range(101)], dtype=float)
    assert percentile_interval(values, 0.9) == pytest.approx((5.0, 95.0))
    assert percentile_interval(np.full(3, np.nan), 0.9) is None


def crossed_effects(levels, rng):
    """Levels of each case of a full crossing, and trials of score = profile + personality + case effect, truth 0."""
    profiles, personalities = (index.ravel() for index in np.indices(levels))
    by_profile, by_personality = rng.normal(size=(300, levels[0])), rng.normal(size=(300, levels[1]))
    trials = by_profile[:, profiles] + by_personality[:, personalities] + rng.normal(size=(300, profiles.size))
    return profiles, personalities, trials


def coverage(trials, weights):
    """Share of trials whose nominal 95 % interval of the mean covers the truth, 0."""
    intervals = [percentile_interval(weighted_means(scores[:, None], weights)[:, 0], 0.95) for scores in trials]
    return np.mean([low <= 0.0 <= high for low, high in intervals])


# Bounds: the coverage stated in eval/benchmark/statistics.py (94 %, 82 %), plus or minus three standard errors of 300
# trials, 3 x sqrt(0.94 x 0.06 / 300) = 0.04 and 3 x sqrt(0.82 x 0.18 / 300) = 0.07.
@pytest.mark.parametrize(("levels", "lowest", "highest"), [((20, 20), 0.90, 0.98), ((3, 2), 0.75, 0.89)])
def test_coverage_on_crossed_random_effects(levels, lowest, highest):
    profiles, personalities, trials = crossed_effects(levels, np.random.default_rng(0))
    weights = two_way_weights(profiles, personalities, resamples=400, seed=1)
    assert lowest <= coverage(trials, weights) <= highest


def test_resampling_cases_one_by_one_would_hide_most_of_the_variance():
    """Over 20 x 20 cases the mean has variance 1/20 + 1/20 + 1/400 = 0.1025; case by case it looks like 3/400. So the
    interval is 0.27 times as wide as it should be and holds the truth in P(|z| < 1.96 x 0.27) = 40 % of trials."""
    rng = np.random.default_rng(0)
    _, _, trials = crossed_effects((20, 20), rng)
    one_by_one = level_counts(400, 400, rng).astype(float)
    assert coverage(trials, one_by_one) < 0.40 + 0.085

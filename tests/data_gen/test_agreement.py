"""Agreement coefficients against published libraries, hand-computed numbers and their invariants.

The reference numbers of `RATINGS` are from scikit-learn 1.9.1, krippendorff 0.9.0 and irrCAC 0.4.4:

    cohen_kappa_score(a, b, labels=[1, 2, 3, 4, 5], weights=None | "linear" | "quadratic")  # the first ten items
    krippendorff.alpha(RATINGS, level_of_measurement="nominal" | "ordinal" | "interval")
    CAC(pandas.DataFrame(RATINGS.T), weights="identity" | "linear" | "quadratic", categories=[1, 2, 3, 4, 5],
        digits=12).gwet()["est"]["coefficient_value"]
"""

import numpy as np
import pytest

from data_gen.agreement import gwet_ac2, krippendorff_alpha, weighted_kappa

NONE = np.nan
RATINGS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 5, NONE, 4],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 4, NONE],
        [2, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
    ]
)
SCALE = (1, 2, 3, 4, 5)
KAPPA = {"nominal": 0.4871794871794871, "linear": 0.6212121212121212, "quadratic": 0.7482014388489209}
ALPHA = {"nominal": 0.5616966580976863, "ordinal": 0.5998187340779934, "interval": 0.68215994531784}
AC2 = {"nominal": 0.549075251982, "linear": 0.656691134952, "quadratic": 0.730511768517}


@pytest.mark.parametrize("weights", KAPPA)
def test_weighted_kappa_of_the_library(weights):
    assert weighted_kappa(RATINGS[0], RATINGS[2], weights, SCALE) == pytest.approx(KAPPA[weights], abs=1e-12)
    assert weighted_kappa(RATINGS[2], RATINGS[0], weights) == pytest.approx(KAPPA[weights], abs=1e-12)


@pytest.mark.parametrize("metric", ALPHA)
def test_alpha_of_the_library(metric):
    assert krippendorff_alpha(RATINGS, metric) == pytest.approx(ALPHA[metric], abs=1e-12)
    assert krippendorff_alpha(RATINGS[::-1, ::-1], metric) == pytest.approx(ALPHA[metric], abs=1e-12)


@pytest.mark.parametrize("weights", AC2)
def test_ac2_of_the_library(weights):
    assert gwet_ac2(RATINGS, weights, SCALE) == pytest.approx(AC2[weights], abs=1e-11)
    assert gwet_ac2(RATINGS[::-1, ::-1], weights, SCALE) == pytest.approx(AC2[weights], abs=1e-11)


def test_quadratic_kappa_by_hand():
    """Ratings 1 1 2 3 and 1 2 2 3 on 1..3, d = half the distance: observed 1 - (1/4)/4 = 15/16. Shares 1/2 1/4 1/4 and
    1/4 1/2 1/4: one apart with probability 1/4 + 1/16 + 1/16 + 1/8 = 1/2, two apart with 1/8 + 1/16 = 3/16, so chance
    is 1 - 1/8 - 3/16 = 11/16 and kappa (4/16) / (5/16)."""
    assert weighted_kappa(np.array([1, 1, 2, 3]), np.array([1, 2, 2, 3]), "quadratic") == pytest.approx(0.8)


def test_ac1_holds_where_kappa_collapses():
    """Ten items, nine judged good by both, one by the first alone: kappa is 0 although they agree on 90 %. AC1: p =
    19/20, chance 2 x 19/20 x 1/20 = 0.095, (0.9 - 0.095) / 0.905."""
    first, second = np.ones(10), np.array([1.0] * 9 + [0.0])
    assert weighted_kappa(first, second) == pytest.approx(0)
    assert gwet_ac2(np.stack([first, second])) == pytest.approx(0.805 / 0.905)


@pytest.mark.parametrize("kind", ["nominal", "linear", "quadratic"])
def test_perfect_agreement_is_one(kind):
    same = np.array([1.0, 2.0, 5.0, 5.0])
    assert weighted_kappa(same, same, kind) == gwet_ac2(np.stack([same, same]), kind) == 1
    assert krippendorff_alpha(np.stack([same, same]), "ordinal") == 1


def test_undefined_without_two_ratings_or_two_values():
    alone = np.array([[1.0, NONE], [NONE, 2.0]])
    assert weighted_kappa(*alone) is gwet_ac2(alone) is krippendorff_alpha(alone) is None
    equal = np.full((2, 3), 4.0)
    assert weighted_kappa(*equal) is gwet_ac2(equal) is krippendorff_alpha(equal) is None
    assert gwet_ac2(equal, scale=SCALE) == 1


def test_a_rating_beside_the_scale_is_an_error():
    with pytest.raises(ValueError, match="rating 6 is not on the scale"):
        weighted_kappa(np.array([1, 6]), np.array([1, 2]), "linear", SCALE)

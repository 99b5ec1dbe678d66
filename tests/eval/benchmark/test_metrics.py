"""The figures against published rows, hand-computed numbers and their invariants."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from aloe_jax.errors import InputError
from eval.benchmark.figures import figures, improvement_rate, is_flat, normalised, r_squared
from eval.benchmark.metrics import Metrics, metrics
from eval.benchmark.scores import ScoreRecord
from eval.benchmark.truth import metrics_file

# arXiv 2505.15456: AL(1..10) of one model before and after DPO, with the N-IR and N-R2 printed beside them.
PUBLISHED = [
    ([0, 18.92, 10.81, 9.46, 9.46, 1.35, 9.46, 9.46, 6.76, 4.05], -0.020, 0.047),
    ([6.76, 14.86, 54.05, 55.41, 70.27, 70.27, 60.81, 58.11, 55.41, 52.70], 0.070, 0.389),
]
KEYS = {"AL", "average", "IR", "R2", "N_IR", "N_R2"}


def crossed(values, profiles=2, personalities=2):
    """Records of a full crossing; `values(p, q, k)` is the score of profile p, personality q at turn k (from 1)."""
    turns = range(1, 4)
    return [
        ScoreRecord(case=f"{p}/{q}", profile=f"p{p}", personality=f"q{q}", turn=k, score=values(p, q, k))
        for p in range(profiles)
        for q in range(personalities)
        for k in turns
    ]


@pytest.mark.parametrize(("curve", "n_ir", "n_r2"), PUBLISHED)
def test_published_rows(curve, n_ir, n_r2):
    row = figures(np.array(curve))
    assert row["N_IR"] == pytest.approx(n_ir, abs=0.0005)
    assert row["N_R2"] == pytest.approx(n_r2, abs=0.0005)


def test_by_hand():
    """AL = 1, 2, 4: mean 7/3; x - mean = -1, 0, 1, so slope = (4 - 1) / 2 = 1.5; SS_total = 16/9 + 1/9 + 25/9 = 42/9,
    SS_line = 1.5^2 * 2 = 4.5, R2 = 40.5/42 = 27/28; range 3, so N-IR = 0.5."""
    row = figures(np.array([1.0, 2.0, 4.0]))
    assert row["average"] == pytest.approx(7 / 3)
    assert row["IR"] == pytest.approx(1.5)
    assert row["R2"] == pytest.approx(27 / 28)
    assert row["N_IR"] == pytest.approx(0.5)


def test_stretching_changes_neither_r2_nor_the_normalised_figures():
    curves = np.random.default_rng(0).uniform(1, 5, size=(200, 10))
    row = figures(curves)
    np.testing.assert_allclose(row["N_R2"], row["R2"], rtol=1e-9)
    np.testing.assert_allclose(figures(7 * curves + 3)["N_IR"], row["N_IR"], rtol=1e-9)
    np.testing.assert_allclose(figures(curves[:, ::-1])["IR"], -row["IR"], rtol=1e-9)
    slopes = [np.polyfit(np.arange(1, 11), curve, 1)[0] for curve in curves]
    np.testing.assert_allclose(row["IR"], slopes, rtol=1e-9)


def test_straight_line_over_ten_turns():
    line = 2.0 + 0.3 * np.arange(10)
    assert figures(line)["N_IR"] == pytest.approx(1 / 9)
    assert 1 - 1e-12 <= r_squared(line) <= 1


def test_range_of_n_ir_over_ten_turns():
    """The slope is linear in the curve, so its extremes over [0, 1]^10 lie at the 1,024 corners: 12.5 / 82.5."""
    corners = np.array(list(itertools.product([0.0, 1.0], repeat=10))[1:-1])
    slopes = improvement_rate(normalised(corners))
    assert slopes.max() == pytest.approx(12.5 / 82.5)
    assert slopes.min() == pytest.approx(-12.5 / 82.5)
    assert round(12.5 / 82.5, 4) == 0.1515


@pytest.mark.parametrize("level", [0.0, 3.0, 0.1 + 0.2])
def test_a_flat_curve_has_a_slope_but_nothing_normalised(level):
    result = metrics(crossed(lambda p, q, k: level))
    assert abs(result.IR) < 1e-12
    assert (result.R2, result.N_IR, result.N_R2) == (None, None, None)
    assert (result.ci.R2, result.ci.N_IR, result.ci.N_R2) == (None, None, None)
    assert result.bootstrap.flat == result.bootstrap.resamples


def test_rounding_does_not_make_a_curve_rise():
    """0.1 + 0.2 + 0.3 summed in two orders differs in the last bit; the means are the same number."""
    assert is_flat(np.array([(0.1 + 0.2 + 0.3) / 3, (0.3 + 0.2 + 0.1) / 3]))
    assert (0.1 + 0.2 + 0.3) / 3 != (0.3 + 0.2 + 0.1) / 3
    assert not is_flat(np.array([3.0, 3.001]))


def test_one_turn_has_an_average_only():
    records = [record for record in crossed(lambda p, q, k: float(p + q)) if record.turn == 1]
    result = metrics(records)
    assert result.AL == (1.0,)
    assert result.average == 1.0
    assert (result.IR, result.R2, result.N_IR, result.N_R2) == (None, None, None, None)


def test_unscored_replies_are_left_out_and_counted():
    """Turn 2 of one of four cases unscored: AL(2) is the mean of the other three, 2 + (0 + 1 + 2) / 3."""
    order = {(0, 0): 0, (0, 1): 1, (1, 0): 2, (1, 1): 3}
    result = metrics(crossed(lambda p, q, k: None if (p, q, k) == (1, 1, 2) else float(order[p, q] + k)))
    np.testing.assert_allclose(result.AL, (2.5, 3.0, 4.5))
    assert (result.cases, result.turns, result.unscored) == (4, 3, 1)


def test_a_turn_with_nothing_scored_leaves_no_curve():
    result = metrics(crossed(lambda p, q, k: None if k == 2 else 3.0))
    assert result.AL == (3.0, None, 3.0)
    assert result.ci.AL == ((3.0, 3.0), None, (3.0, 3.0))
    assert (result.average, result.IR, result.N_IR) == (None, None, None)
    assert result.bootstrap.empty == result.bootstrap.resamples


def test_intervals_hold_the_estimate_and_repeat_with_the_seed():
    rng = np.random.default_rng(1)
    records = crossed(lambda p, q, k: float(rng.integers(1, 6)) + k, profiles=6, personalities=4)
    result = metrics(records, seed=5)
    assert metrics(records[::-1], seed=5) == result
    assert metrics(records, seed=6) != result
    for name in ("average", "IR"):
        low, high = getattr(result.ci, name)
        assert low < getattr(result, name) < high
    narrow = metrics(records, seed=5, level=0.5).ci.average
    assert result.ci.average[0] < narrow[0] < narrow[1] < result.ci.average[1]


def test_one_case_has_no_interval_and_one_profile_has_that_of_its_personalities():
    """Two personalities at 0 and 1: mean 1/2, standard error sqrt(1/2 / 2) = 1/2, one degree of freedom, whose t
    quantile is tan(0.475 pi) = 12.706."""
    alone = metrics(crossed(lambda p, q, k: float(k), profiles=1, personalities=1))
    assert alone.IR == 1.0
    assert alone.ci.IR is None
    assert alone.ci.AL == (None, None, None)
    one = metrics(crossed(lambda p, q, k: float(q), profiles=1, personalities=2))
    assert one.bootstrap.profiles == 1
    assert one.ci.average == pytest.approx((0.5 - 0.5 * np.tan(0.475 * np.pi), 0.5 + 0.5 * np.tan(0.475 * np.pi)))
    assert one.ci.AL[0] == (0.0, 1.0)  # both draws of two personalities alike: a quarter of the resamples each way


def test_methods_of_the_intervals_are_told():
    made = metrics(crossed(lambda p, q, k: float(p + q * k))).bootstrap
    assert {name for name, method in made.methods.items() if method == "variance components"} == {"average", "IR"}
    assert set(made.methods) == KEYS


def test_the_second_scale_stands_beside_the_first(tmp_path):
    """Every reply is one point lower on the scale `persona`; one of them is unscored there."""
    records = crossed(lambda p, q, k: float(p + q * k))
    both = [record.model_copy(update={"score_persona": record.score - 1}) for record in records]
    both[0] = both[0].model_copy(update={"score_persona": None})
    result = metrics(both)
    assert result.persona.AL[1:] == pytest.approx([level - 1 for level in result.AL[1:]])
    assert (result.unscored, result.persona.unscored) == (0, 1)
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(record.model_dump_json() + "\n" for record in both))
    content = metrics_file(path)
    assert set(content["persona"]) | {"persona"} == set(content)
    assert metrics_file(path, scale="persona") == content["persona"]
    assert metrics_file(path, scale="shown") | {"persona": content["persona"]} == content
    assert Metrics.model_validate_json(json.dumps(content, allow_nan=False)) == result
    path.write_text("".join(record.model_dump_json() + "\n" for record in records))
    assert "persona" not in metrics_file(path)
    with pytest.raises(InputError, match="has no score_persona in any line; use --scale=shown"):
        metrics_file(path, scale="persona")


def test_metrics_file_is_the_content_of_metrics_json(tmp_path):
    records = crossed(lambda p, q, k: float(p + q * k))
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(record.model_dump_json() + "\n" for record in records))
    content = metrics_file(path)
    assert set(content) >= KEYS | {"ci", "cases", "unscored", "turns"}
    assert set(content["ci"]) == KEYS
    assert len(content["AL"]) == len(content["ci"]["AL"]) == content["turns"] == 3
    assert Metrics.model_validate_json(json.dumps(content, allow_nan=False)) == metrics(records)


def test_measuring_needs_no_accelerator_library():
    code = "import sys, eval.benchmark.truth, eval.report, eval.compare.text; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

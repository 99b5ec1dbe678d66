"""Coverage of the benchmark's 95 % intervals in simulations with crossed random effects whose truth is known.

    PYTHONPATH=tests uv run python tests/long/coverage.py

A reply's score is  profile + personality + case + noise, the true mean 0; each effect has a level and a slope per turn
of its own. A scenario gives the standard deviations of the levels of profile, personality and case; that of the noise
is 1, slopes have a tenth of their level's. Two models are paired whose effects correlate by 0.8: under `null` none is
better, under `effect` the second gains 0.5 + 0.05 per turn, times a factor that differs by profile and personality
(standard deviation 0.5 each). `power` is the share of runs that find this effect. Corrected scores: a reply is good
above a threshold, the binary judge has known error rates, the graded one a known bias, and three replies in ten, 40 at
least, have labels. Exit 1 where a figure of the required layouts lies outside 92 to 98 %.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from scipy.special import ndtr, stdtrit

from aloe_jax.errors import InputError
from eval.benchmark.corrected import corrected
from eval.benchmark.crossed import average_weights, influences, layout_of, slope_weights, variance
from helpers.score_tables import crossed_table

TURNS = 10
REQUIRED = ((5, 3), (20, 5), (20, 20))
FURTHER = ((3, 2), (4, 3), (20, 2))
SCENARIOS = {
    "none": (0.0, 0.0, 0.0),
    "even": (0.5, 0.5, 0.5),
    "profiles": (1.0, 0.2, 0.5),
    "personalities": (0.2, 1.0, 0.5),
}
CORRELATION = 0.8
SENSITIVITY, SPECIFICITY = 0.85, 0.75
LABELLED = 0.3  # share of the replies, 40 at least
THRESHOLD = 0.5  # of a good reply
BIAS = 0.3  # of the graded judge, whose noise has a standard deviation of 0.5
LOW, HIGH = 92.0, 98.0
TOLD = ("power", "raw, binary", "refused")  # no coverage, or that of an interval that is not meant to hold the truth


def effects(rng: np.random.Generator, runs: int, levels: tuple[int, int], spread: tuple[float, ...]) -> np.ndarray:
    """Random levels and slopes [runs, profiles, personalities, turns]: slopes have a tenth of the levels' spread."""
    centred = np.arange(TURNS) - (TURNS - 1) / 2
    total = np.zeros((runs, *levels, TURNS))
    for deviation, shape in zip(spread, ((levels[0], 1), (1, levels[1]), levels), strict=True):
        level, slope = deviation * rng.normal(size=(2, runs, *shape, 1))
        total = total + level + 0.1 * slope * centred
    return total


def covers(scores: np.ndarray, weights: np.ndarray, truth: float) -> tuple[np.ndarray, np.ndarray]:
    """Which runs' intervals of a linear figure hold the truth, and which find it to differ from zero."""
    runs, profiles, personalities, turns = scores.shape
    flat = scores.reshape(runs, profiles * personalities, turns)
    layout = layout_of(*(index.ravel() for index in np.indices((profiles, personalities))))
    squares, df = variance(layout, influences(flat, weights))
    value, half = flat.mean(axis=1) @ weights, stdtrit(df, 0.975) * np.sqrt(squares)
    return np.abs(value - truth) <= half, np.abs(value) > half


def judged(rng: np.random.Generator, good: np.ndarray) -> np.ndarray:
    """A judge's 0 or 1 for replies that are good or not."""
    return np.where(rng.random(good.shape) < np.where(good, SENSITIVITY, 1 - SPECIFICITY), 1.0, 0.0)


def corrections(rng: np.random.Generator, scores: np.ndarray, spread: tuple[float, ...]) -> dict[str, float]:
    """Coverage of the corrected scores and of the raw binary ones, in per cent of the runs that were not refused."""
    centred = np.arange(TURNS) - (TURNS - 1) / 2
    deviation = np.sqrt(1 + np.square(spread).sum() * (1 + 0.01 * centred**2))
    share = float(ndtr(-THRESHOLD / deviation).mean())
    hits, refused = np.zeros(3), 0
    for each in scores:
        truth = each.reshape(-1, TURNS)
        chosen = np.zeros(truth.size, dtype=bool)
        chosen[rng.choice(truth.size, max(40, round(LABELLED * truth.size)), replace=False)] = True
        labelled = np.where(chosen.reshape(truth.shape), truth, np.nan)
        graded = corrected(crossed_table(each + BIAS + 0.5 * rng.normal(size=each.shape)), labelled, "graded")
        labels = np.where(np.isnan(labelled), np.nan, labelled > THRESHOLD)
        try:
            binary = corrected(crossed_table(judged(rng, each > THRESHOLD)), labels, "binary")
        except InputError:  # no label of one kind, or a judge that looks no better than chance
            refused += 1
            continue
        for column, (interval, true) in enumerate(
            ((binary.interval, share), (graded.interval, 0.0), (binary.raw_interval, share))
        ):
            hits[column] += interval[0] <= true <= interval[1]
    names = ("corrected, binary", "corrected, graded", "raw, binary")
    return dict(zip(names, 100 * hits / (len(scores) - refused), strict=True)) | {
        "refused": 100 * refused / len(scores)
    }


def figures_of(rng: np.random.Generator, levels: tuple[int, int], spread: tuple[float, ...], runs: int) -> dict:
    """The coverages of one layout in one scenario, in per cent."""
    shared = effects(rng, runs, levels, spread)
    noise = rng.normal(size=(2, *shared.shape))
    first = shared + noise[0]
    own = np.sqrt(1 - CORRELATION**2) * effects(rng, runs, levels, spread)
    second = CORRELATION * shared + own + noise[1]
    average, slope = average_weights(TURNS), slope_weights(TURNS)
    gain = 0.5 + 0.05 * np.arange(TURNS)
    null = second - first
    varying = 1 + 0.5 * rng.normal(size=(runs, levels[0], 1, 1)) + 0.5 * rng.normal(size=(runs, 1, levels[1], 1))
    effect = null + varying * gain
    found = {
        "average": covers(first, average, 0.0)[0],
        "IR": covers(first, slope, 0.0)[0],
        "null": covers(null, average, 0.0)[0],
        "null, IR": covers(null, slope, 0.0)[0],
        "effect": covers(effect, average, gain.mean())[0],
        "effect, IR": covers(effect, slope, 0.05)[0],
        "power": covers(effect, average, 0.0)[1],
    }
    figures = {name: 100 * float(held.mean()) for name, held in found.items()}
    return figures | corrections(rng, first, spread)


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--runs", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--scenarios", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    chosen = options.parse_args()
    started, outside = time.perf_counter(), []
    for levels in (*REQUIRED, *FURTHER):
        for name in chosen.scenarios:
            figures = figures_of(np.random.default_rng([chosen.seed, *levels]), levels, SCENARIOS[name], chosen.runs)
            if levels == REQUIRED[0] and name == chosen.scenarios[0]:
                print("| layout | effects |", " | ".join(figures), "|")
                print("|---" * (2 + len(figures)) + "|")
            print(
                f"| {levels[0]} x {levels[1]} | {name} |",
                " | ".join(f"{x:.1f}" for x in figures.values()),
                "|",
                flush=True,
            )
            missed = [key for key, x in figures.items() if key not in TOLD and not LOW <= x <= HIGH]
            outside += [f"{levels[0]} x {levels[1]} {name}: {key} {figures[key]:.1f}" for key in missed]
    print(f"{chosen.runs} simulations each, {time.perf_counter() - started:.0f} s")
    failed = [line for line in outside if line.startswith(tuple(f"{a} x {b} " for a, b in REQUIRED))]
    print("outside 92 to 98 %:", "; ".join(outside) or "none")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

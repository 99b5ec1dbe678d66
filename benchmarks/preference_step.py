"""Times a reference pass and a DPO step with AdamW on one conversation of ten turns, against TRL where it is installed.

    uv run python benchmarks/preference_step.py                                # SmolLM2-135M, f32, all cores
    uv run python benchmarks/preference_step.py --trl-python=ENV/bin/python    # TRL from an environment of its own
    uv run python benchmarks/preference_step.py --check                        # only the comparison of the numbers
    uv run python benchmarks/preference_step.py --trl-recompute                # TRL keeps no activations

`pip install torch==2.13.0 trl==1.16.0 transformers==5.23.0` makes such an environment.

Both sides start from the same perturbed policy, with the unperturbed model as reference, and get the same token ids:
ours as one row, TRL's `DPOTrainer` as ten prompt/chosen/rejected records, that is twenty sequences. Each runs in a
process of its own, which waits while the other works, so steps alternate and the peak memory is that of one side. The
first step of each compiles or warms up; it is not timed, and its log-probabilities, loss and gradient norm are
compared. A step is the forward pass of the reference, forward and backward of the policy, and the AdamW update. Each
side does what its training does by default: ours holds the reference model during its pass only, TRL's all the time.
TRL needs 23 GB where it keeps its activations; give a machine of 24 some swap, to which our side moves while it waits.

Useful floating-point operations are those of the matrix products that the result needs: unmasked query-key pairs,
states that predict a target, no recomputation; the backward pass counts twice the forward pass.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from worker import Worker, missing_modules

from aloe_jax import files
from aloe_jax.models.decoder import REMAT

# Both sides compute in f32. A reply's log-probability is a sum of some fifty terms of order 1 to 10, each good to 1e-6.
TOLERANCE = 1e-3
OURS, TRL = "preference_step_ours.py", "preference_step_trl.py"
MODULES = ("torch", "trl", "transformers")


@dataclass(frozen=True)
class Step:
    """What a side answers to one step."""

    seconds: float
    cpu_seconds: float
    loss: float
    grad_norm: float
    log_probs: Sequence[float]  # of chosen and rejected in turn
    peak_bytes: int
    swapped_pages: int  # read back from disk
    efficiency: float | None = None  # useful FLOP/s over those of a matrix product beside it


@dataclass(frozen=True)
class Timing:
    """What a side took: medians over its timed steps, and the extremes that matter."""

    seconds: float
    all_seconds: Sequence[float]
    cpu_seconds: float
    peak_bytes: int
    swapped_pages: int
    efficiency: float | None
    tokens: int


@dataclass(frozen=True)
class Spread:
    """Median and extremes of some numbers."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Ratio:
    """TRL's seconds over ours: of the medians, and of neighbouring steps."""

    medians: float
    neighbours: Spread


class Side:
    """One side of the comparison and the steps that it has made."""

    def __init__(self, worker: Worker) -> None:
        self.name, self._worker = worker.name, worker
        self.tokens: int = worker.ready["tokens"]
        self.steps: list[Step] = []

    def step(self) -> Step:
        """Run one step and return its numbers."""
        self.steps.append(Step(**self._worker.ask("step")))
        return self.steps[-1]


def compare(ours: Step, trl: Step) -> dict[str, float]:
    """Differences of the first step: largest of the log-probabilities, of the loss, relative of the gradient norm."""
    pairs = zip(ours.log_probs, trl.log_probs, strict=True)
    return {
        "log_prob": max(abs(left - right) for left, right in pairs),
        "loss": abs(ours.loss - trl.loss),
        "grad_norm": abs(ours.grad_norm - trl.grad_norm) / trl.grad_norm,
    }


def measure(sides: Sequence[Side], repeats: int) -> dict[str, Timing]:
    """Alternate the sides `repeats` times and return the timing of each by name."""
    for _ in range(repeats):
        for side in sides:
            side.step()
    return {side.name: _timing(side.steps[1:], side.tokens) for side in sides}


def _timing(timed: Sequence[Step], tokens: int) -> Timing:
    efficiency = [step.efficiency for step in timed if step.efficiency is not None]
    return Timing(
        seconds=statistics.median(step.seconds for step in timed),
        all_seconds=[step.seconds for step in timed],
        cpu_seconds=statistics.median(step.cpu_seconds for step in timed),
        peak_bytes=timed[-1].peak_bytes,
        swapped_pages=max(step.swapped_pages for step in timed),
        efficiency=statistics.median(efficiency) if efficiency else None,
        tokens=tokens,
    )


def ratio(ours: Timing, theirs: Timing) -> Ratio:
    """How many times as long the other side takes."""
    ratios = [right / left for left, right in zip(ours.all_seconds, theirs.all_seconds, strict=True)]
    neighbours = Spread(statistics.median(ratios), min(ratios), max(ratios))
    return Ratio(theirs.seconds / ours.seconds, neighbours)


def show(console: Console, timings: Mapping[str, Timing], compared: Ratio | None, repeats: int) -> None:
    """Print the measured numbers as a table."""
    table = Table(title=f"reference pass + DPO step with AdamW, median of {repeats}")
    for column in ("", "tokens", "seconds", "least to most", "CPU seconds", "peak memory"):
        table.add_column(column, justify="left" if column == "" else "right")
    for name, row in timings.items():
        spread = f"{min(row.all_seconds):.1f} to {max(row.all_seconds):.1f}"
        numbers = (f"{row.tokens:,}", f"{row.seconds:.1f}", spread, f"{row.cpu_seconds:.1f}")
        table.add_row(name, *numbers, f"{row.peak_bytes / 2**30:.1f} GiB")
    console.print(table)
    for name, row in timings.items():
        if row.efficiency is not None:
            console.print(f"{name}: useful FLOP/s of a step, {row.efficiency:.0%} of a 2048-cubed matmul's beside it")
        if row.swapped_pages:
            console.print(f"{name}: up to {row.swapped_pages:,} pages read from disk in a step, which takes time")
    if compared:
        near = compared.neighbours
        console.print(
            f"ratio of the medians {compared.medians:.1f}, of neighbouring steps {near.median:.1f} "
            f"({near.least:.1f} to {near.most:.1f})"
        )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time a DPO step on one conversation, beside TRL where it is present.")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps of each side (default 3)")
    parser.add_argument("--check", action="store_true", help="compare the numbers of one step, time nothing")
    parser.add_argument(
        "--remat",
        choices=sorted(REMAT),
        default="dots",
        help="what our backward pass computes again (default: dots: all but matrix products and attention)",
    )
    parser.add_argument("--trl-python", default=sys.executable, help="interpreter of an environment that has TRL")
    parser.add_argument(
        "--trl-batch",
        type=int,
        default=5,
        help="pairs TRL computes at a time: 1, 2, 5 or 10 (default 5: it divides ten, its own 8 does not)",
    )
    parser.add_argument(
        "--trl-recompute",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="whether TRL's backward pass computes activations again, its own default; else it keeps them (default)",
    )
    parser.add_argument("--json", type=Path, help="file for the numbers")
    found = parser.parse_args()
    if found.repeats < 1:
        parser.error(f"--repeats is {found.repeats}; expected at least 1")
    if found.trl_batch not in (1, 2, 5, 10):
        parser.error(f"--trl-batch is {found.trl_batch}; expected 1, 2, 5 or 10, which divide the ten pairs")
    return found


def main() -> int:
    """Compare and time the sides; returns 1 if they disagree."""
    args, console = arguments(), Console()
    differences: dict[str, float] = {}
    timings: dict[str, Timing] = {}
    lacking = missing_modules(args.trl_python, MODULES)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        ours = Side(stack.enter_context(Worker("aloe_jax", sys.executable, OURS, folder, args.remat)))
        ours.step()
        sides = [ours]
        if lacking:
            console.print(f"{args.trl_python} has no {', '.join(lacking)}: aloe_jax alone", soft_wrap=True)
        else:
            setup = (folder, str(int(args.trl_recompute)), str(args.trl_batch))
            trl = Side(stack.enter_context(Worker("TRL", args.trl_python, TRL, *setup)))
            sides.append(trl)
            differences = compare(ours.steps[0], trl.step())
        if not args.check:
            timings = measure(sides, args.repeats)
    compared = ratio(*timings.values()) if len(timings) == 2 else None
    for name, value in differences.items():
        console.print(f"difference in {name}: {value:.1e} ({'ok' if value < TOLERANCE else 'TOO LARGE'})")
    if not args.check:
        show(console, timings, compared, args.repeats)
    if args.json:
        result: dict[str, object] = {"differences": differences} if differences else {}
        result |= {name: dataclasses.asdict(timing) for name, timing in timings.items()}
        result |= {"ratio": dataclasses.asdict(compared)} if compared else {}
        result |= {name: getattr(args, name) for name in ("remat", "trl_batch", "trl_recompute")}
        files.write_json(args.json, result)
    return int(any(value >= TOLERANCE for value in differences.values()))


if __name__ == "__main__":
    sys.exit(main())

"""What the paper's whole job costs on slices of 16 chips: adds up the figures of `aloe plan` and prices.

    uv run python benchmarks/job_cost.py

The figures are those of docs/plan.md; docs/scale.md says what each part is and where the prices are from. Replace both
with those of your own plan: seconds of a step are its `estimate`, seconds of a full prefill and tokens per second are
those of `--stage=benchmark`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

CHIPS = 16
CALLS, READ, WRITTEN = 200_000, 900, 60  # tokens of a call
SFT, PREFERENCE, FULL = 70, 827, 37  # steps with the paper's batches, and of an epoch in full rows
RESULTS, DIALOGUES, BENCHMARK_CALLS = 12, 100, 36_000
PREFILL = 16_384  # tokens


@dataclass(frozen=True)
class Slice:
    """A slice: dollars per chip-hour, seconds of a step of each of the four models, of a prefill of Llama-3-8B and of a
    dialogue on one chip, and the tokens per second that it writes."""

    price: float
    steps: tuple[float, ...]
    prefill: float
    tokens: float
    dialogue: float

    def parts(self) -> Mapping[str, float]:
        """Seconds of each part of the job."""
        calls = CALLS * (READ * self.prefill / PREFILL + WRITTEN / self.tokens)
        step = sum(self.steps)
        alike = {
            "reference passes": FULL * step / 4,
            "benchmark": RESULTS * DIALOGUES * self.dialogue / CHIPS + BENCHMARK_CALLS / CALLS * calls,
        }
        found = {"200,000 calls": calls, "SFT": SFT * step, "preference training": PREFERENCE * step, **alike}
        large = calls + 2 * FULL * step + sum(alike.values())
        return {**found, "all": sum(found.values()), "all, with full rows": large}


SLICES = {
    "v5e:4x4": Slice(1.2, (2.47, 2.37, 2.28, 2.25), 0.0837, 14_771, 1.49),
    "v6e:4x4": Slice(2.7, (0.53, 0.51, 0.49, 0.48), 0.037, 31_082, 0.71),
    "v5p:2x2x4": Slice(4.2, (1.06, 1.02, 0.98, 0.97), 0.037, 54_726, 0.42),
}


def main() -> None:
    """Print hours and dollars."""
    table = Table("part", *(f"{name}, {unit}" for name in SLICES for unit in ("hours", "USD")))
    found = {name: each.parts() for name, each in SLICES.items()}
    for part in next(iter(found.values())):
        hours = {name: seconds[part] / 3600 for name, seconds in found.items()}
        cells = ((f"{hours[name]:.2f}", f"{hours[name] * CHIPS * SLICES[name].price:.1f}") for name in SLICES)
        table.add_row(part, *(cell for pair in cells for cell in pair))
    Console().print(table)


if __name__ == "__main__":
    main()

"""Goodput of a training: the share of the time since its first call that went into steps that counted, and where the
rest went, over all calls.

`metrics.jsonl` has the seconds of every step that counts. `starts.jsonl` gets a line as a call begins: when, and what
of the calls before it was lost. Both survive a kill, after which nothing could be written.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from etils import epath
from pydantic import ConfigDict, Field

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.progress import duration
from aloe_jax.train.clock import PARTS
from aloe_jax.train.metrics_log import METRICS, Record, read_metrics
from aloe_jax.tree.schema import Record as Checked
from aloe_jax.tree.schema import parse

STARTS = "starts.jsonl"
STEP, REDONE, IDLE, OTHER = "step", "redone", "between calls", "other"


class Start(Checked):
    """A call that reached its first step or measurement. `time` is when it began and `last` the time of the last line
    of `metrics.jsonl` that it found, both in seconds since the epoch; `redone` are the seconds of the lines that it
    dropped, since no checkpoint had their steps."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    time: float = Field(ge=0)
    last: float | None = None
    redone: float = Field(0.0, ge=0)


@dataclass(frozen=True)
class Goodput:
    """Seconds from the first call's beginning to the last line, by cause, and the number of calls. Causes are the
    steps that counted, the parts of `Clock`, steps done again, the time between calls (and in calls that ended before
    their first line), and the rest, such as a step that a kill cut off."""

    seconds: dict[str, float]
    calls: int

    @property
    def share(self) -> float:
        """The share of the steps that counted."""
        return self.seconds[STEP] / max(sum(self.seconds.values()), 1e-9)

    def text(self) -> str:
        """In words: "87% of 2 h 05 min in 2 calls (between calls 8%, start 3%, ...)", the largest causes first."""
        whole = max(sum(self.seconds.values()), 1e-9)
        lost = sorted((seconds, name) for name, seconds in self.seconds.items() if name != STEP)[::-1]
        causes = ", ".join(f"{name.replace('_', ' ')} {seconds / whole:.0%}" for seconds, name in lost if seconds > 0)
        calls = f"{self.calls} call{'s' if self.calls > 1 else ''}"
        return f"{self.share:.0%} of {duration(whole)} in {calls}" + (f" ({causes})" if causes else "")


def add_start(folder: epath.PathLike, began: float, step: int) -> None:
    """Note a call that began at that time, in seconds since the epoch, and continues after `step`: call it before the
    lines of later steps are dropped."""
    path = epath.Path(folder)
    for name in (METRICS, STARTS):
        files.repair_lines(path / name)
    found = read_metrics(path / METRICS)
    redone = sum(record.get("seconds", 0.0) for record in found if record["step"] > step)
    last = max((record["time"] for record in found if "time" in record), default=None)
    files.append_line(path / STARTS, files.json_line({"time": began, "last": last, "redone": round(redone, 3)}))


def goodput(folder: epath.PathLike) -> Goodput | None:
    """The goodput of a training's folder, up to its last line; None for one without lines, or of a version that did not
    note times."""
    path = epath.Path(folder) / STARTS
    try:
        lines = files.read_json_lines(path) if path.exists() else []
        starts = [parse(Start, files.json_line(line), str(path)) for line in lines]
    except InputError:  # torn by a kill; it is mended when the training continues
        return None
    return goodput_of(starts, read_metrics(epath.Path(folder) / METRICS))


def goodput_of(starts: Sequence[Start], records: Sequence[Record]) -> Goodput | None:
    """The goodput from the calls and the lines of the steps that count; None where either is missing or has no
    times."""
    if not starts or not records or "time" not in records[-1]:
        return None
    seconds = {name: sum(record.get(f"{name}_seconds", 0.0) for record in records) for name in (STEP, *PARTS)}
    seconds[REDONE] = sum(start.redone for start in starts)
    seconds[IDLE] = sum(
        max(0.0, after.time - max(before.time, after.last or 0.0)) for before, after in itertools.pairwise(starts)
    )
    whole = records[-1]["time"] - starts[0].time
    seconds[OTHER] = max(0.0, whole - sum(seconds.values()))
    return Goodput(seconds, len(starts))

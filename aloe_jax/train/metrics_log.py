"""`metrics.jsonl`: one JSON object per step, each step once even after interruptions; trackers get the same figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import cast

from etils import epath

from aloe_jax import files
from aloe_jax.parallel import hosts
from aloe_jax.train.clock import PARTS
from aloe_jax.train.trackers import Tracker

METRICS = "metrics.jsonl"
SECONDS = ("seconds", *(f"{part}_seconds" for part in (*PARTS, "step")))
# Fields that may differ between two runs of the same training.
ROLLOUT_SECONDS = ("rollout_seconds", "scoring_seconds")  # parts of `data_seconds` in on-policy training
TIME_FIELDS = ("time", *SECONDS, *ROLLOUT_SECONDS, "tokens_per_second", "trained_tokens_per_second", "mfu")
Record = Mapping[str, float]  # one line; "step" is the number of the step


class MetricsLog:
    """Appends one line per step. Opening the log at `step` drops the lines of later steps, which will be computed
    again, and a torn last line. Only the primary process writes. Use in a `with` block."""

    def __init__(self, path: epath.PathLike, step: int, trackers: Sequence[Tracker] = ()) -> None:
        """`trackers`, of the primary process, get the same figures; the log closes them."""
        self._path, self._writes, self._trackers = epath.Path(path), hosts.is_primary(), trackers
        self._last: Record = {}
        if not self._writes:
            return
        files.repair_lines(path)
        records = [record for record in read_metrics(path) if record["step"] <= step]
        self._last = records[-1] if records else {}
        files.write_lines(path, map(files.json_line, records))

    def append(self, record: Record) -> None:
        """Write one line. A mean over nothing is NaN, which JSON lacks, so it is written as null, as infinity is."""
        if self._writes:
            files.append_line(self._path, files.json_line(record))
            self._show(record)

    def has(self, name: str) -> bool:
        """Whether the last line that was there at the start has a figure of that name; the same on all processes."""
        return bool(hosts.broadcast_from_primary(int(name in self._last)))

    def amend(self, measured: Record) -> None:
        """Add figures to the last line that was there at the start."""
        if not self._writes or not self._last:
            return
        records = [*read_metrics(self._path)[:-1], {**self._last, **measured}]
        files.write_lines(self._path, map(files.json_line, records))
        self._show({"step": self._last["step"], **measured})

    def _show(self, record: Record) -> None:
        known = {name: each for name, each in record.items() if each is not None and math.isfinite(each)}
        step = int(known.pop("step"))
        known.pop("time", None)  # trackers note when they get a line
        for tracker in self._trackers:
            tracker.show(step, known)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tracker in self._trackers:
            tracker.close()


def read_metrics(path: epath.PathLike) -> Sequence[Record]:
    """The lines of a `metrics.jsonl`; none if the file is missing."""
    return cast(Sequence[Record], files.read_json_lines(path, finite=False)) if epath.Path(path).exists() else []


def time_split(records: Sequence[Record], rest: Mapping[str, float]) -> dict[str, float]:
    """Seconds of a whole training by part: of all its steps, and of the `rest` after the last one."""
    return {name: round(sum(record.get(name, 0.0) for record in (*records, rest)), 3) for name in SECONDS}


def time_shares(seconds: Mapping[str, float]) -> str:
    """The share of each part of the time as text: "step 91%, data 1%, ..."."""
    total, parts = max(seconds["seconds"], 1e-9), ("step", *PARTS)
    return ", ".join(f"{part.replace('_', ' ')} {seconds[f'{part}_seconds'] / total:.0%}" for part in parts)

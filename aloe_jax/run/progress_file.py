"""`progress.json` of a run directory: what the run does now, for `aloe status`."""

from __future__ import annotations

import dataclasses
import time
from typing import Annotated

from etils import epath
from pydantic import ConfigDict, Field

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.progress_row import Row
from aloe_jax.tree.schema import Record, parse

PROGRESS = "progress.json"
Seconds = Annotated[float, Field(ge=0, le=1e11)]  # what a clock can show


class Reading(Record):
    """The fields of a `Row`, when they were written (in seconds since the epoch) and how many seconds this call has
    worked on the stage. Keys of another version are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    time: Seconds
    seconds: Seconds
    name: str
    elapsed: Seconds
    doing: str
    done: int | None
    total: int | None
    unit: str
    figures: tuple[str, ...]
    rates: tuple[str, ...]
    left: Seconds | None


def write_progress(path: epath.Path, row: Row, seconds: float) -> None:
    """Replace the file. `seconds` is how long this call has worked on the stage."""
    files.write_json(path, {"time": time.time(), "seconds": seconds, **dataclasses.asdict(row)})


def read_progress(workdir: epath.PathLike) -> Reading | None:
    """What the file of a run directory says; None if it is missing or is not readable."""
    path = epath.Path(workdir) / PROGRESS
    try:
        return parse(Reading, files.read_text(path), str(path)) if path.exists() else None
    except InputError:
        return None

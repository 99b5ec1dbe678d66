"""Where a run is: its stages, the process that works in it, what it does now and its last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etils import epath

from aloe_jax.bucket.places import stored_at
from aloe_jax.errors import InputError
from aloe_jax.run.lock import Holder, holder
from aloe_jax.run.manifest import find_manifest
from aloe_jax.run.progress_file import Reading, read_progress
from aloe_jax.run.saved import complete_steps, saved_at
from aloe_jax.run.stage import CHECKPOINTS, CONFIG, run_config


@dataclass(frozen=True)
class StageState:
    """A stage that has started, and the working time of all its calls up to now or to the last interruption."""

    name: str
    finished: bool
    seconds: float


@dataclass(frozen=True)
class RunState:
    """A run as its files show it.

    Attributes:
        workdir: its directory.
        holder: the process that works in it, or was killed there; None between two calls.
        stages: those that have started, in order.
        now: what the stage that has not finished did last; None if all have finished, or nothing was written.
        checkpoint: (step, time in seconds since the epoch) of the newest one of that stage.
    """

    workdir: Path
    holder: Holder | None
    stages: tuple[StageState, ...]
    now: Reading | None
    checkpoint: tuple[int, float] | None

    @property
    def alive(self) -> bool | None:
        """Whether a process works in it; None if it is on another host."""
        return False if self.holder is None else self.holder.alive

    @property
    def interrupted(self) -> StageState | None:
        """The first stage that has not finished."""
        return next((stage for stage in self.stages if not stage.finished), None)


def run_state(workdir: Path, stages: Sequence[str]) -> RunState:
    """The state of a run whose stages have these names, in order."""
    found = [(name, find_manifest(workdir / name)) for name in stages]
    started = tuple(StageState(name, each.finished, each.seconds) for name, each in found if each is not None)
    state = RunState(workdir, holder(workdir), started, None, None)
    stage, reading = state.interrupted, read_progress(workdir)
    if stage is None:
        return state
    now = reading if reading is not None and reading.name == stage.name else None
    # The manifest gets the time of a call at its end, which does not come while it works or if it was killed.
    seconds = stage.seconds + (now.seconds if now is not None and state.holder is not None else 0.0)
    started = tuple(StageState(stage.name, False, seconds) if each is stage else each for each in started)
    return RunState(workdir, state.holder, started, now, _checkpoint(workdir / stage.name / CHECKPOINTS))


def find_runs(places: Sequence[Path]) -> list[Path]:
    """The run directories among `places` and, of a folder that is none, those in it. InputError for a place without
    any."""
    found: list[Path] = []
    for place in places:
        inside = sorted(path for path in place.iterdir() if _is_run(path)) if place.is_dir() else []
        if _is_run(place):
            found.append(place)
        elif inside:
            found += inside
        else:
            raise InputError(f"'{place}' is no run directory of `aloe run` and has none in it; name its --workdir")
    return found


def _is_run(folder: Path) -> bool:
    """Whether a folder holds the config of a run."""
    path = epath.Path(folder / CONFIG)
    try:
        return path.is_file() and run_config(path) is not None
    except InputError:
        return False


def _checkpoint(folder: Path) -> tuple[int, float] | None:
    found = stored_at(folder)
    steps = complete_steps(found)
    if not steps:
        return None
    try:
        return steps[-1], saved_at(found / str(steps[-1]))
    except OSError:  # replaced by the next one in this moment
        return steps[-1], time.time()

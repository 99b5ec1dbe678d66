"""`aloe status`: what runs do, in words."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from aloe_jax.bucket.reading import readable
from aloe_jax.run.manifest import MANIFEST
from aloe_jax.run.progress import duration, time_of_day
from aloe_jax.run.progress_file import PROGRESS, Reading
from aloe_jax.run.stage import CONFIG
from aloe_jax.run.status import RunState, find_runs, run_state
from aloe_jax.train.goodput import STARTS, goodput
from aloe_jax.train.metrics_log import METRICS
from aloe_jax.train.names import CHAIN
from data_gen.calls.status import STATUS, show_panel

STALE = 120.0  # seconds without a sign after which a run on another host may have ended


def show_status(places: Sequence[str], stages: Sequence[str], console: Console) -> None:
    """Print the state of every run among the `places`, and of a single one its stages and the panel of its
    conversations. Raises InputError for a place without a run."""
    given = {Path(readable(place, _shown)): place for place in places}
    runs = find_runs(list(given))
    for workdir in runs:
        state = run_state(workdir, stages)
        console.print(Text(f"{given.get(workdir, workdir)}: {headline(state)}"), soft_wrap=True)
        if len(runs) == 1:
            for stage in state.stages:
                told = "finished" if stage.finished else "working" if state.alive is not False else "interrupted"
                console.print(Text(f"  {stage.name:<13} {told:<11} {duration(stage.seconds):>12}"))
        for line in (*details(state), *goodputs(state)):
            console.print(Padding(Text(line), (0, 0, 0, 2)))
        if len(runs) == 1 and state.stages and state.stages[-1].name == "conversations":
            show_panel(workdir, console)


def _shown(name: str) -> bool:
    """Whether a file of a run in a bucket is read here."""
    return name.rpartition("/")[2] in (CONFIG, MANIFEST, PROGRESS, STATUS, STARTS, METRICS)


def headline(state: RunState) -> str:
    """Whether somebody works in the run: "running, process 123, since 14:02"."""
    if state.holder is not None and state.alive is not False:
        sign = "" if state.alive else f", last sign {_age(state)} ago{_doubt(state)}"
        return f"running, {state.holder.named()}, since {time_of_day(state.holder.since)}{sign}"
    if (stage := state.interrupted) is not None:
        how = f"killed ({state.holder.named()})" if state.holder is not None else "stopped"
        return f"{how} in {stage.name}; the same command continues"
    if not state.stages:
        return "not started"
    return f"not running; finished up to {state.stages[-1].name}"


def details(state: RunState) -> list[str]:
    """What the current stage does or did last, and its newest checkpoint."""
    found, now = [], state.now
    if now is not None:
        parts = [_doing(now)] if now.doing and state.alive is not False else []
        if now.total is not None:
            parts += [f"{now.done}/{now.total} {now.unit}", *now.figures, *now.rates]
        if now.left is not None and state.alive is not False:
            parts.append(f"{duration(now.left)} left")
        if parts:
            found.append(f"{now.name}: {', '.join(parts)} (as of {time_of_day(now.time)})")
    if state.checkpoint is not None:
        step, saved = state.checkpoint
        found.append(f"last checkpoint: step {step}, of {time_of_day(saved)}")
    return found


def goodputs(state: RunState) -> list[str]:
    """The goodput of each training that has started."""
    found = [(stage.name, goodput(state.workdir / stage.name)) for stage in state.stages if stage.name in CHAIN]
    return [f"{name}: goodput {reached.text()}" for name, reached in found if reached is not None]


def _doing(now: Reading) -> str:
    return now.doing if now.elapsed < 1 else f"{now.doing} for {duration(now.elapsed)}"


def _age(state: RunState) -> str:
    return duration(max(time.time() - state.now.time, 0.0)) if state.now else "an unknown time"


def _doubt(state: RunState) -> str:
    """What an old sign of another host means."""
    if state.now is not None and time.time() - state.now.time < STALE:
        return ""
    return "; it may have ended there"

"""The stage `report`: one page about the run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from aloe_jax.run.manifest import Values, find_manifest
from aloe_jax.run.stage import Run, Stage
from eval.report import INDEX, NAME, write_report


def report_stage(stages: Sequence[str]) -> Stage:
    """The stage at the end of a pipeline of these stages, by name and in order, its own included."""

    def work(run: Run) -> Values:
        return {"bytes": write_report(run.workdir, stages=stages).stat().length}

    return Stage(NAME, _needs, (), work, partial(_others, stages), outputs=(INDEX,), derived=True)


def _needs(run: Run) -> tuple[str, ...]:
    """The finished stages whose settings and files are checked before the report is written."""
    stages = run.section("stages", tuple)
    wanted = [name for name in ("benchmark", "export") if not stages or name in stages]
    return tuple(name for name in wanted if (found := find_manifest(run.directory(name))) and found.finished)


def _others(stages: Sequence[str], run: Run) -> dict[str, str]:
    """What else the page shows: the state of every other stage that has started, which may be unfinished."""
    checked = (*_needs(run), NAME)
    found = {name: find_manifest(run.directory(name)) for name in stages if name not in checked}
    return {name: f"{each.identity} {each.status} {each.seconds}" for name, each in found.items() if each}

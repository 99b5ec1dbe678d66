"""The stage `report`: one page about the run."""

from __future__ import annotations

from collections.abc import Sequence

from aloe_jax.run.manifest import Values
from aloe_jax.run.stage import Run, Stage
from eval.report import INDEX, NAME, write_report


def report_stage(stages: Sequence[str]) -> Stage:
    """The stage at the end of a pipeline of these stages, by name and in order, its own included."""

    def work(run: Run) -> Values:
        return {"bytes": write_report(run.workdir, stages=stages).stat().length}

    return Stage(NAME, _needs, (), work, outputs=(INDEX,), derived=True)


def _needs(run: Run) -> tuple[str, ...]:
    """The stages that the report is written after, of those that the config runs."""
    stages = run.section("stages", tuple)
    return tuple(name for name in ("benchmark", "export") if not stages or name in stages)

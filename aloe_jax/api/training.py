"""The stages of an experiment, run from Python."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from aloe_jax import settings
from aloe_jax.api.models import Model, load
from aloe_jax.api.records import Tree, write_trees
from aloe_jax.cli.experiment import Experiment, load_experiment, read_experiment
from aloe_jax.cli.running import pipeline
from aloe_jax.data.settings import TREES
from aloe_jax.errors import InputError
from aloe_jax.plan.remat import decide_remat, interrupted_remat
from aloe_jax.run.in_bucket import folder_of, working
from aloe_jax.run.progress import Progress
from aloe_jax.run.progress_file import PROGRESS
from aloe_jax.run.stage import Run, run_stages
from aloe_jax.train.metrics_log import read_metrics
from aloe_jax.train.names import CHAIN

__all__ = ["Trained", "train_model"]

STAGES = ("dataset", *CHAIN)
OWN_TREES = "trees.jsonl"  # in the run directory: the trees that were given as records


@dataclass(frozen=True)
class Trained:
    """A run: its directory, and the stages that were asked for."""

    workdir: Path
    stages: tuple[str, ...]

    def metrics(self, stage: str = "") -> list[dict[str, float]]:
        """The figures of every step of a training, as in its `metrics.jsonl`; by default of the last one."""
        return [dict(line) for line in read_metrics(self.workdir / (stage or self._last()) / "metrics.jsonl")]

    def load(self, stage: str = "") -> Model:
        """The model that came out of a training, by default the last one. Raises InputError as `aloe_jax.load`."""
        return load(self.workdir / (stage or self._last()))

    def _last(self) -> str:
        found = [stage for stage in self.stages if stage in CHAIN]
        if not found:
            raise InputError(f"stages: {', '.join(self.stages)} hold no training; name one")
        return found[-1]


def train_model(
    config: Mapping[str, object] | str,
    workdir: str | os.PathLike[str],
    *,
    trees: Iterable[Tree] | str | os.PathLike[str] | None = None,
    stages: Sequence[str] | str = STAGES,
    fresh: bool = False,
    progress: bool = False,
) -> Trained:
    """Run `stages` of an experiment in `workdir`, as `aloe run` does: finished ones are skipped, interrupted ones go
    on.

    Args:
        config: settings by section, `{"model": {"source": "embedded:smollm2"}, "sft": {"epochs": 1}}`, every other one
            at its default (`aloe config` lists them); or a config file as `--config` takes it.
        workdir: the run directory, also in a bucket.
        trees: the conversations, records, dicts of their JSON or a file; None: those that the config names.
        stages: the stages, in any order, or one of them. Those that talk with models run an event loop, so not inside
            another one.
        fresh: start stages over whose settings or inputs changed, which is refused otherwise.
        progress: show bars on stderr.

    Raises InputError for settings that cannot work, before a stage starts, and ResumableError if the work stopped
    half-way (Ctrl-C in a training): the same call continues.
    """
    named = (stages,) if isinstance(stages, str) else tuple(stages)
    if isinstance(config, str):
        given: Mapping[str, object] = settings.plain(load_experiment([f"--config={config}"]))
    else:
        given = config
    values = _merged(settings.plain(Experiment()), given)
    place = folder_of(os.fspath(workdir), read_experiment(values).get("bucket"))
    if trees is not None:
        path = os.fspath(trees) if isinstance(trees, (str, os.PathLike)) else str(place / OWN_TREES)
        values = _merged(values, {"dataset": {"sources": {TREES: {"path": path}}}})
    sections = decide_remat(read_experiment(values), None, interrupted_remat(os.fspath(workdir))).settings
    shown = Progress(Console(stderr=True, quiet=not progress), place / PROGRESS)
    with working(os.fspath(workdir), Run(place, sections, shown)) as run:
        if trees is not None and not isinstance(trees, (str, os.PathLike)):
            place.mkdir(parents=True, exist_ok=True)
            write_trees(place / OWN_TREES, trees)
        run_stages(pipeline(), run, named, fresh)
    return Trained(Path(place), named)


def _merged(values: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """`values` with `changes`, section by section."""
    found = dict(values)
    for key, change in changes.items():
        old = found.get(key)
        if isinstance(old, Mapping) and isinstance(change, Mapping):
            found[key] = _merged(old, change)
        else:
            found[key] = _plain(change)
    return found


def _plain(value: object) -> object:
    """A number of NumPy as one of Python, which settings are."""
    return value.item() if isinstance(value, np.generic) else value

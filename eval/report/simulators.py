"""Which simulator of the user a model was trained with and which it was tested with: a table of results that exist.

A model that has learned to please one simulator rather than to align with users falls where it meets another one. The
user of a run's trainings is that of its config, `roles.user`; a model from another run has that run's. Under the
control `other_simulator` the user is the one that the config does not name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aloe_jax import files
from aloe_jax.run.manifest import Values
from aloe_jax.train.names import BASE, CHAIN
from eval.benchmark.entries import OTHER_SIMULATOR, parse_models
from eval.benchmark.scores import Scale
from eval.report.findings import SCALES, difference, has_scale, metrics_on
from eval.report.reading import ModelResult
from eval.report.tables import Cell, Grid, Row, bracket, decimal, p_value, with_interval

UNTRAINED = ""  # of a start model, or of a model whose training is unknown
SCRIPTED = ("A", "B")


@dataclass(frozen=True)
class Trial:
    """A result: the model by the folder of its run and its name there, the simulators, and how the model is called."""

    model: tuple[str, str]
    trained: str
    tested: str
    label: str
    result: ModelResult


def trials(run: Path, config: Values, results: Mapping[str, ModelResult], prefix: str = "") -> list[Trial]:
    """The results of a run that were played with a simulator; labels begin with `prefix`. Other controls, and results
    of a replay, are none."""
    benchmark = config.get("benchmark", {})
    if not isinstance(benchmark, Mapping) or benchmark.get("mode") == "replay":
        return []
    own, given = simulator(config), benchmark.get("models", ())
    sources = {each.name: each.source for each in parse_models(given if isinstance(given, Sequence) else ())}
    found = []
    for name, result in results.items():
        model, _, control = name.partition("+")
        if not result.scores or control not in ("", OTHER_SIMULATOR) or (model not in sources and model not in CHAIN):
            continue
        home, trained = (str(run.resolve()), model), own if model in CHAIN else UNTRAINED
        source = Path(sources.get(model) or "")
        if source.name in CHAIN and (kept := source.parent / "config.json").exists():
            home, trained = (str(source.parent.resolve()), source.name), simulator(files.read_object(kept))
        tested = own if not control else next(each for each in SCRIPTED if each != own)
        found.append(Trial(home, trained, tested, f"{prefix}{model}", result))
    return found


def simulator(config: Values) -> str:
    """The simulator that a config names: A or B, or the model that plays the user."""
    roles = config.get("roles", {})
    user = roles.get("user", {}) if isinstance(roles, Mapping) else {}
    if not isinstance(user, Mapping):
        return SCRIPTED[0]
    if user.get("player") == "model":
        return str(user.get("model") or "a model")
    return str(user.get("simulator", SCRIPTED[0]))


def simulator_grids(found: Iterable[Trial]) -> list[Grid]:
    """A table per scale of the models that several simulators tested: the mean level in a cell, and beside that with
    the simulator of the training the paired difference to it over the cases that both have. None without such a
    model."""
    by_model: dict[tuple[str, str], dict[str, Trial]] = {}
    for each in found:
        by_model.setdefault(each.model, {}).setdefault(each.tested, each)
    rows = [each for each in by_model.values() if len(each) > 1]
    tested = sorted({name for row in rows for name in row})
    grids = []
    for scale in SCALES if rows else ():
        lines = tuple(_row(row, tested, scale) for row in rows)
        if any(cell.value != "–" for line in lines for cell in line.cells):
            heads = tuple((f"tested with {name}", "") for name in tested)
            grids.append(Grid(f"Simulators of the user: average AL by training and test ({scale})", heads, lines))
    return grids


def _row(row: Mapping[str, Trial], tested: Sequence[str], scale: Scale) -> Row:
    one = next(iter(row.values()))
    note = f"trained with {one.trained}" if one.trained else "start model" if one.model[1] == BASE else ""
    return Row(one.label, tuple(_cell(row.get(name), row.get(one.trained), scale) for name in tested), note)


def _cell(trial: Trial | None, own: Trial | None, scale: Scale) -> Cell:
    if trial is None or not has_scale(trial.result, scale) or (metrics := metrics_on(trial.result, scale)) is None:
        return Cell("–")
    cell = with_interval(metrics.average, metrics.ci.average, 2)
    paired = difference(trial.result, own.result, scale) if own is not None and own is not trial else None
    if own is None or paired is None or (found := paired.average) is None:
        return cell
    said = f"{decimal(found.estimate, 2, True)} {bracket(found.interval, 2, True)}".rstrip()
    p = f", p {p_value(found.p)}" if found.p is not None else ""
    return Cell(cell.value, (*cell.remarks, f"{said} to {own.tested}{p}"))

"""The results and trainings that `aloe compare` is given: of whole runs, or single results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.manifest import Values, leaves
from eval.benchmark.entries import ORACLE
from eval.compare.curves import has_training
from eval.report.names import is_control
from eval.report.reading import ModelResult, is_result, read_result, read_results


@dataclass(frozen=True)
class Subject:
    """A result to compare. `run` is the folder of its run, `name` its name there; `label` tells it from the others."""

    label: str
    run: Path
    name: str
    result: ModelResult
    config: Values = field(default_factory=dict)  # of the run


@dataclass(frozen=True)
class Sources:
    """What is compared: results, and the runs (folders by label) that they or their trainings are of."""

    subjects: tuple[Subject, ...]
    runs: Mapping[str, Path] = field(default_factory=dict)


def read_sources(directories: Sequence[str]) -> Sources:
    """The results in `directories`, each a run directory (its models and its oracle), its folder `benchmark`, or the
    folder of one result (a control too). Labels are the results' names, after that of their run if there are several. A
    run directory need not have results if it has a training.

    Raises InputError for a folder with neither, and unless there are two results or two runs with a training.
    """
    found: dict[Path, tuple[Path, str, ModelResult]] = {}
    trained: dict[Path, None] = {}
    for directory in directories:
        path = Path(str(files.existing(directory, "directory"))).resolve()
        results = results_in(directory)
        if not results and not has_training(path):
            raise InputError(
                f"'{directory}' has no benchmark results and no training; name a run directory after its stage "
                "`benchmark` or a training, or a folder in its `benchmark`"
            )
        if not results:
            trained[path] = None
        for path, run, name, result in results:
            found.setdefault(path, (run, name, result))
    found = {path: each for path, each in found.items() if each[2].scores}
    runs = list(dict.fromkeys([*(run for run, _, _ in found.values()), *trained]))
    if len(found) < 2 and sum(map(has_training, runs)) < 2:
        named = ", ".join(f"'{path}'" for path in found) or "none"
        raise InputError(f"there is one result with scores or none ({named}), expected at least two to compare; "
                         "name another run or result")  # fmt: skip
    prefixes = labels_of(runs)
    configs = {run: config_of(run) for run in runs}
    subjects = tuple(
        Subject(f"{prefixes[run]}/{name}" if len(runs) > 1 else name, run, name, result, configs[run])
        for run, name, result in found.values()
    )
    return Sources(subjects, {label: run for run, label in prefixes.items()})


def results_in(directory: str, controls: bool = False) -> list[tuple[Path, Path, str, ModelResult]]:
    """(folder, run, name, result) of each result that a directory stands for; those of controls other than the oracle
    only where they are named, or with `controls`."""
    path = Path(str(files.existing(directory, "directory"))).resolve()
    if is_result(epath.Path(path)):
        run = path.parent.parent if path.parent.name == "benchmark" else path.parent
        return [(path, run, path.name, read_result(epath.Path(path)))]
    benchmark = path if path.name == "benchmark" else path / "benchmark"
    return [
        (benchmark / name, benchmark.parent, name, result)
        for name, result in read_results(epath.Path(benchmark)).items()
        if controls or name == ORACLE or not is_control(name)
    ]


def labels_of(runs: Sequence[Path]) -> dict[Path, str]:
    """As few of the last parts of each path as tell all apart."""
    depth = 1
    while len({run.parts[-depth:] for run in runs}) < len(runs):
        depth += 1
    return {run: "/".join(run.parts[-depth:]) for run in runs}


def config_of(run: Path) -> Values:
    """The config of a run; empty without one."""
    path = run / "config.json"
    return files.read_object(path) if path.exists() else {}


def differing_settings(runs: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """The settings that are not the same in all runs: key -> label of the run -> value. Empty for a single run."""
    configs = {label: dict(leaves(config_of(run))) for label, run in runs.items()}
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    found = {}
    for key in sorted(keys):
        values = {label: _text(config, key) for label, config in configs.items()}
        if len(set(values.values())) > 1:
            found[key] = values
    return found


def _text(config: Mapping[str, object], key: str) -> str:
    value = config.get(key, "not set")
    return value if isinstance(value, str) else json.dumps(value)

"""The results that `aloe compare` is given: of whole runs, or single ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.manifest import Values
from eval.benchmark.entries import ORACLE
from eval.report.names import is_control
from eval.report.reading import ModelResult, is_result, read_result, read_results
from eval.report.tables import leaves


@dataclass(frozen=True)
class Subject:
    """A result to compare. `run` is the folder of its run, `name` its name there; `label` tells it from the others."""

    label: str
    run: Path
    name: str
    result: ModelResult
    config: Values = field(default_factory=dict)  # of the run


def read_subjects(directories: Sequence[str]) -> list[Subject]:
    """The results in `directories`, each a run directory (its models and its oracle), its folder `benchmark`, or the
    folder of one result (a control too). Labels are the results' names, after that of their run if there are several.

    Raises InputError for a folder without results, and for fewer than two results.
    """
    found: dict[Path, tuple[Path, str, ModelResult]] = {}
    for directory in directories:
        for path, run, name, result in _results(directory):
            found.setdefault(path, (run, name, result))
    found = {path: each for path, each in found.items() if each[2].scores}
    if len(found) < 2:
        named = ", ".join(f"'{path}'" for path in found) or "none"
        raise InputError(f"there is one result with scores or none ({named}), expected at least two to compare; "
                         "name another run or result")  # fmt: skip
    runs = list(dict.fromkeys(run for run, _, _ in found.values()))
    prefixes = _labels(runs)
    configs = {run: _config(run) for run in runs}
    return [
        Subject(f"{prefixes[run]}/{name}" if len(runs) > 1 else name, run, name, result, configs[run])
        for run, name, result in found.values()
    ]


def _results(directory: str) -> list[tuple[Path, Path, str, ModelResult]]:
    """(folder, run, name, result) of each result that a directory stands for."""
    path = Path(str(files.existing(directory, "directory"))).resolve()
    if is_result(epath.Path(path)):
        run = path.parent.parent if path.parent.name == "benchmark" else path.parent
        return [(path, run, path.name, read_result(epath.Path(path)))]
    benchmark = path if path.name == "benchmark" else path / "benchmark"
    results = read_results(epath.Path(benchmark))
    if not results:
        raise InputError(
            f"'{directory}' has no benchmark results; name a run directory after its stage `benchmark`, or a folder in "
            "its `benchmark`"
        )
    return [
        (benchmark / name, benchmark.parent, name, result)
        for name, result in results.items()
        if name == ORACLE or not is_control(name)
    ]


def _labels(runs: Sequence[Path]) -> dict[Path, str]:
    """As few of the last parts of each path as tell all apart."""
    depth = 1
    while len({run.parts[-depth:] for run in runs}) < len(runs):
        depth += 1
    return {run: "/".join(run.parts[-depth:]) for run in runs}


def _config(run: Path) -> Values:
    path = run / "config.json"
    return files.read_object(path) if path.exists() else {}


def differing_settings(subjects: Sequence[Subject]) -> dict[str, dict[str, str]]:
    """The settings that are not the same in all runs: key -> label of the run -> value. Empty for a single run."""
    runs = list(dict.fromkeys(subject.run for subject in subjects))
    labels, configs = _labels(runs), {each.run: dict(leaves(each.config)) for each in subjects}
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    found = {}
    for key in sorted(keys):
        values = {labels[run]: _text(configs[run], key) for run in runs}
        if len(set(values.values())) > 1:
            found[key] = values
    return found


def _text(config: Mapping[str, object], key: str) -> str:
    value = config.get(key, "not set")
    return value if isinstance(value, str) else json.dumps(value)

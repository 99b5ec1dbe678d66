"""Stages and their run directory: what is done is skipped, what was interrupted continues, what changed is refused.

Each stage writes DIR/<stage>/ with a `manifest.json`: inputs' hashes, the config it read, versions, seed, counts,
seconds.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.config import differences
from aloe_jax.run.progress import Progress

PACKAGES = ("aloe_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Run:
    """What a stage sees of the run."""

    workdir: epath.Path
    config: Mapping[str, Any]
    progress: Progress

    def directory(self, stage: str) -> epath.Path:
        """The folder of a stage; its own, or one whose files it reads."""
        return self.workdir / stage

    def manifest(self, stage: str) -> Mapping[str, Any]:
        """The manifest of a stage that has started; InputError if it has not."""
        return files.read_json(self.directory(stage) / MANIFEST)

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the config."""
        return self.config[name]


@dataclass(frozen=True)
class Stage:
    """A step of the pipeline. `needs` are the stages whose files it reads, `sections` the parts of the config it
    depends on; `work` does it, continuing what is there already, and returns the counts for the manifest."""

    name: str
    needs: tuple[str, ...]
    sections: tuple[str, ...]
    work: Callable[[Run], dict[str, Any]]
    inputs: Callable[[Run], dict[str, str]] = field(default=lambda run: {})  # further inputs: name -> hash
    outputs: tuple[str, ...] = ()  # files whose content is what later stages depend on


def run_stages(stages: Sequence[Stage], run: Run, selected: Sequence[str], fresh: bool) -> None:
    """Run the selected stages in order.

    Raises InputError for a stage that is unknown, whose inputs are missing, or whose config or inputs changed since it
    ran, unless `fresh` allows it to start over.
    """
    known = [stage.name for stage in stages]
    for name in selected:
        if name not in known:
            raise InputError(f"--stages: '{name}' is unknown; the stages are {', '.join(known)}")
    _check_writable(run.workdir)
    files.write_json(run.workdir / "config.json", run.config)
    for stage in stages:
        if stage.name in selected:
            _run_stage(stage, run, fresh)


def _run_stage(stage: Stage, run: Run, fresh: bool) -> None:
    directory = run.directory(stage.name)
    inputs = {name: _finished(run, name, stage.name) for name in stage.needs} | stage.inputs(run)
    config = {name: run.config[name] for name in stage.sections}
    before = _manifest(directory)
    if before is not None:
        changes = differences(before["config"], config) + differences(before["inputs"], inputs, "input")
        if changes and not fresh:
            raise InputError(
                f"stage '{stage.name}' in {run.workdir} was run with another setting ({'; '.join(changes)}); "
                "use another --workdir, or --fresh to start this stage over"
            )
        if changes:
            directory.rmtree()
        elif before["status"] == "finished":
            run.progress.skipped(stage.name)
            return
    manifest: dict[str, Any] = {
        "stage": stage.name,
        "status": "running",
        "inputs": inputs,
        "config": config,
        "versions": versions(),
        "seed": run.config["seed"],
        "counts": {},
        "seconds": before["seconds"] if before is not None and directory.exists() else 0.0,
    }
    files.write_json(directory / MANIFEST, manifest)
    began = time.monotonic()
    with run.progress.stage(stage.name):
        try:
            manifest["counts"] = stage.work(run)
            manifest["status"] = "finished"
            manifest["outputs"] = {name: files.hash_file(directory / name) for name in stage.outputs}
        finally:
            manifest["seconds"] = round(manifest["seconds"] + time.monotonic() - began, 1)
            if directory.exists():
                files.write_json(directory / MANIFEST, manifest)


def _manifest(directory: epath.Path) -> dict[str, Any] | None:
    path = directory / MANIFEST
    return files.read_json(path) if path.exists() else None


def _finished(run: Run, name: str, asking: str) -> str:
    """What identifies the result of a finished stage: its inputs, its config and its output files."""
    manifest = _manifest(run.directory(name))
    if manifest is None or manifest["status"] != "finished":
        raise InputError(f"stage '{asking}' needs '{name}', which is not finished in {run.workdir}; run it first")
    return identity(manifest)


def identity(manifest: Mapping[str, Any]) -> str:
    """Hash of what decides a stage's result."""
    return files.sha256(files.canonical({key: manifest[key] for key in ("inputs", "config", "outputs")}))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def _check_writable(workdir: epath.Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--workdir: cannot use '{workdir}' ({error.strerror or error}); choose another folder"
        ) from None

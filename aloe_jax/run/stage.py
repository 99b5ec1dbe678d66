"""Stages and their run directory: what is done is skipped, what was interrupted continues, what changed is refused.

Each stage writes DIR/<stage>/ with a `manifest.json`: inputs' hashes, the config that decides its result, the settings
it was made with besides, versions, seed, counts, seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from etils import epath

from aloe_jax import files, memory
from aloe_jax.errors import InputError
from aloe_jax.parallel import hosts
from aloe_jax.run.config import differences
from aloe_jax.run.progress import Progress

PACKAGES = ("aloe_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
MANIFEST = "manifest.json"
CONFIG = "config.json"  # the whole config of the last accepted call
LOCK = ".lock"


@dataclass(frozen=True)
class Run:
    """What a stage sees of the run."""

    workdir: epath.Path
    config: Mapping[str, Any]
    progress: Progress
    shard: tuple[int, int] = (0, 1)  # number and count of the machines that share the growing of conversations

    def directory(self, stage: str) -> epath.Path:
        """The folder of a stage; its own, or one whose files it reads."""
        return self.workdir / stage

    def manifest(self, stage: str) -> Mapping[str, Any]:
        """The manifest of a stage that has started; InputError if it has not."""
        return files.read_json(self.directory(stage) / MANIFEST)

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the config."""
        return self.config[name]

    def at_least(self, section: str, **least: float) -> None:
        """InputError for the first of the named values of a section that is below its bound."""
        for name, bound in least.items():
            if (value := self.section(section)[name]) < bound:
                raise InputError(f"config.{section}.{name}: {value} must be at least {bound}")

    def one_of(self, section: str, name: str, known: Iterable[str]) -> None:
        """InputError if a value of a section is not a known one."""
        if (value := self.section(section)[name]) not in (known := list(known)):
            raise InputError(f"config.{section}.{name}: '{value}' is unknown; choose one of {', '.join(known)}")


@dataclass(frozen=True)
class Stage:
    """A step of the pipeline. `needs` are the stages whose files it reads (a function where the config decides),
    `sections` the parts of the config it depends on; `work` does it, continuing what is there already, and returns the
    counts for the manifest."""

    name: str
    needs: tuple[str, ...] | Callable[[Run], tuple[str, ...]]
    sections: tuple[str, ...]
    work: Callable[[Run], dict[str, Any]]
    inputs: Callable[[Run], dict[str, str]] = field(default=lambda run: {})  # further inputs: name -> hash
    outputs: tuple[str, ...] = ()  # files whose content is what later stages depend on
    # Raises InputError for config values that cannot work. All selected stages are checked before the first one works,
    # so that a typo in the last one does not cost the hours of the others.
    check: Callable[[Run], None] = field(default=lambda run: None)
    everywhere: bool = False  # all processes of the run work on it, and not the first alone
    # Keys of its sections, by their name or by their dotted path, that may change: they do not decide the result.
    free: frozenset[str] = frozenset()
    # Files that stay when the stage is started over with `fork`: answers that cost something.
    paid: tuple[str, ...] = ()

    def reads(self, run: Run) -> tuple[str, ...]:
        """The stages whose files it reads in this run."""
        return self.needs(run) if callable(self.needs) else self.needs


def run_stages(
    stages: Sequence[Stage], run: Run, selected: Sequence[str], fresh: bool = False, fork: bool = False
) -> None:
    """Run the selected stages in order. `fresh` lets those start over whose config or inputs changed, `fork` does too
    but keeps the answers that were paid for.

    Raises InputError for a stage that is unknown, whose inputs are missing, or whose config or inputs changed since it
    ran, unless `fresh` allows it to start over, and for a run directory that another process works in. A changed config
    is refused before anything is written.
    """
    known = [stage.name for stage in stages]
    for name in selected:
        if name not in known:
            raise InputError(f"--stages: '{name}' is unknown; the stages are {', '.join(known)}")
    chosen = [stage for stage in stages if stage.name in selected]
    said = (run.config, list(selected), versions())
    hosts.check_same([files.canonical(part) for part in said], "the config, the stages or the packages")
    if not hosts.first():
        _follow(chosen, run)
        return
    with hosts.leading(), _exclusive(run.workdir):
        _check_config(stages, run, selected, fresh or fork)
        files.write_json(run.workdir / CONFIG, run.config)
        for stage in chosen:
            _run_stage(stage, run, fresh or fork, stage.paid if fork else ())


def _follow(stages: Sequence[Stage], run: Run) -> None:
    """What a process other than the first one does: its part of the stages that run everywhere."""
    for stage in stages:
        stage.check(run)
    for stage in stages:
        if stage.everywhere and hosts.follow():
            stage.work(run)
    hosts.follow()  # the end of the run


def _check_config(stages: Sequence[Stage], run: Run, selected: Sequence[str], fresh: bool) -> None:
    """Compare the config with that of each selected stage, and of the stages that those build on, as they were run."""
    read: set[str] = set()  # selected, or needed by a stage that is
    for stage in reversed(stages):
        if stage.name in selected or stage.name in read:
            read |= {stage.name, *stage.reads(run)}
    for stage in stages:
        if stage.name in selected:
            stage.check(run)
        before = _manifest(run.directory(stage.name)) if stage.name in read else None
        if before is not None and (changes := _changes(stage, before, _settings(stage, run)[0])):
            _refuse(stage, run, changes, fresh, chosen=stage.name in selected)


def _settings(stage: Stage, run: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the sections that the stage depends on, what decides its result and what does not."""
    return _split({name: run.config[name] for name in stage.sections}, stage.free)


def _split(config: Mapping[str, Any], free: frozenset[str], path: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    decides: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{path}.{key}" if path else key
        if key in free or name in free:
            rest[key] = value
        elif isinstance(value, Mapping):
            decides[key], inner = _split(value, free, name)
            if inner:
                rest[key] = inner
        else:
            decides[key] = value
    return decides, rest


def _changes(stage: Stage, before: Mapping[str, Any], decides: Mapping[str, Any]) -> list[str]:
    """What decides the result and is not as it was; what has become free since does not."""
    return differences(_split(before["config"], stage.free)[0], decides)


def _refuse(stage: Stage, run: Run, changes: Sequence[str], fresh: bool, chosen: bool = True) -> None:
    """Raise InputError unless the stage may start over."""
    if fresh and chosen:
        return
    keep = " (--fork keeps the answers that were paid for)" if stage.paid else ""
    remedy = f"--fresh to start this stage over{keep}"
    if not chosen:
        remedy = "name it in --stages and give --fresh to start it over"
    raise InputError(
        f"stage '{stage.name}' in {run.workdir} was run with another setting ({'; '.join(changes)}); "
        f"use another --workdir, or {remedy}"
    )


def _run_stage(stage: Stage, run: Run, fresh: bool, paid: Sequence[str] = ()) -> None:
    directory = run.directory(stage.name)
    inputs = {name: _finished(run, name, stage.name) for name in stage.reads(run)} | stage.inputs(run)
    config, free = _settings(stage, run)
    before = _earlier(stage, run, config, inputs, fresh, paid)
    if before is not None and before["status"] == "finished":
        if stage.everywhere:
            hosts.lead(hosts.SKIP)
        run.progress.skipped(stage.name)
        return
    seconds, used = (before["seconds"], before.get("free", [])) if before else (0.0, [])
    manifest: dict[str, Any] = {
        "stage": stage.name,
        "status": "running",
        "inputs": inputs,
        "config": config,
        "free": used if used[-1:] == [free] else [*used, free],  # one after the other, if a resume changed them
        "versions": versions(),
        "seed": run.config["seed"],
        "counts": {},
        "seconds": seconds,
    }
    files.write_json(directory / MANIFEST, manifest)
    began = time.monotonic()
    with run.progress.stage(stage.name):
        try:
            with hosts.together() if stage.everywhere else contextlib.nullcontext():
                manifest["counts"] = stage.work(run)
            memory.release()  # the next stage needs it
            manifest["outputs"] = {name: files.hash_file(directory / name) for name in stage.outputs}
            manifest["status"] = "finished"
        except Exception as error:
            if files.disk_full(error):  # in whatever form the library that wrote tells it
                raise files.failed_write(directory, error) from error
            raise
        finally:
            manifest["seconds"] = round(seconds + time.monotonic() - began, 1)
            if directory.exists():
                files.write_json(directory / MANIFEST, manifest)


def _earlier(
    stage: Stage,
    run: Run,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    fresh: bool,
    paid: Sequence[str],
) -> dict[str, Any] | None:
    """The manifest that earlier calls left, finished or interrupted; None if the stage begins. What an earlier setting
    left is removed if `fresh`, else InputError."""
    before = _manifest(run.directory(stage.name))
    if before is None:
        return None
    changes = _changes(stage, before, config) + differences(before["inputs"], inputs, "input")
    if changes:
        _refuse(stage, run, changes, fresh)
    if changes or before["status"] == "discarded":
        _discard(run.directory(stage.name), before, paid)
        return None
    return before


def _discard(directory: epath.Path, manifest: Mapping[str, Any], paid: Sequence[str]) -> None:
    """Remove what a stage left, but for the files in `paid`. The manifest says so before the first file goes and stays
    to the end: files of the old setting are never taken for those of the new one, whenever a kill comes."""
    files.write_json(directory / MANIFEST, {**manifest, "status": "discarded"})
    for path in directory.iterdir():
        if path.name not in (MANIFEST, *paid):
            path.rmtree() if path.is_dir() else path.unlink()


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
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # our own, run from its source folder


@contextlib.contextmanager
def _exclusive(workdir: epath.Path) -> Iterator[None]:
    """The run directory, made where it is missing and held by this process alone. The lock goes with the process,
    however that ends. InputError if the directory cannot be used or is in use."""
    handle = _open_lock(workdir)
    try:
        yield
    finally:
        os.close(handle)


def _open_lock(workdir: epath.Path) -> int:
    if "://" in str(workdir):
        # Trees and metrics are appended line by line, which object stores cannot do.
        raise InputError(
            f"--workdir: '{workdir}' is in an object store, where a run cannot append; use a folder of this machine "
            "and copy the results"
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle = os.open(workdir / LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        if files.disk_full(error):
            raise files.failed_write(workdir, error) from error
        raise InputError(
            f"--workdir: cannot use '{workdir}' ({error.strerror or error}); choose another folder"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(
            f"--workdir: another `aloe run` works in '{workdir}'; let it end, or choose another folder"
        ) from None
    return handle

"""Where a command may write: not over, around or inside what it reads, and into no run directory.

Replacing an output deletes what was there. Paths are compared by what they lead to, so a symbolic link, a hard link or
another mount of the same folder is no way around.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from aloe_jax.errors import InputError

_MANIFEST, _CONFIG, _LOCK = "manifest.json", "config.json", ".lock"  # files of a run and of its stages
_ADAPTER = "adapter_config.json"  # of an export without a whole model
_TRAININGS = ("sft", "preference", "online")  # in the order in which a run has them


def check_apart(out: str | os.PathLike[str], *sources: str | os.PathLike[str], name: str = "--out") -> None:
    """Raise InputError if `out` is one of the sources, contains one or lies in one. Sources that are no files of this
    machine (a hub id, an object store) are never in the way."""
    inside = {place for path in _line(out) if (place := _place(path))}
    here = _place(out)
    for source in sources:
        for path in _files(Path(os.path.expanduser(source))):
            place = _place(path)
            if place is None:
                continue
            if place == here:
                relation = "is"
            elif place in inside:
                relation = "lies in"
            elif here in {_place(above) for above in _line(path)}:
                relation = "contains"
            else:
                continue
            raise InputError(f"{name}: '{out}' {relation} '{source}', which it would be made from; give another place")


def check_no_run(out: str | os.PathLike[str], name: str = "--out") -> None:
    """Raise InputError if `out` is a run directory or lies in one."""
    for path in _line(out):
        if _is_stage(path) or _is_run(path):
            relation = "is" if _place(path) == _place(out) else "lies in"
            raise InputError(
                f"{name}: '{out}' {relation} the run directory '{path}', whose files belong to `aloe run`; give one "
                "outside"
            )


def check_no_run_as_model(path: str | os.PathLike[str]) -> None:
    """Raise InputError if `path` is a run directory, or the folder of a stage without a model, and name what to give
    instead."""
    folder = Path(path)
    if _is_run(folder):
        export = folder / "export"
        trained = [str(folder / name) for name in _TRAININGS if (folder / name / "checkpoints").is_dir()]
        models = [str(export)] if (export / _CONFIG).is_file() else []
        made = f"`aloe export {trained[-1]} --out=DIR` makes one of its last training" if trained else ""
        have = f"its model is {models[0]}" if models else "it has no exported model yet"
        raise InputError(f"'{path}' is a run directory and no model; {'; '.join(filter(None, (have, made)))}")
    if folder.parent.name == "checkpoints" and _is_stage(folder.parent.parent):
        stage = folder.parent.parent
        raise InputError(
            f"'{path}' is a checkpoint of a training; make a model of it with `aloe export {stage} "
            f"--step={folder.name} --out=DIR`, and give that"
        )
    if _is_stage(folder) and not (folder / _CONFIG).is_file() and not (folder / _ADAPTER).is_file():
        if (folder / "checkpoints").is_dir():
            raise InputError(
                f"'{path}' holds the checkpoints of a training; make a model of them with `aloe export {path} "
                "--out=DIR`, and give that"
            )
        raise InputError(f"'{path}' is a stage of a run and holds no model; give the folder `export` beside it")


def _line(path: str | os.PathLike[str]) -> list[Path]:
    """The path with its links resolved, and all folders above it."""
    real = Path(os.path.realpath(path))
    return [real, *real.parents]


def _place(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """What identifies an existing file or folder, whatever it is called; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _files(source: Path) -> Iterator[Path]:
    """The source, and what the links in it lead to: weights of a hub's cache lie elsewhere."""
    yield source
    if source.is_dir():
        yield from (path for path in source.iterdir() if path.is_symlink())


def _is_stage(folder: Path) -> bool:
    """Whether a folder has the manifest of a stage."""
    try:
        found = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "stage" in found


def _is_run(folder: Path) -> bool:
    if not (folder / _CONFIG).is_file():
        return False
    try:
        return (folder / _LOCK).is_file() or any(_is_stage(inner) for inner in folder.iterdir())
    except OSError:
        return False

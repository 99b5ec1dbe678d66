"""`manifest.json` of a stage: its inputs, its settings and its status."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError

MANIFEST = "manifest.json"
STATUSES = ("running", "finished", "discarded")
PACKAGES = ("aloe_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
Values = Mapping[str, object]  # JSON values by name


def leaves(values: Values, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(key, value) of nested mappings, with keys joined by dots; empty groups are left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@dataclass(frozen=True)
class Manifest:
    """The record of a stage, stored with its files.

    Attributes:
        stage: its name.
        status: "running", "finished", or "discarded" while the files of an earlier setting are removed.
        inputs: hashes of its inputs, by name.
        config: the settings that decide its result, by section.
        free: its other settings, as a list if resumed calls changed them.
        versions: of the packages that results depend on.
        seed: of everything random.
        counts: figures about the result, given by the stage.
        seconds: working time, summed over all calls.
        outputs: hashes of the files that later stages depend on; None until it is finished.
    """

    stage: str
    status: str = "running"
    inputs: Mapping[str, str] = field(default_factory=dict)
    config: Values = field(default_factory=dict)
    free: tuple[Values, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    counts: Values = field(default_factory=dict)
    seconds: float = 0.0
    outputs: Mapping[str, str] | None = None

    @property
    def finished(self) -> bool:
        """Whether the stage is finished."""
        return self.status == "finished"

    @property
    def identity(self) -> str:
        """Hash of what decides the stage's result: its inputs, its config and its output files."""
        parts = {"inputs": self.inputs, "config": self.config, "outputs": self.outputs}
        return files.sha256(files.canonical(parts))

    def section(self, name: str) -> Values:
        """The settings of a section that decided the result; empty without such a section."""
        found = self.config.get(name, {})
        return found if isinstance(found, Mapping) else {}

    def write(self, directory: epath.Path) -> None:
        """Write the manifest into the stage's folder."""
        values = {key: value for key, value in vars(self).items() if value is not None}
        files.write_json(directory / MANIFEST, values)


def find_manifest(directory: epath.PathLike) -> Manifest | None:
    """The manifest in a stage's folder; None if the stage has not started. InputError if it is broken."""
    path = epath.Path(directory) / MANIFEST
    return read_manifest(directory) if path.exists() else None


def read_manifest(directory: epath.PathLike) -> Manifest:
    """The manifest in a stage's folder. InputError if the stage has not started or the file is broken."""
    path = epath.Path(directory) / MANIFEST
    remedy = "restore the file, or move the folder away and run the stage again"
    values = files.read_json(path)
    if not isinstance(values, dict) or not isinstance(values.get("stage"), str):
        raise InputError(f"{path}: no manifest of a stage of `aloe run`; {remedy}")
    given = {name: values[name] for name in _KINDS if name in values}
    for name, value in given.items():
        expected, holds = _KINDS[name]
        if not holds(value):
            raise InputError(f"{path}: {name} is {json.dumps(value)[:60]}, expected {expected}; {remedy}")
    return Manifest(**given | {"free": tuple(given.get("free", ()))})


def output_hashes(directory: epath.Path, patterns: Sequence[str]) -> dict[str, str]:
    """The hashes of a stage's output files by name; a pattern with `*` names all files that it matches."""
    found: list[epath.Path] = []
    for pattern in patterns:
        found += sorted(directory.glob(pattern)) if "*" in pattern else [directory / pattern]
    return {str(path.relative_to(directory)): files.hash_file(path) for path in found}


def changed_output(directory: epath.Path, manifest: Manifest) -> str | None:
    """The first output file of a finished stage that is missing or no longer has the hash in its manifest; None if all
    are as the stage wrote them."""
    for name, known in (manifest.outputs or {}).items():
        path = directory / name
        if not path.exists() or files.hash_file(path) != known:
            return name
    return None


def check_outputs(directory: epath.PathLike, manifest: Manifest) -> None:
    """Raise InputError naming the file if an output of a stage is not as the stage wrote it."""
    folder = epath.Path(directory)
    if (name := changed_output(folder, manifest)) is not None:
        found = "is not as its stage wrote it" if (folder / name).exists() else "is missing"
        raise InputError(
            f"'{folder}' is damaged: {name} {found} ({MANIFEST} has its hash); restore the file from a copy, or start "
            f"over with --stages={manifest.stage} --fork, which keeps answers that were paid for; if there are none, "
            f"delete the folder and run the stage `{manifest.stage}` again"
        )


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _maps_to_text(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


# What each field of the file has to be: in words, and as a condition.
_KINDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "stage": ("a text", _is_text),
    "status": (f"one of {', '.join(STATUSES)}", lambda value: value in STATUSES),
    "inputs": ("texts by name", _maps_to_text),
    "config": ("sections by name", _is_mapping),
    "free": ("a list of sections by name", lambda value: isinstance(value, list) and all(map(_is_mapping, value))),
    "versions": ("texts by name", _maps_to_text),
    "seed": ("a whole number", _is_whole),
    "counts": ("values by name", _is_mapping),
    "seconds": ("a number", _is_number),
    "outputs": ("texts by name, or nothing", lambda value: value is None or _maps_to_text(value)),
}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


@functools.cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # our own package, run from its source folder

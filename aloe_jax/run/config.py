"""Config files, `--config=FILE.py[:ARG]` and `--config.section.key=value`, read as plain nested values."""

from __future__ import annotations

import importlib.resources
import json
import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from aloe_jax.errors import InputError
from aloe_jax.settings import nearest, renamed_key, unknown_key

PACKAGE = "aloe_jax"


def load_config(arguments: Sequence[str], renamed: Mapping[str, str] = MappingProxyType({})) -> dict[str, object]:
    """The config given by `arguments` (everything that starts with --config) as plain values; `--config=demo` names a
    shipped file. `renamed` maps earlier names of settings to the present ones.

    Raises InputError for a missing or broken file, an unknown key, a value of the wrong type, a number that is not
    finite and a value that is not JSON-serialisable.
    """
    arguments = _with_path(arguments)
    path = _path(arguments)
    file = epath.Path(path.split(":")[0])
    try:
        _check_keys(arguments, _parse([f"--config={path}"]), renamed)
        config = _parse(arguments)
    except flags.Error as error:
        raise InputError(f"{_sentence(error)}; the keys and their meaning stand in {file}") from None
    except InputError:
        raise
    except Exception as error:  # a config file is code and may raise anything
        raise InputError(f"--config={path}: {type(error).__name__}: {_sentence(error)}{_line(error, file)}") from None
    if not isinstance(config, ConfigDict):
        raise InputError(f"--config: get_config() of {path} returned {type(config).__name__}, expected a ConfigDict")
    try:
        values: dict[str, object] = json.loads(config.to_json())  # plain lists and dicts, as stored in manifests
    except (TypeError, ValueError) as error:
        raise InputError(f"--config={path}: a value is not JSON-serialisable ({_sentence(error)})") from None
    for name, value in _numbers(values, "config"):
        if not math.isfinite(value):
            raise InputError(f"{name}: {value} is not a finite number; give one that is")
    return values


def _numbers(value: object, name: str) -> Iterator[tuple[str, float]]:
    """(full name, number) of every floating-point number."""
    if isinstance(value, float):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, name)


def overridden(arguments: Sequence[str]) -> frozenset[str]:
    """The dotted names of the settings that the command line changes."""
    names = (argument.split("=")[0].removeprefix("--").split("[")[0] for argument in arguments)
    return frozenset(name.removeprefix("config.") for name in names if name.startswith("config."))


def shipped() -> dict[str, Path]:
    """The shipped config files by name; they are inside the package in a wheel, else next to it."""
    inside = Path(str(importlib.resources.files(PACKAGE))) / "configs"
    folder = inside if inside.is_dir() else inside.parents[1] / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def _with_path(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the name of a shipped config file replaced by its path. InputError if there is no such
    file."""
    path, separator, arg = _path(arguments).partition(":")
    if not epath.Path(path).exists():
        known = shipped()
        if path not in known:
            raise InputError(
                f"config file '{path}' does not exist; give a path, or one of the shipped "
                f"{', '.join(known)}{nearest(path, known)}"
            )
        path = str(known[path])
    whole = f"--config={path}{separator}{arg}"
    return [whole if argument.startswith("--config=") else argument for argument in arguments]


def _parse(arguments: Sequence[str]) -> object:
    values, argv = flags.FlagValues(), ["aloe", *arguments]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    values(argv)
    return values.config


def _check_keys(arguments: Sequence[str], config: object, renamed: Mapping[str, str]) -> None:
    """Raise InputError for the first override of a key that the config does not have."""
    for argument in arguments:
        place, name = config, "config"
        given = argument.split("=")[0]
        whole = given.removeprefix("--").split("[")[0]
        for key in whole.split(".")[1:]:
            if not isinstance(place, ConfigDict):
                raise InputError(f"{given}: the config has no key '{name}.{key}'; {name} is a value")
            if key not in place and whole in renamed:
                raise InputError(renamed_key(given, f"--{renamed[whole]}"))
            if key not in place:
                raise InputError(unknown_key(given, key, list(place), name))
            place, name = place[key], f"{name}.{key}"


def _path(arguments: Sequence[str]) -> str:
    for argument in arguments:
        if argument.startswith("--config="):
            return argument.removeprefix("--config=")
    raise InputError("--config is missing; give an experiment file, for example --config=configs/demo.py")


def _sentence(error: Exception) -> str:
    """One line of an error's message. config_flags may put a whole traceback into it, whose last line has the
    reason."""
    found = str(error).strip().splitlines() or ["no reason given"]
    return found[-1] if "Traceback" in str(error) else found[0]


def _line(error: Exception, file: epath.Path) -> str:
    """The line of the config file that raised the error, as text; empty if another file did."""
    if isinstance(error, SyntaxError):
        return ""  # Python's own message has the line
    here = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(file.name)]
    return f" (line {here[-1]})" if here else ""


def differences(old: object, new: object, prefix: str = "") -> list[str]:
    """One line per leaf that differs, `section.key: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in sorted({*old, *new}):
            found += differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
        return found
    return [] if old == new else [f"{prefix}: {json.dumps(old)} -> {json.dumps(new)}"]

"""Experiment configs: `--config=FILE.py[:ARG]` and `--config.section.key=value`, as a plain nested dict."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from aloe_jax import files
from aloe_jax.errors import InputError


class Section(dict[str, Any]):
    """A section of the config, as plain values. A key that is not there raises InputError with its full name."""

    def __init__(self, values: Mapping[str, Any], name: str = "config") -> None:
        super().__init__(
            (key, Section(value, f"{name}.{key}") if isinstance(value, Mapping) else value)
            for key, value in values.items()
        )
        self._name = name

    def __missing__(self, key: str) -> NoReturn:
        raise InputError(f"{self._name}.{key} is missing in the config file; aloe_jax/run/defaults.py has every key")


def load_config(arguments: Sequence[str]) -> Section:
    """The config that `arguments` (everything that starts with --config) describe.

    Raises InputError for a missing or broken file, an unknown key, a value of the wrong type and a number that is not
    finite.
    """
    path = _path(arguments)
    file = files.existing(path.split(":")[0], "config file")
    try:
        _check_keys(arguments, _parse([f"--config={path}"]))
        config = _parse(arguments)
    except flags.Error as error:
        raise InputError(f"{_sentence(error)}; the keys and their meaning stand in {file}") from None
    except InputError:
        raise
    except Exception as error:  # whatever the code of a config file raises
        raise InputError(f"--config={path}: {type(error).__name__}: {_sentence(error)}{_line(error, file)}") from None
    if not isinstance(config, ConfigDict):
        raise InputError(f"--config: get_config() of {path} returned {type(config).__name__}, expected a ConfigDict")
    try:
        section = Section(json.loads(config.to_json()))  # plain lists and dicts, as the manifests store them
    except (TypeError, ValueError) as error:
        raise InputError(f"--config={path}: a value is none that JSON can hold ({_sentence(error)})") from None
    for name, value in _numbers(section, "config"):
        if not math.isfinite(value):
            raise InputError(f"{name}: {value} is not a finite number; give one that is")
    return section


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """Every floating-point number with its full name."""
    if isinstance(value, float):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, name)


def _parse(arguments: Sequence[str]) -> Any:
    values, argv = flags.FlagValues(), ["aloe", *arguments]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    values(argv)
    return values.config


def _check_keys(arguments: Sequence[str], config: Any) -> None:
    """InputError for the first override of a key that the config does not have."""
    for argument in arguments:
        place, name = config, "config"
        for key in argument.split("=")[0].removeprefix("--").split("[")[0].split(".")[1:]:
            if not isinstance(place, ConfigDict) or key not in place:
                known = f"{name} has {', '.join(place)}" if isinstance(place, ConfigDict) else f"{name} is a value"
                raise InputError(f"{argument.split('=')[0]}: the config has no key '{name}.{key}'; {known}")
            place, name = place[key], f"{name}.{key}"


def _path(arguments: Sequence[str]) -> str:
    for argument in arguments:
        if argument.startswith("--config="):
            return argument.removeprefix("--config=")
    raise InputError("--config is missing; give an experiment file, for example --config=configs/demo.py")


def _sentence(error: Exception) -> str:
    """One line of an error's message. config_flags puts whole tracebacks into it, whose last line tells the reason."""
    found = str(error).strip().splitlines() or ["no reason given"]
    return found[-1] if "Traceback" in str(error) else found[0]


def _line(error: Exception, file: epath.Path) -> str:
    """Where in the config file it happened, if it happened there."""
    if isinstance(error, SyntaxError):
        return ""  # Python's own message says where
    here = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(file.name)]
    return f" (line {here[-1]})" if here else ""


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """A line for each leaf that differs, `section.key: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in sorted({*old, *new}):
            found += differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
        return found
    return [] if old == new else [f"{prefix}: {json.dumps(old)} -> {json.dumps(new)}"]

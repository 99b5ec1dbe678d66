"""Experiment configs: `--config=FILE.py[:ARG]` and `--config.section.key=value`, as a plain nested dict."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping, Sequence
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
        raise InputError(f"{self._name}.{key} is missing in the config file; configs/demo.py has every key")


def load_config(arguments: Sequence[str]) -> Section:
    """The config that `arguments` (everything that starts with --config) describe.

    Raises InputError for a missing or broken file, an unknown key or a value of the wrong type.
    """
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    path = _path(arguments)
    file = files.existing(path.split(":")[0], "config file")
    try:
        values(["aloe", *arguments])
        config = values.config
    except flags.Error as error:
        raise InputError(f"{_first_line(error)}; the keys and their meaning stand in {file}") from None
    except Exception as error:  # whatever the code of a config file raises
        raise InputError(f"--config={path}: {type(error).__name__}: {_first_line(error)}{_line(error, file)}") from None
    if not isinstance(config, ConfigDict):
        raise InputError(f"--config: get_config() of {path} returned {type(config).__name__}, expected a ConfigDict")
    try:
        return Section(json.loads(config.to_json()))  # plain lists and dicts, as the manifests store them
    except (TypeError, ValueError) as error:
        raise InputError(f"--config={path}: a value is none that JSON can hold ({_first_line(error)})") from None


def _path(arguments: Sequence[str]) -> str:
    for argument in arguments:
        if argument.startswith("--config="):
            return argument.removeprefix("--config=")
    raise InputError("--config is missing; give an experiment file, for example --config=configs/demo.py")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no reason given").splitlines()[0]


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

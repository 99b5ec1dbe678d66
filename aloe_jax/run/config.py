"""Experiment configs: `--config=FILE.py[:ARG]` and `--config.section.key=value`, as a plain nested dict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from aloe_jax import files
from aloe_jax.errors import InputError


def load_config(arguments: Sequence[str]) -> dict[str, Any]:
    """The config that `arguments` (everything that starts with --config) describe.

    Raises InputError for a missing or broken file, an unknown key or a value of the wrong type.
    """
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    path = _path(arguments)
    files.existing(path.split(":")[0], "config file")
    try:
        values(["aloe", *arguments])
        config = values.config
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"--config: {reason}; the keys and their meaning stand in {path.split(':')[0]}") from None
    if not isinstance(config, ConfigDict):
        raise InputError(f"--config: get_config() of {path} returned {type(config).__name__}, expected a ConfigDict")
    return json.loads(config.to_json())  # plain lists and dicts, as the manifests store them


def _path(arguments: Sequence[str]) -> str:
    for number, argument in enumerate(arguments):
        if argument.startswith("--config="):
            return argument.removeprefix("--config=")
        if argument == "--config" and number + 1 < len(arguments):
            return arguments[number + 1]
    raise InputError("--config is missing; give an experiment file, for example --config=configs/demo.py")


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """A line for each leaf that differs, `section.key: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in sorted({*old, *new}):
            found += differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
        return found
    return [] if old == new else [f"{prefix}: {json.dumps(old)} -> {json.dumps(new)}"]

"""Config files, `--config=FILE.py[:ARG]` and `--config.section.key=value`, read as plain nested values."""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import logging
import math
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from aloe_jax.errors import InputError
from aloe_jax.settings import nearest, renamed_key, unknown_key

PACKAGE = "aloe_jax"


def load_config(arguments: Sequence[str], renamed: Mapping[str, str] = MappingProxyType({})) -> dict[str, object]:
    """The config given by `arguments` (everything that starts with --config) as plain values; `--config=demo` names a
    shipped file. `renamed` maps earlier names of settings to the present ones. A config file may import files of its
    own folder.

    Raises InputError for a missing or broken file, an unknown key, a value of the wrong type, a number that is not
    finite and a value that is not JSON-serialisable.
    """
    path, arg = _path(arguments)
    whole = f"{path}:{arg}" if arg else str(path)
    overrides = [argument for argument in arguments if not argument.startswith("--config=")]
    try:
        with _importing_from(path.parent):
            config = _parse([f"--config={whole}"])
            if not isinstance(config, ConfigDict):
                getattr(config, "lock", None)  # stands for an OSError of the file, which it raises again
                raise InputError(
                    f"--config: get_config() of {whole} returned {type(config).__name__}, expected a ConfigDict"
                )
            _check_keys(overrides, config, renamed)
            changed = _parse([f"--config={whole}", *(_tuple_override(one, config) for one in overrides)])
    except flags.Error as error:
        raise InputError(f"{_sentence(error)}; the keys and their meaning stand in {path}") from None
    except InputError:
        raise
    except (Exception, SystemExit) as raised:  # a config file is code and may raise anything
        cause = raised.__cause__ if isinstance(raised.__cause__, OSError) else raised
        raise InputError(f"--config={whole}: {type(cause).__name__}: {_sentence(cause)}{_line(cause, path)}") from None
    return _values(changed, f"--config={whole}")


def changed_config(
    config: ConfigDict, arguments: Sequence[str], where: str, renamed: Mapping[str, str] = MappingProxyType({})
) -> dict[str, object]:
    """A config that exists already, changed by `arguments` (`--config.section.key=value`), as plain values. InputError
    as `load_config`, with `where` in the place of the file."""
    try:
        _check_keys(arguments, config, renamed)
        changed = _parse([_tuple_override(one, config) for one in arguments], config)
    except flags.Error as error:
        raise InputError(f"{_sentence(error)}; `aloe config` shows the keys and their meaning") from None
    return _values(changed, where)


def names_file(arguments: Sequence[str]) -> bool:
    """Whether the arguments name a config file, so that no stored config counts."""
    return any(argument == "--config" or argument.startswith("--config=") for argument in arguments)


def _values(changed: ConfigDict, where: str) -> dict[str, object]:
    """Plain lists and dicts, as stored in manifests."""
    try:
        values: dict[str, object] = json.loads(changed.to_json())
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: a value is not JSON-serialisable ({_sentence(error)})") from None
    for name, value in _numbers(values, "config"):
        if not math.isfinite(value):
            raise InputError(f"{name}: {value} is not a finite number; give one that is")
    return values


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Let imports find files in `folder`."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


def _tuple_override(argument: str, config: ConfigDict) -> str:
    """An override of a tuple of texts with `a,b` in place of `('a','b')`; any other as it is."""
    name, _, text = argument.partition("=")
    value: object = config
    for key in name.removeprefix("--config").split(".")[1:]:
        value = value.get(key) if isinstance(value, ConfigDict) else None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if (
        not isinstance(value, tuple)
        or text.strip()[:1] in ("(", "[", "'", '"')
        or (all(map(_is_number, parts)) and parts)
    ):
        return argument
    return f"{name}={tuple(parts)!r}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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


def shipped_file(name: str) -> Path:
    """The path of a shipped config file. InputError if there is none of that name."""
    known = shipped()
    if name in known:
        return known[name]
    beside = f"; did you mean '{name}.py'?" if Path(f"{name}.py").is_file() else nearest(name, known)
    raise InputError(
        f"config file '{name}' does not exist; give a path, or one of the shipped {', '.join(known)}{beside}"
    )


def _path(arguments: Sequence[str]) -> tuple[Path, str]:
    """The config file and its argument. InputError if none is given, several are, or there is no such Python file."""
    given = [argument.removeprefix("--config=") for argument in arguments if argument.startswith("--config=")]
    if not given or not given[0]:
        raise InputError("--config is missing; give an experiment file, for example --config=configs/demo.py")
    if len(given) > 1:
        raise InputError(f"--config is given {len(given)} times ({', '.join(given)}); give one file")
    name, _, arg = given[0].partition(":")
    path = Path(name).expanduser()
    if not path.is_file():
        if (":" in arg and Path(given[0].rpartition(":")[0]).is_file()) or Path(given[0]).is_file():
            raise InputError(f"config file '{given[0]}': its path must not contain ':'; rename the folder or the file")
        path = shipped_file(name)
    if path.suffix != ".py":
        raise InputError(f"config file '{name}' must be a Python file with get_config(); `aloe config` shows the form")
    return path, arg


def _parse(arguments: Sequence[str], config: ConfigDict | None = None) -> Any:
    """The config that the arguments give: a file's, or `config` with changes."""
    values, argv = flags.FlagValues(), ["aloe", *arguments]
    library = logging.getLogger("absl")
    before, library.disabled = library.disabled, True  # what it warns of ends in a sentence of ours
    try:
        if config is None:
            config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
        else:
            config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        values(argv)
        return values.config
    finally:
        library.disabled = before


def _check_keys(arguments: Sequence[str], config: ConfigDict, renamed: Mapping[str, str]) -> None:
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


def _sentence(error: BaseException) -> str:
    """One line of an error's message. config_flags may put a whole traceback into it, whose last line has the
    reason."""
    found = str(error).strip().splitlines() or ["no reason given"]
    reason = found[-1] if "Traceback" in str(error) else found[0]
    reason = re.sub(r"malformed node or string.*", "it is no Python literal, such as 1, 'text' or (1, 2)", reason)
    return re.sub(r"\('([^']*)', '([^']*)'\)", r"\1: \2", reason)


def _line(error: BaseException, file: Path) -> str:
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

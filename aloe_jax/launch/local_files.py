"""Settings that name files of this machine: the hosts of a job get this folder at most, or an image."""

from __future__ import annotations

import glob
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from aloe_jax.errors import InputError
from aloe_jax.settings import plain

_OTHER = ("bucket", "launch")  # sections that name folders of each host, and what is no file


def check_copied(settings: Mapping[str, object], files: tuple[str, ...] = ()) -> None:
    """Raise InputError for a setting whose file is here and would not be on a host to which SkyPilot copied this
    folder; `files` are other paths that the command names, by the argument that does."""
    named = [("--config", file) for file in files]
    for where, path in (*named, *_named(settings)):
        if reason := _left_behind(path):
            raise InputError(
                f"{where}: '{path}' is on this machine and would not be on the hosts, {reason}; upload it to a bucket "
                "and give its gs:// URL, or a path in this folder that is copied"
            )


def in_words(settings: Mapping[str, object]) -> str:
    """A line on the settings that name files of this machine, for hosts that get an image; empty if none does."""
    found = [f"{where} ('{path}')" for where, path in _named(settings)]
    return f"the image must have what these settings name, or give gs:// URLs: {', '.join(found)}" if found else ""


def _named(settings: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The settings that name something on this machine."""
    return _local({name: plain(section) for name, section in settings.items() if name not in _OTHER}, "config")


def _local(value: object, where: str) -> Iterator[tuple[str, str]]:
    """The texts in plain settings that name something on this machine, each of a comma-separated list by itself."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _local(one, f"{where}.{name}")
    elif isinstance(value, list):
        for one in value:
            yield from _local(one, where)
    elif isinstance(value, str):
        for part in value.split(","):
            path = part.partition("=")[2] or part  # benchmark.models names a folder as NAME=FOLDER
            if _is_here(path.strip()):
                yield where, path.strip()


def _is_here(path: str) -> bool:
    """Whether it is a path of this machine and no plain word, such as a choice that is also the name of a folder."""
    if not path.isprintable() or "://" in path or not ("/" in path or "." in path) or not path.strip("/."):
        return False
    expanded = str(Path(path).expanduser()) if path.startswith("~/") else path
    try:
        return bool(glob.glob(expanded)) or Path(expanded).exists()
    except OSError:  # longer than a name may be
        return False


def _left_behind(path: str) -> str:
    """Why the hosts would not find a path; empty if they would."""
    if Path(path).is_absolute() or path.startswith("~"):
        return "which have folders of their own"
    if ".." in Path(path).parts:
        return "which get this folder alone"
    # https://docs.skypilot.co/en/latest/examples/syncing-code-artifacts.html: .skyignore takes the place of .gitignore
    if not Path(".skyignore").exists() and _ignored(path):
        return "as SkyPilot does not copy what .gitignore lists"
    return ""


def _ignored(path: str) -> bool:
    try:
        call = subprocess.run(["git", "check-ignore", "--no-index", "--quiet", "--", path], capture_output=True)
    except OSError:  # git is not installed
        return False
    return call.returncode == 0  # 128 outside of a repository

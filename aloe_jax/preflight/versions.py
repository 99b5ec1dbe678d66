"""Packages: the same on all hosts, and jaxlib and libtpu those that the installed JAX asks for."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence

from packaging.requirements import Requirement

from aloe_jax.preflight.host import Host
from aloe_jax.run.manifest import versions

_PINNED = ("jaxlib", "libtpu")
_MISSING = "not installed"


def installed() -> dict[str, str]:
    """Versions of Python, of the packages that results depend on, and of all others that ours asks for and that are
    installed, libtpu among them."""
    found = versions()
    try:
        asked = {Requirement(text).name for text in importlib.metadata.requires("aloe_jax") or []}
    except importlib.metadata.PackageNotFoundError:  # run from its source folder
        asked = set()
    for name in sorted(asked.union(_PINNED) - set(found)):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def in_words(host: Host) -> str:
    """JAX and what it asks for, for the table."""
    found = installed()
    named = ", ".join(f"{name} {found[name]}" for name in ("jax", *_PINNED) if name in found)
    return f"{named} fit"


def pinned_packages(host: Host) -> Iterator[str]:
    """jaxlib and libtpu are of the versions that the installed JAX asks for."""
    yield from pin_failures(installed(), importlib.metadata.requires("jax") or [])


def pin_failures(found: Mapping[str, str], requirements: Sequence[str]) -> Iterator[str]:
    """A sentence per package of `found` that does not fit the requirements of JAX."""
    for text in requirements:
        wanted = Requirement(text)
        if wanted.name not in found or wanted.name not in _PINNED:
            continue
        # libtpu is asked for by the extra alone.
        applies = wanted.marker is None or (wanted.name == "libtpu" and wanted.marker.evaluate({"extra": "tpu"}))
        if applies and not wanted.specifier.contains(found[wanted.name], prereleases=True):
            yield (
                f"{wanted.name} {found[wanted.name]} does not fit jax {found['jax']}, which asks for "
                f"{wanted.specifier}; `pip install 'jax[tpu]=={found['jax']}'`"
            )


def differing(hosts: Mapping[int, Mapping[str, str]]) -> Iterator[str]:
    """A sentence per package whose version is not that of the first process; `hosts` holds versions by number."""
    first, *others = hosts
    for number in others:
        for name in sorted(set(hosts[first]) | set(hosts[number])):
            here, there = (hosts[one].get(name, _MISSING) for one in (first, number))
            if here != there:
                yield f"{name} is {there} on process {number} and {here} on process {first}; {_remedy(name, here)}"


def _remedy(name: str, version: str) -> str:
    if name == "python":
        return f"`uv venv --python={version} && uv sync` there"
    if name == "aloe_jax" or version == _MISSING:  # nothing to install
        return "bring both to the same commit, and `uv sync` there"
    return f"`uv pip install '{name}=={version}'` there"

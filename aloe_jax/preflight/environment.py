"""The variables by which libtpu finds the other hosts and slices: stale ones make it wait for hosts that are gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aloe_jax.preflight.host import Host

PREFIXES = ("MEGASCALE_", "TPU_WORKER_")
FLAGS = "LIBTPU_INIT_ARGS"
_SLICES, _SLICE = "MEGASCALE_NUM_SLICES", "MEGASCALE_SLICE_ID"
_HOSTS, _WORKER = "TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID"


def watched(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are compared between hosts."""
    return {name: value for name, value in environment.items() if name.startswith(PREFIXES) or name == FLAGS}


def in_words(host: Host) -> str:
    """The variables that are set, for the table; empty if there are none."""
    return ", ".join(sorted(watched(host.environment)))


def stale_variables(host: Host) -> Iterator[str]:
    """Variables of slices and workers fit each other and the number of processes. Yields a sentence per failure."""
    found = watched(host.environment)
    slices, left = found.get(_SLICES, ""), sorted(name for name in found if name.startswith("MEGASCALE_"))
    if left and not slices:
        yield f"{', '.join(left)} set without {_SLICES}, as a job before leaves them; `unset {' '.join(left)}`"
    elif slices and not _below(found.get(_SLICE, "0"), slices):
        yield (
            f"{_SLICE}={found.get(_SLICE)} is not one of {_SLICES}={slices} slices, counted from 0; "
            f"`unset {' '.join(left)}` or set them for this job"
        )
    elif slices and host.processes % int(slices):
        yield (
            f"{_SLICES}={slices} does not divide the {host.processes} processes of this run; `unset {' '.join(left)}` "
            "if a job before left them, else start one process on every host of every slice"
        )
    if _HOSTS in found:
        count = len(found[_HOSTS].split(","))
        if not _below(found.get(_WORKER, "0"), str(count)):
            yield (
                f"{_WORKER}={found[_WORKER]} is not one of the {count} hosts of {_HOSTS}={found[_HOSTS]}, counted from "
                f"0; `unset {_WORKER} {_HOSTS}`"
            )
        expected = count * (int(slices) if slices.isdigit() else 1)
        if host.processes and count > 1 and host.processes % expected:
            yield (
                f"{_HOSTS} names {expected} hosts with all slices, and this run has {host.processes} processes; "
                f"`unset {_HOSTS} {_WORKER}` if a job before left them, else start one process on every host"
            )


def differing(hosts: Mapping[int, Mapping[str, str]]) -> Iterator[str]:
    """A sentence per variable that should be the same on all hosts, or different on each, and is not; `hosts` holds
    what `watched` found, by number."""
    names = sorted({name for found in hosts.values() for name in found} - {_WORKER, _SLICE, _HOSTS})
    for name in names:
        yield from _unequal(name, {number: found.get(name, "") for number, found in hosts.items()})
    slices: dict[str, dict[int, Mapping[str, str]]] = {}
    for number, found in hosts.items():
        slices.setdefault(found.get(_SLICE, ""), {})[number] = found
    for members in slices.values():
        yield from _unequal(_HOSTS, {number: found.get(_HOSTS, "") for number, found in members.items()})
        taken: dict[str, int] = {}
        for number, found in members.items():
            worker = found.get(_WORKER, "")
            if worker and worker in taken:
                yield (
                    f"{_WORKER} is {worker} on processes {taken[worker]} and {number}; `unset {_WORKER}` there, or "
                    "give each host its own"
                )
            taken.setdefault(worker, number)


def _unequal(name: str, values: Mapping[int, str]) -> Iterator[str]:
    first, *others = values
    for number in others:
        if values[number] != values[first]:
            yield (
                f"{name} is '{values[number]}' on process {number} and '{values[first]}' on process {first}; "
                f"`unset {name}` where it is stale, or export the same on all hosts"
            )


def _below(text: str, limit: str) -> bool:
    return text.isdigit() and limit.isdigit() and int(text) < int(limit)

"""The two ways to make the checks: `aloe preflight`, and the start of a run of several hosts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from aloe_jax.errors import InputError
from aloe_jax.parallel import hosts
from aloe_jax.parallel.meeting import REFUSE, WARN, Group, HostSettings, group_of
from aloe_jax.plan.topology import parse_topology
from aloe_jax.preflight import comparison, environment, versions
from aloe_jax.preflight.checks import CHECKS
from aloe_jax.preflight.host import Host
from aloe_jax.preflight.roll_call import Finding, Report, roll_call
from aloe_jax.preflight.rows import FAILED, NOTHING, WAITING, WARNING, Row, Show


def preflight(host: Host, where: str, settings: HostSettings, show: Show) -> None:
    """Make all checks on this host or, with `where` as in `hosts.connect`, on all of them, and show a row for each.
    InputError, after all rows, if a check failed."""
    group = group_of(where, settings) if where else None
    checked = _of(host, group)
    found: list[Finding] = []
    for check in CHECKS:
        show(row := check.row(checked))
        found += [(row.name, failure) for failure in row.failures]
    if group is not None and group.processes > 1:
        found = _met(group, found, settings, show)
    else:
        show(Row("hosts", "this one alone; --distributed checks several", mark=NOTHING))
    if found:
        show(Row("devices", "not touched, as a check before them failed", mark=NOTHING))
    else:
        if where:
            hosts.connect(where, settings)
        found = _of_devices(checked, settings, show)
    if found:
        counted = f"{len(found)} checks" if len(found) > 1 else "a check"
        again = " on every host" if where else ""
        raise InputError(f"preflight: {counted} failed; fix what is listed above, and start it again{again}")
    show(Row("all", "ready"))


def before_run(where: str, settings: HostSettings, host: Host, writes: bool, show: Show) -> None:
    """Make the checks that touch no device, before the hosts of a run connect, and show what failed. InputError if the
    run cannot go on. Without `writes` the checks that write a file are left out."""
    group = group_of(where, settings)
    if group is None:  # JAX says it better
        return
    checked, found = _of(host, group), list[Finding]()
    for check in CHECKS:
        if writes or not check.writes:
            row = check.row(checked)
            if check.stops and settings.preflight == REFUSE:
                found += [(row.name, failure) for failure in row.failures]
            elif row.failures:
                show(replace(row, mark=WARNING))
    if group.processes > 1:
        try:
            found = _met(group, found, settings, _counts_only(show))
        except InputError:  # not all came; what is wrong here comes first
            _show_all(found, FAILED, show)
            raise
    _refuse(found, settings, show)


def after_connect(settings: HostSettings, host: Host, show: Show) -> None:
    """Make the checks that touch the devices, once the hosts of a run are connected; as `before_run`."""
    _refuse(_of_devices(host, settings, _counts_only(show)), settings, show)


def _of(host: Host, group: Group | None) -> Host:
    return replace(host, processes=group.processes) if group else host


def _met(group: Group, mine: Sequence[Finding], settings: HostSettings, show: Show) -> list[Finding]:
    """The failures of the whole run, where `mine` are those of this host. Shows the good rows on process 0, and what
    failed elsewhere on all of them."""
    report = Report(
        name=os.uname().nodename,
        failures=tuple(text for _, text in mine),
        versions=versions.installed(),
        environment=environment.watched(os.environ),
    )

    def judge(reports: Mapping[int, Report], ahead: Mapping[int, float]) -> list[Finding]:
        show(Row("coordinator", f"all {len(reports)} hosts reach {group.host}:{group.port}"))
        rows = comparison.compared(reports, ahead)
        for row in rows:
            if not row.failures:
                show(row)
        return [*comparison.reported(reports), *((row.name, text) for row in rows for text in row.failures)]

    found = roll_call(group, report, judge, settings.meet_seconds, lambda text: show(Row("hosts", text, mark=WAITING)))
    for name, text in found:
        if name != f"process {group.number}":
            show(Row(name, failures=(text,)))
    return found


def _of_devices(host: Host, settings: HostSettings, show: Show) -> list[Finding]:
    """The failures of the devices; shows every row."""
    from aloe_jax.preflight import devices

    topology = parse_topology(settings.topology) if settings.topology else None
    found: list[Finding] = []
    for row in devices.device_rows(host, topology, settings.meet_seconds):
        show(row)
        found += [(row.name, failure) for failure in row.failures]
    return found


def _counts_only(show: Show) -> Show:
    """Shows "N of M hosts", and leaves the rest to `_refuse`."""
    return lambda row: show(row) if row.mark == WAITING else None


def _refuse(found: Sequence[Finding], settings: HostSettings, show: Show) -> None:
    """Raise InputError with the failure, after all are shown if there are several; `preflight=warn` only shows them."""
    if len(found) > 1 or settings.preflight == WARN:
        _show_all(found, WARNING if settings.preflight == WARN else FAILED, show)
    if found and settings.preflight == REFUSE:
        name, text = found[0]
        first = f"{name}: {text}"
        raise InputError(f"preflight: {first}" if len(found) == 1 else f"preflight: {len(found)} failures, {first}")


def _show_all(found: Sequence[Finding], mark: str, show: Show) -> None:
    for name, text in found:
        show(Row(name, failures=(text,), mark=mark))

"""`aloe preflight`, and the start of `aloe run --distributed`, which makes the same checks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TextIO

from aloe_jax.cli.parsing import Add, path_of
from aloe_jax.errors import InputError

if TYPE_CHECKING:
    from aloe_jax.preflight.rows import Row

DEFAULT_WAIT = 300  # seconds; a run waits longer, for hosts that are still booting


def add_preflight(add: Add) -> None:
    """Add the command and its options."""
    command = add(
        "preflight",
        preflight,
        "Check this host, or all hosts of a run, before it starts: TPUs, packages, variables, ports, folders, clocks.",
    )
    command.add_argument("--topology", default="", help="slice that should be there: v5e:4x4, v5p:2x2x4, v6e-16")
    command.add_argument("--workdir", type=path_of, help="run directory to check, a folder or gs://")
    command.add_argument(
        "--space",
        type=float,
        default=5.0,
        metavar="GIB",
        help="free space that a local run directory needs (default: 5, for the demo; see docs/preflight.md)",
    )
    command.add_argument(
        "--cache-dir", type=path_of, help="JAX's compilation cache to check (default: $JAX_COMPILATION_CACHE_DIR)"
    )
    command.add_argument(
        "--wait",
        type=int,
        default=DEFAULT_WAIT,
        metavar="SECONDS",
        help=f"time for the other hosts and for the devices (default: {DEFAULT_WAIT})",
    )
    command.add_argument(
        "--distributed",
        nargs="?",
        const="auto",
        default="",
        metavar="ADDRESS:PORT,PROCESSES,NUMBER",
        help="check all hosts of a run, to be started on each; as in `aloe run`",
    )


def preflight(options: argparse.Namespace) -> None:
    """Check this host, or all hosts of a run. InputError if a check fails, after a row for each."""
    from aloe_jax.cli.waiting import waiting

    with waiting("importing"):
        from aloe_jax.parallel.meeting import HostSettings
        from aloe_jax.plan.topology import parse_topology
        from aloe_jax.preflight.host import Host
        from aloe_jax.preflight.preflight import preflight

    if options.topology:
        parse_topology(options.topology)
    if options.wait < 1:
        raise InputError(f"--wait: {options.wait} must be at least 1 second")
    host = Host(workdir=options.workdir or "", cache_dir=options.cache_dir or "", space=options.space)
    preflight(
        host,
        options.distributed,
        HostSettings(meet_seconds=options.wait, topology=options.topology),
        _printing(sys.stdout),
    )


def meet(options: argparse.Namespace, settings: Mapping[str, object]) -> None:
    """Connect this process with the others of `aloe run --distributed`, with the checks around it. InputError if one of
    them fails or the hosts do not meet."""
    from aloe_jax.parallel import hosts
    from aloe_jax.parallel.meeting import HostSettings
    from aloe_jax.preflight.host import Host
    from aloe_jax.preflight.preflight import after_connect, before_run

    found = settings.get("hosts")  # missing in a config from before there was one
    meeting = found if isinstance(found, HostSettings) else HostSettings()
    host, show = Host(workdir=options.workdir), _printing(sys.stderr)
    before_run(options.distributed, meeting, host, not options.dry_run, show)
    hosts.connect(options.distributed, meeting)
    after_connect(meeting, host, show)


def _printing(stream: TextIO) -> Callable[[Row], None]:
    """Prints the rows of a preflight."""
    from aloe_jax.preflight.rows import terminal_width

    width = terminal_width(stream.isatty())
    return lambda row: print(row.text(width), file=stream, flush=True)

"""What only a comparison of the hosts shows: versions, variables, clocks."""

from __future__ import annotations

from collections.abc import Mapping

from aloe_jax.preflight import environment, versions
from aloe_jax.preflight.roll_call import Report

LARGEST_SKEW = 5.0  # seconds between clocks: tokens of Google Cloud and the order of logs depend on them


def compared(hosts: Mapping[int, Report], ahead: Mapping[int, float]) -> list[str]:
    """The failures that the hosts report, and those that only a comparison shows: versions, variables, clocks."""
    found = [f"process {number} ({one['name']}): {text}" for number, one in hosts.items() for text in one["failures"]]
    found += versions.differing({number: one["versions"] for number, one in hosts.items()})
    found += environment.differing({number: one["environment"] for number, one in hosts.items()})
    for number, seconds in ahead.items():
        if abs(seconds) > LARGEST_SKEW:
            which = "ahead of" if seconds > 0 else "behind"
            found.append(
                f"the clock of process {number} is {abs(seconds):.0f} seconds {which} that of process 0; "
                "`sudo systemctl restart chrony`"
            )
    return found

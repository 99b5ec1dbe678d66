"""What only a comparison of the hosts shows: versions, variables, clocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aloe_jax.preflight import environment, versions
from aloe_jax.preflight.roll_call import Finding, Report
from aloe_jax.preflight.rows import Row

# Seconds between two clocks. Time servers keep hosts within milliseconds of each other, so one that is seconds off has
# lost its server, and drifts on to where Google refuses its tokens.
LARGEST_SKEW = 5.0


def compared(hosts: Mapping[int, Report], ahead: Mapping[int, float]) -> list[Row]:
    """A row per comparison. `hosts` holds reports by number, `ahead` the seconds by which each clock is at least ahead
    of that of process 0, negative behind it."""
    numbers = {number: one.versions for number, one in hosts.items()}
    variables = {number: one.environment for number, one in hosts.items()}
    count = f"{len(hosts)} hosts"
    packages = len(numbers[min(numbers)])
    skew = max((abs(seconds) for seconds in ahead.values()), default=0.0)
    return [
        Row("same packages", f"{packages} versions, equal on {count}", tuple(versions.differing(numbers))),
        Row("same variables", f"equal on {count}", tuple(environment.differing(variables))),
        Row("clocks", f"within {max(skew, 0.1):.1f} seconds", tuple(_wrong_clocks(ahead))),
    ]


def reported(hosts: Mapping[int, Report]) -> list[Finding]:
    """The failures that the hosts found themselves."""
    return [(f"process {number}", f"{one.name}: {text}") for number, one in hosts.items() for text in one.failures]


def _wrong_clocks(ahead: Mapping[int, float]) -> Iterator[str]:
    for number, seconds in ahead.items():
        if abs(seconds) > LARGEST_SKEW:
            which = "ahead of" if seconds > 0 else "behind"
            yield (
                f"the clock of process {number} is {abs(seconds):.0f} seconds {which} that of process 0; "
                "`sudo systemctl restart chrony`, or `sudo timedatectl set-ntp true`, on the one that is wrong"
            )

"""The compiler flags that plans, runs and launched jobs share, and how they get into the environment. They must be
there before libtpu is loaded, so this file imports nothing that could load it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aloe_jax.plan.tuning import Use, flags_of, groups_of

VARIABLE = "LIBTPU_INIT_ARGS"
DEFAULT = ("whole_gathers",)  # the group whose gain `aloe plan` shows (docs/plan.md)


@dataclass(frozen=True)
class Added:
    """Flags that were added to the environment, and those of the user's that stood in the place of others."""

    flags: tuple[str, ...]
    kept: tuple[str, ...] = ()

    def line(self) -> str:
        """What a run says of it; empty if there is nothing to say."""
        parts = [f"added {' '.join(self.flags)}"] if self.flags else []
        parts += [f"kept {' '.join(self.kept)} as it was"] if self.kept else []
        return f"{VARIABLE}: {', '.join(parts)}, for config.tuning" if parts else ""


def tuning_groups(chip: str | None, settings: Mapping[str, object]) -> tuple[str, ...]:
    """The groups that `config.tuning` asks for on a chip of that name ("v5e"; None: unknown), given the settings of an
    experiment by section. A config of before there was the setting has its default."""
    tuning, mesh, compute = settings.get("tuning", DEFAULT), settings.get("mesh"), settings.get("compute")
    assert isinstance(tuning, (tuple, list))
    return groups_of(tuning, chip, Use(int(getattr(mesh, "replica", 1)), str(getattr(compute, "remat", "full"))))


def libtpu_flags(chip: str | None, settings: Mapping[str, object]) -> tuple[str, ...]:
    """The flags of `tuning_groups`. They hold for all stages: libtpu reads them once in a process."""
    return flags_of(tuning_groups(chip, settings))


def add_flags(wanted: Sequence[str]) -> Added:
    """Add flags to LIBTPU_INIT_ARGS. One that is there already stays, with whatever value."""
    given = os.environ.get(VARIABLE, "").split()
    names = {flag.partition("=")[0]: flag for flag in given}
    added = tuple(flag for flag in wanted if flag.partition("=")[0] not in names)
    found = (names.get(flag.partition("=")[0]) for flag in wanted if flag not in given)
    if added:
        os.environ[VARIABLE] = " ".join([*given, *added])
    return Added(added, tuple(flag for flag in found if flag))


def flags() -> str:
    """The flags that programs are compiled with."""
    return os.environ.get(VARIABLE, "")

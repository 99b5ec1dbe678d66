"""The report of `aloe plan` as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from aloe_jax import files
from aloe_jax.plan.records import Candidate, OnlinePlan, Plan, Program
from aloe_jax.plan.roofline import Roofline


def write_plan(plan: Plan, path: str, found: Sequence[Candidate] = ()) -> None:
    """Write the report, and under `search` the reports of all that a search tried, each with its settings."""
    searched = [{"settings": one.settings} | to_json(one.plan) for one in found]
    files.write_json(path, to_json(plan) | ({"search": searched} if searched else {}))


def to_json(plan: Plan) -> dict[str, object]:
    """The report as plain values; bytes, seconds and operations in units of one."""
    return {
        "estimate": True,
        "stage": plan.stage,
        "topology": plan.topology.name,
        "chips": plan.topology.chips,
        "chip": plan.topology.chip.figures(),
        "interconnect_bandwidth": plan.topology.bandwidth,
        "mesh": dict(plan.mesh),
        "attention": plan.attention,
        "dtype": plan.dtype,
        "libtpu_init_args": plan.flags,
        "warnings": list(plan.warnings),
        "fits": plan.fits,
        "programs": [_program(program) for program in plan.programs],
        "training": dataclasses.asdict(plan.training) if plan.training else None,
        "decoding": dataclasses.asdict(plan.decoding) if plan.decoding else None,
        "online": _online(plan.online) if plan.online else None,
    }


def _online(online: OnlinePlan) -> dict[str, object]:
    derived = {name: getattr(online, name) for name in ("rollout_seconds", "update_seconds", "seconds")}
    return dataclasses.asdict(online) | derived


def _program(program: Program) -> dict[str, object]:
    values: dict[str, object] = dataclasses.asdict(program)
    values["memory"] = dataclasses.asdict(program.memory) | {"total": program.memory.total, "fits": program.memory.fits}
    values["time"] = _time(program.time) if program.time else None
    if not program.unread:  # the key stands only where something is missing
        del values["unread"]
    return values


def _time(time: Roofline) -> dict[str, float | str]:
    derived = {"seconds": time.seconds, "one_by_one": time.one_by_one, "bound": time.bound}
    return dataclasses.asdict(time) | derived

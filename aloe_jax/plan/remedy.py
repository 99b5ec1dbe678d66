"""What helps where a plan does not fit: each remedy only where it lowers what is too large."""

from __future__ import annotations

from aloe_jax.parallel.chips import GIB
from aloe_jax.plan.records import OnlinePlan, Plan, Program


def remedy(plan: Plan, searched: bool) -> str:
    """What to change, for a plan of which a program does not fit. `searched` is whether `--search` was tried.

    Parameters and moments are split over all chips of a replica, so a larger slice has fewer of them per chip. What a
    row or a slot of the cache needs beside them stays the same on each chip, unless the mesh's tensor axis splits it.
    """
    refused = next(program for program in plan.programs if not program.memory.fits)
    memory = refused.memory
    if plan.online:
        return _of_a_round(plan, plan.online, refused)
    beside = memory.peak - memory.parameters - memory.optimizer
    shorter = "shorter rows (config.dataset.row.tokens)" if plan.training else "lower config.serve.slots or context"
    section = "config.mesh" if plan.training else "config.decode.mesh"
    split = f"a larger {section}.tensor, now {plan.mesh['tensor']}, which splits it over chips"
    if beside >= memory.available:
        what = "a micro-batch" if plan.training else "the cache"
        tried = "nothing that the search tried does; " if searched else ""
        search = "--search, " if plan.training and not searched else ""
        return (
            f"{tried}{what} alone needs {beside / GIB:.1f} GiB per chip on a larger slice too; try {search}{split}, "
            f"or {shorter}"
        )
    larger = "take a larger slice"
    if plan.mesh["replica"] > 1:
        larger = f"lower {section}.replica, now {plan.mesh['replica']}, of which each holds all parameters"
    if not plan.training:
        return f"{split}, or {shorter}"
    if searched:
        return f"nothing that the search tried does; {larger}, or use adapters or {shorter}"
    return f"try --search, or {larger}"


def _of_a_round(plan: Plan, online: OnlinePlan, refused: Program) -> str:
    """For a program of a round, beside which trainer and reference stay."""
    memory = refused.memory
    own = f"its {refused.name} needs {memory.peak / GIB:.1f} GiB per chip beside {memory.beside / GIB:.1f} of others"
    if refused.name in ("step", "pass"):
        split = f"a larger config.mesh.tensor, now {plan.mesh['tensor']}"
        return f"{own}; try shorter rows (config.dataset.row.tokens), {split}, or a larger slice"
    split = f"a larger config.decode.mesh.tensor, now {online.engine_mesh['tensor']}"
    return f"{own}; try {split}, lower config.serve.slots or context, or a larger slice"

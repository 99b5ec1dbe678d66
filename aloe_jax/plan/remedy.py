"""What helps where a plan does not fit: each remedy only where it lowers what is too large."""

from __future__ import annotations

from aloe_jax.parallel.chips import GIB
from aloe_jax.plan.records import Plan


def remedy(plan: Plan, searched: bool) -> str:
    """What to change, for a plan of which a program does not fit. `searched` is whether `--search` was tried.

    Parameters and moments are split over all chips of a replica, so a larger slice has fewer of them per chip. What a
    row or a slot of the cache needs beside them stays the same on each chip, unless the mesh's tensor axis splits it.
    """
    memory = next(program.memory for program in plan.programs if not program.memory.fits)
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

"""`aloe plan --search`: a batch and a remat policy that fit, in at most four compilations."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

from aloe_jax.errors import InputError
from aloe_jax.plan import workload as workloads
from aloe_jax.plan.plan import TRAINING, Plan, Training, make_plan
from aloe_jax.train.objectives import OBJECTIVES
from aloe_jax.tree.row import Capacity

MOST_COMPILATIONS = 4


def search(
    config: Mapping[str, Any],
    stage: str,
    topology_name: str,
    *,
    workdir: str = "",
    progress: Callable[[str], None] = lambda line: None,
) -> list[tuple[dict[str, Any], Plan]]:
    """Plans for at most four choices of batch, rows a micro-batch and `compute.remat`, the fastest that fit first, by
    real tokens a second. Where a row a shard is too much, activations are split over the mesh's tensor axis as well.

    With each plan come the settings to give to `aloe run`: those of its program, the largest batch that fills it, and
    the learning rate scaled by the square root of the batch. InputError for the benchmark, which has none of these.
    """
    if stage not in TRAINING:
        raise InputError(f"--search: looks for batch and remat of a training; --stage={stage} has neither")

    def attempt(changes: Mapping[str, Any]) -> tuple[dict[str, Any], Plan]:
        plan = make_plan(_with(config, changes), stage, topology_name, workdir=workdir, progress=progress)
        return _settings(config, stage, changes, plan), plan

    found = [attempt({})]
    first = found[0][1]
    assert first.training
    shards = first.mesh["replica"] * first.mesh["fsdp"]
    if first.fits:
        others = _faster(stage, first.training)
    else:
        capacity, unit = Capacity(**config["dataset"]["row"]), OBJECTIVES[config[stage]["objective"]].unit
        load = workloads.workload_of(config, workdir, capacity, unit)
        fill = lambda rows: workloads.fitting_batch(load, capacity, rows, unit).batch  # noqa: E731
        others = _smaller(stage, first.training, first.mesh, shards, fill)
    for changes in others[: MOST_COMPILATIONS - 1]:
        try:
            found.append(attempt(changes))
        except InputError as error:  # a model whose heads do not divide, say
            progress(f"not tried: {error}")
    return sorted(found, key=lambda item: (not item[1].fits, -_speed(item[1])))


def _faster(stage: str, training: Training) -> list[dict[str, Any]]:
    """What takes more memory and less time: keeping more of a layer, more rows at once."""
    rows = training.rows
    choices = [(rows, "dots"), (rows, "attention"), (2 * rows, "full"), (2 * rows, "attention")]
    return [
        {f"{stage}.rows": count, "compute.remat": remat}
        for count, remat in choices
        if (count, remat) != (rows, training.remat)
    ]


def _smaller(
    stage: str, training: Training, mesh: Mapping[str, int], shards: int, fill: Callable[[int], int]
) -> list[dict[str, Any]]:
    """What takes less memory: whole layers computed again and one micro-batch, which needs no second gradient; fewer
    rows in it, down to one a shard; a row split over two and four times as many chips. `fill` gives the batch for a
    number of rows."""
    rows = training.rows

    def one(rows: int, **mesh: int) -> dict[str, Any]:
        changed = {f"mesh.{axis}": size for axis, size in mesh.items()}
        return {f"{stage}.rows": rows, f"{stage}.batch": fill(rows), "compute.remat": "full", **changed}

    tried = training.remat == "full" and training.configured.micro_batches == 1
    counts = [part for part in (rows, rows // 2, rows // 4) if part >= shards and part % shards == 0][tried:]
    splits = [split for split in (2, 4) if mesh["fsdp"] % split == 0]
    return [one(count) for count in counts] + [
        one(shards // split, fsdp=mesh["fsdp"] // split, tensor=mesh["tensor"] * split) for split in splits
    ]


def _with(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The config with other values of some `section.key`."""
    changed = copy.deepcopy(dict(config))
    for name, value in changes.items():
        section, key = name.split(".")
        changed[section][key] = value
    return changed


def _settings(config: Mapping[str, Any], stage: str, changes: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """By name on the command line, what makes the program of `plan` and fills it."""
    assert plan.training
    section, full = config[stage], plan.training.full
    rate = section["learning_rate"] * math.sqrt(full.batch / section["batch"])
    settings = {
        f"{stage}.batch": full.batch,
        f"{stage}.learning_rate": float(f"{rate:.3g}"),
        f"{stage}.rows": plan.training.rows,
        "compute.remat": plan.training.remat,
    }
    settings |= {name: value for name, value in changes.items() if name.startswith("mesh.")}
    return {f"config.{name}": value for name, value in settings.items()}


def _speed(plan: Plan) -> float:
    """Real tokens a second of a full step."""
    assert plan.training
    return plan.training.full.speed

"""`aloe plan --search`: a batch and a remat policy that fit, in at most four compilations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from aloe_jax.errors import InputError
from aloe_jax.plan import workload as workloads
from aloe_jax.plan.plan import make_plan
from aloe_jax.plan.records import Candidate, Plan, TrainingPlan
from aloe_jax.plan.settings import PlannedSettings
from aloe_jax.plan.training import STAGES
from aloe_jax.train.objectives import OBJECTIVES

MOST_COMPILATIONS = 4


@dataclass(frozen=True)
class Choice:
    """What an attempt changes; None leaves the config's value."""

    rows: int  # per micro-batch
    remat: str
    batch: int | None = None
    split: tuple[int, int] | None = None  # chips along the mesh's axes fsdp and tensor

    def applied(self, settings: PlannedSettings, stage: str) -> PlannedSettings:
        """The settings with these values."""
        training = settings.training(stage)
        sections: dict[str, object] = {
            stage: replace(training, rows=self.rows, batch=self.batch or training.batch),
            "compute": replace(settings.compute, remat=self.remat),
        }
        if self.split:
            sections["mesh"] = replace(settings.mesh, fsdp=self.split[0], tensor=self.split[1])
        return settings.replaced(**sections)


def search(
    settings: PlannedSettings,
    stage: str,
    topology_name: str,
    *,
    workdir: str = "",
    progress: Callable[[str], None] = lambda line: None,
) -> list[Candidate]:
    """Plans for at most four choices of batch, rows per micro-batch and `compute.remat`, the fastest that fit first, by
    real tokens per second. Where one row per shard is too much, activations are split over the mesh's tensor axis too.

    With each plan come the settings to give to `aloe run`: those of its program, the largest batch that fills it, and
    the learning rate scaled by the square root of the batch. InputError for the benchmark, which has none of these.
    """
    if stage not in STAGES:
        raise InputError(f"--search: looks for batch and remat of a training; --stage={stage} has neither")

    def attempt(choice: Choice | None) -> Candidate:
        changed = choice.applied(settings, stage) if choice else settings
        plan = make_plan(changed, stage, topology_name, workdir=workdir, progress=progress)
        return Candidate(_advice(settings, stage, choice, plan), plan)

    found = [attempt(None)]
    first = found[0].plan
    assert first.training
    for choice in _choices(settings, stage, workdir, first, first.training)[: MOST_COMPILATIONS - 1]:
        try:
            found.append(attempt(choice))
        except InputError as error:  # a model whose heads do not divide, say
            progress(f"not tried: {error}")
    return sorted(found, key=lambda one: (not one.plan.fits, -_speed(one.plan)))


def _choices(
    settings: PlannedSettings, stage: str, workdir: str, first: Plan, training: TrainingPlan
) -> Sequence[Choice]:
    """What to try after the plan of the config as it is."""
    if first.fits:
        return _faster(training)
    objective = OBJECTIVES[settings.training(stage).objective]
    load = workloads.workload_of(settings, workdir, objective.chooses)
    return _smaller(
        training,
        first.mesh,
        lambda rows: workloads.fitting_batch(load, settings.dataset.row, rows, objective.unit).batch,
    )


def _faster(training: TrainingPlan) -> list[Choice]:
    """Choices that take more memory and less time: keeping more of a layer, more rows at once."""
    rows = training.rows
    choices = [(rows, "dots"), (rows, "attention"), (2 * rows, "full"), (2 * rows, "attention")]
    return [Choice(count, remat) for count, remat in choices if (count, remat) != (rows, training.remat)]


def _smaller(training: TrainingPlan, mesh: Mapping[str, int], fill: Callable[[int], int]) -> list[Choice]:
    """Choices that take less memory: computing whole layers again in a single micro-batch, which needs no second
    gradient; fewer rows in it, down to one per shard; a row split over two and four times as many chips. `fill` gives
    the batch for a number of rows."""
    rows, shards = training.rows, mesh["replica"] * mesh["fsdp"]
    tried = training.remat == "full" and training.configured.micro_batches == 1
    counts = [part for part in (rows, rows // 2, rows // 4) if part >= shards and part % shards == 0][tried:]
    splits = [split for split in (2, 4) if mesh["fsdp"] % split == 0]
    return [Choice(count, "full", fill(count)) for count in counts] + [
        Choice(shards // split, "full", fill(shards // split), split=(mesh["fsdp"] // split, mesh["tensor"] * split))
        for split in splits
    ]


def _advice(settings: PlannedSettings, stage: str, choice: Choice | None, plan: Plan) -> dict[str, int | float | str]:
    """By name on the command line, the settings that make the program of `plan` and fill it."""
    assert plan.training
    training, full = settings.training(stage), plan.training.full
    rate = training.learning_rate * math.sqrt(full.batch / training.batch)
    advice: dict[str, int | float | str] = {
        f"config.{stage}.batch": full.batch,
        f"config.{stage}.learning_rate": float(f"{rate:.3g}"),
        f"config.{stage}.rows": plan.training.rows,
        "config.compute.remat": plan.training.remat,
    }
    if choice and choice.split:
        advice |= dict(zip(("config.mesh.fsdp", "config.mesh.tensor"), choice.split, strict=True))
    return advice


def _speed(plan: Plan) -> float:
    """Real tokens per second of a full step."""
    assert plan.training
    return plan.training.full.speed

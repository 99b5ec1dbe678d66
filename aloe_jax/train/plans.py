"""Which conversations a training trains on and which it holds out, packed into steps."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from aloe_jax.data.builder import FragmentSource
from aloe_jax.data.plan import COUNTED, REPLIES, PackPlan, pack_plan
from aloe_jax.data.settings import DatasetSettings
from aloe_jax.errors import InputError
from aloe_jax.run.stage import Run
from aloe_jax.train.held_out import held_out
from aloe_jax.train.objectives import objective_of
from aloe_jax.train.settings import TrainingSettings


def training_plans(run: Run, name: str, source: FragmentSource) -> tuple[PackPlan, PackPlan]:
    """The pack plans of the training `name` and of its held-out conversations; the second has no steps if there are
    none.

    Both cover the conversations that the objective can train on; a line on the display counts the others. Raises
    InputError if so much is held out that nothing is left to train on, or if all that is left has a turn weight of 0.
    """
    settings, dataset = run.section(name, TrainingSettings), run.section("dataset", DatasetSettings)
    objective = objective_of(settings)
    trained = source.sizes[:, COUNTED.get(objective.unit, REPLIES)]
    weights = np.array([dataset.sources[key].weight for key in source.sources])
    trained = np.where(weights[source.origin] > 0, trained, 0)
    if not objective.weighs_sources:
        mixed = {source.sources[number] for number in source.origin[trained > 0].tolist()}
        _check_equal_weights(name, settings.objective, dataset, mixed)
    if not trained.any() and objective.lacking:
        raise InputError(f"config.{name}.objective: '{settings.objective}': {objective.lacking}")
    useless = len(np.unique(source.conversation)) - len(np.unique(source.conversation[trained > 0]))
    if useless:
        run.progress.line(f"{name}: {useless:,} conversations with nothing to train on are left out")
    is_held_out = held_out(source.conversation, settings.held_out, run.seed)
    if trained.any() and not trained[~is_held_out].any():
        raise InputError(
            f"config.{name}.held_out: {settings.held_out} leaves nothing of so few conversations to train on"
        )

    def plan(chosen: np.ndarray, epochs: int) -> PackPlan:
        return pack_plan(
            source.sizes,
            source.conversation,
            dataset.row,
            batch=settings.batch,
            unit=objective.unit,
            seed=run.seed,
            epochs=epochs,
            origin=source.origin,
            weights=weights.tolist(),
            trained=np.where(chosen, trained, 0),
        )

    made = plan(~is_held_out, settings.epochs)
    _check_turns(name, settings, source, made)
    return made, plan(is_held_out, 1) if trained[is_held_out].any() else PackPlan(())


def _check_turns(name: str, settings: TrainingSettings, source: FragmentSource, plan: PackPlan) -> None:
    """Raise InputError if every turn that something is trained on in has the weight 0. The first fragment decides, as
    a rule; none is read where all weights are above 0."""
    weights = np.array(settings.turn_weights)
    if weights.all():
        return
    for number in dict.fromkeys(plan.fragments):
        turns = source[number].turn
        if (weights[np.minimum(turns, weights.size) - 1] > 0)[turns > 0].any() or (turns == 0).any():
            return
    raise InputError(
        f"config.{name}.turn_weights: {settings.turn_weights} leaves nothing to train on: every turn that there is has "
        "the weight 0; raise the weight of one of them (the last weight holds for all later turns)"
    )


def _check_equal_weights(name: str, objective: str, dataset: DatasetSettings, sources: Iterable[str]) -> None:
    """Raise InputError if the sources that an objective trains on have different loss weights, which it does not read.
    Equal ones change no mean."""
    found = {key: dataset.sources[key].loss_weight for key in sources}
    if len(set(found.values())) > 1:
        given = ", ".join(f"config.dataset.sources.{key}.loss_weight: {found[key]}" for key in sorted(found))
        raise InputError(
            f"{given}: config.{name}.objective '{objective}' counts all sources alike; make them equal, or use a "
            "pairwise objective"
        )

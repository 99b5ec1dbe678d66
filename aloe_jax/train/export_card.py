"""The facts on the card of an exported training, from the manifests of its run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import cast

from etils import epath

from aloe_jax import files
from aloe_jax.data.settings import TREES
from aloe_jax.hub.card import Figures, ModelCard, Origin, TrainedBy
from aloe_jax.hub.origin import origin_of
from aloe_jax.hub.source import HUB_ID
from aloe_jax.run.manifest import MANIFEST, Manifest, find_manifest, leaves, read_manifest
from aloe_jax.train.names import BASE, OWN, PREFERENCE, SFT
from aloe_jax.train.objectives import OBJECTIVES
from aloe_jax.train.objectives.settings import SHARED, ObjectiveSettings
from aloe_jax.train.sources import stored

ALIGNED = (
    "A language model trained to infer its user's unspoken preferences during the conversation and to fit its next "
    "replies to them (ALOE, arXiv 2410.03642), with aloe_jax."
)
TRAINED = "A language model trained with aloe_jax on given conversations, with the objectives below."
GIVEN = (
    "given by whoever trained the model. aloe_jax did not make them, so this card cannot say who wrote them, in which "
    "language and under which licence"
)


def stage_card(stage: epath.Path, folder: epath.Path, step: int, adapter: int | None = None) -> ModelCard:
    """The model card of the training in the folder `stage` at the checkpoint of `step`. `folder` has the files of the
    start model. `adapter` is the rank of an adapter that is exported alone."""
    manifest, run = read_manifest(stage), stage.parent
    base = origin_of(stored(manifest, stage, "model", "source"), folder)
    steps = _steps(stage, manifest)
    given, data = _data(run)
    final = step == steps
    benchmark = _benchmark(run, stage.name, manifest) if final else {}
    return ModelCard(
        name=f"{base.name}-aloe",
        base=base,
        summary=TRAINED if given else ALIGNED,
        data=data,
        trainings=[*_before(stage), _trained(stage, manifest, step, steps)],
        adapter=adapter,
        templated=bool(manifest.section("model").get("template")),
        variables=_variables(manifest),
        limits=_limits(manifest, given, base, benchmark, final),
        benchmark=benchmark,
        result=stage.name,
    )


def _steps(stage: epath.Path, manifest: Manifest) -> int | None:
    """The steps of a finished training; None for one that has not finished."""
    from aloe_jax.train.checkpoints import checkpoint_steps  # loads Orbax

    if not manifest.finished:
        return None
    found = manifest.counts.get("steps")
    return found if isinstance(found, int) else max(checkpoint_steps(stage / "checkpoints"), default=0)


def _before(stage: epath.Path) -> list[TrainedBy]:
    """The trainings that the one in `stage` started from, as they ended."""
    start = _start_stage(stage, read_manifest(stage))
    if start is None:
        return []
    manifest = read_manifest(start)
    steps = _steps(start, manifest)
    return [*_before(start), _trained(start, manifest, steps or 0, steps)]


def _trained(stage: epath.Path, manifest: Manifest, step: int, steps: int | None) -> TrainedBy:
    objective = stored(manifest, stage, stage.name, "objective")
    return TrainedBy(
        name=stage.name,
        objective=objective,
        start=_start(stage, manifest),
        step=step,
        steps=steps,
        settings=dict(_in_force(manifest, stage.name, objective)),
    )


def _start_of(stage: epath.Path, manifest: Manifest) -> str:
    return BASE if stage.name == SFT else str(manifest.section(PREFERENCE).get("start", SFT))


def _start_stage(stage: epath.Path, manifest: Manifest) -> epath.Path | None:
    """The folder of the training that the one in `stage` started from; None if that was none, or is gone."""
    start = _start_of(stage, manifest)
    found = stage.parent / start if start in OWN else epath.Path(start)
    return found if start != BASE and (found / MANIFEST).exists() else None


def _start(stage: epath.Path, manifest: Manifest) -> str:
    """What a training started from, without its place."""
    start = _start_of(stage, manifest)
    if start == BASE:
        return "the base model"
    if start in OWN:
        return f"the result of `{start}`"
    found = _start_stage(stage, manifest)
    return f"the result of `{found.name}` of another run" if found is not None else f"`{_public(start)}`"


def _in_force(manifest: Manifest, name: str, objective: str) -> Iterator[tuple[str, object]]:
    """(key, value) of the settings that decided the result of the training `name`: without those of other objectives
    and of adapters where there are none, and without places of files, which are the business of whoever trained."""
    known = OBJECTIVES.get(objective)
    unread = (
        {field.name for field in dataclasses.fields(ObjectiveSettings)} - SHARED - (known.reads if known else set())
    )
    for key, value in leaves({each: manifest.section(each) for each in (name, "lora", "compute", "template")}):
        section, _, setting = key.partition(".")
        if section == name and (setting == "start" or (known is not None and setting in unread)):
            continue
        if section == "lora" and not manifest.section("lora").get("maps"):
            continue
        yield key, _public(value)
    if template := manifest.section("model").get("template"):
        yield "model.template", _public(template)
    dataset = manifest.section("dataset")
    yield from leaves({"dataset": {each: value for each, value in dataset.items() if each != "sources"}})
    sources = dataset.get("sources")
    for source, values in sources.items() if isinstance(sources, Mapping) else ():
        if isinstance(values, Mapping) and (source == TREES or values.get("path")):
            yield from leaves({f"dataset.sources.{source}": {k: v for k, v in values.items() if k != "path"}})
    yield "seed", manifest.seed


def _variables(manifest: Manifest) -> Mapping[str, object]:
    """The variables of the template in training, which a manifest has as JSON."""
    return _mapping(json.loads(str(manifest.section("template").get("variables") or "{}")))


def _public(value: object) -> object:
    """A value without the folders of a path; a name of a hub model stays."""
    if isinstance(value, str) and "/" in value and not HUB_ID.fullmatch(value):
        return value.rstrip("/").rsplit("/", 1)[-1]
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, ensure_ascii=False)


def _data(run: epath.Path) -> tuple[bool, list[str]]:
    """(whether the conversations were given and not grown by the run, sentences about what was trained on)."""
    dataset, grown = find_manifest(run / "dataset"), find_manifest(run / "conversations")
    by_source = _mapping(dataset.counts.get("sources")) if dataset else {}
    settings = _mapping(dataset.section("dataset").get("sources")) if dataset else {}
    given = bool(_mapping(settings.get(TREES)).get("path"))
    given |= grown is not None and bool(grown.section("conversations").get("source"))
    trees = _counted(_mapping(by_source.get(TREES)) or (dict(grown.counts) if grown else {}))
    said = [f"{trees}, {GIVEN}" if given else f"{trees} grown by aloe_jax with {_players(grown)}"]
    said += [
        f"mixed in as `{name}`: {_counted(_mapping(values))}, {GIVEN}"
        for name, values in by_source.items()
        if name != TREES
    ]
    return given, said


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _counted(counts: Mapping[str, object]) -> str:
    number = counts.get("conversations", counts.get("trees"))
    pairs, labelled = counts.get("pairs", counts.get("preferences")), counts.get("labelled")
    said = f"{number:,} conversations" if isinstance(number, int) else "conversations"
    held = [f"{pairs:,} preference pairs"] if isinstance(pairs, int) else []
    held += [f"{labelled:,} labelled replies"] if isinstance(labelled, int) and labelled else []
    return f"{said} with {' and '.join(held)}" if held else said


def _players(grown: Manifest | None) -> str:
    """Who played the user and the judge, as far as the manifest says it."""
    roles = grown.section("roles") if grown else {}
    found = [
        f"{'scripted' if values.get('player') == 'scripted' else 'a model as'} {role}"
        for role in ("user", "judge")
        if (values := _mapping(roles.get(role)))
    ]
    return f"simulated users ({', '.join(found)})" if found else "simulated users"


def _benchmark(run: epath.Path, name: str, manifest: Manifest) -> dict[str, Figures]:
    """The benchmark's results that the run has so far: its own models first, then others and controls. Those of the
    training `name` count only if they are of the training as it is now."""
    found = sorted(path.parent.name for path in (run / "benchmark").glob("*/metrics.json"))
    own = [each for each in OWN if each in found]
    later = {PREFERENCE} if name == SFT and SFT in found else set()  # it says nothing about the model that is exported
    return {
        each: cast(Figures, files.read_object(run / "benchmark" / each / "metrics.json"))
        for each in dict.fromkeys((*own, *found))
        if each.split("+")[0] not in later and not (each.split("+")[0] == name and _outdated(run, each, name, manifest))
    }


def _outdated(run: epath.Path, result: str, name: str, manifest: Manifest) -> bool:
    """Whether a result was played by what the training `name` gave before it was started over."""
    found = find_manifest(run / "benchmark" / result)
    return found is not None and found.inputs.get(name, manifest.identity) != manifest.identity


def _limits(manifest: Manifest, given: bool, base: Origin, benchmark: Mapping[str, Figures], final: bool) -> list[str]:
    said = []
    if not given:
        said.append("Its users were simulated: it shows how such programs talk, not how people do.")
    if benchmark:
        said.append(
            "The benchmark's users are simulated too, and its judge is a program. Intervals cover the choice of users, "
            f"not another seed of the training (seed {manifest.seed}) or another judge."
        )
    elif final:
        said.append("It was not measured on the ALOE benchmark.")
    else:
        said.append("The ALOE benchmark was not run on these weights.")
    said.append("Safety was not measured; whatever the base model gets wrong, this one may get wrong too.")
    if not base.metadata.get("license"):
        said.append("No licence is stated, as that of the base model is not known here; its terms apply.")
    return said

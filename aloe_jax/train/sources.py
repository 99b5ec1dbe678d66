"""A model by name: the start model of a run, the result of one of its trainings, or one from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import jax
from etils import epath
from jax.sharding import Mesh

from aloe_jax.bucket.places import stored_at
from aloe_jax.errors import InputError
from aloe_jax.hub.identity import model_hash
from aloe_jax.hub.load import load_params
from aloe_jax.hub.source import resolve_model
from aloe_jax.hub.templated import templated
from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.run.manifest import MANIFEST, Manifest, read_manifest
from aloe_jax.run.model import model_config, model_folder
from aloe_jax.run.progress import Line, quiet
from aloe_jax.run.stage import Run
from aloe_jax.train.adapters import merged, trained_params
from aloe_jax.train.names import BASE, CHAIN, OWN, SFT


@dataclass(frozen=True)
class ModelSource:
    """Where a model is: a Hugging Face `folder`, and the folder of the training `stage` if it was trained from that, at
    the checkpoint of a `step` (None: the newest)."""

    folder: epath.Path
    stage: epath.Path | None = None
    step: int | None = None

    @property
    def identity(self) -> str:
        """The hash of all that decides its answers. InputError if it is the result of a training that has not
        finished."""
        if self.stage is None:
            return model_hash(self.folder)
        manifest = read_manifest(self.stage)
        if not manifest.finished:
            raise InputError(f"the training in '{self.stage}' has not finished; run it to its end first")
        return manifest.identity

    def load(self, mesh: Mesh, model: ModelConfig, line: Line = quiet) -> decoder.Params:
        """Its parameters (f32, sharded), the adapters of every training merged into the weights they were trained
        on."""
        if self.stage is None:
            return load_params(self.folder, model, decoder.shardings(model, mesh))
        trained_model, trained = trained_params(model, self.stage, mesh, line, self.step)
        adapters = trained_model.lora
        if not adapters:
            return trained
        start = training_start(self.stage).load(mesh, model, line)
        places = jax.tree.map(lambda leaf: leaf.sharding, start)
        return jax.jit(merged, static_argnums=2, donate_argnums=0, out_shardings=places)(start, trained, adapters)


def find_model(run: Run, name: str) -> ModelSource:
    """The model `name`: `base`, a training of the run, or one elsewhere as `model_at` takes it."""
    if name in OWN:
        return ModelSource(model_folder(run), None if name == BASE else run.directory(name))
    return model_at(name)


def load_model(run: Run, name: str, mesh: Mesh) -> decoder.Params:
    """The parameters of the model `name`, which has the shape of the run's start model, as `ModelSource.load` gives
    them."""
    with run.progress.doing(f"loading the model {name}"):
        return find_model(run, name).load(mesh, model_config(run), run.progress.line)


def model_at(place: str) -> ModelSource:
    """The model at `place`: the folder of a training, or anything that `resolve_model` takes. InputError for a folder
    that is neither."""
    stage = epath.Path(place)
    if not stored_at(stage / "checkpoints").is_dir():
        return ModelSource(resolve_model(place))
    if stage.name not in CHAIN:
        *others, last = CHAIN
        raise InputError(
            f"'{place}' holds checkpoints of no training; name the folder {', '.join(others)} or {last} of a run"
        )
    return ModelSource(start_folder(stage), stage)


def training_start(stage: epath.Path) -> ModelSource:
    """What the training in the folder `stage` started from. InputError if its manifest does not say so."""
    manifest = read_manifest(stage)
    start = BASE if stage.name == SFT else str(manifest.section(stage.name).get("start", SFT))
    if start not in OWN:
        return model_at(start)
    return ModelSource(start_folder(stage), None if start == BASE else stage.parent / start)


def start_folder(stage: epath.Path) -> epath.Path:
    """The Hugging Face folder of the start model of the run that the training in the folder `stage` is part of."""
    manifest = read_manifest(stage)
    template = manifest.section("model").get("template", "")  # missing in runs from before there was one
    return templated(resolve_model(stored(manifest, stage, "model", "source")), str(template))


def trainings(stage: epath.Path) -> list[epath.Path]:
    """The folders of all trainings that lead to the result of the one in `stage`, itself the last."""
    before = training_start(stage).stage
    return [*(trainings(before) if before is not None else ()), stage]


def stored(manifest: Manifest, stage: epath.Path, section: str, name: str) -> str:
    """A setting of the training in the folder `stage`, as its manifest has it. InputError if it has none."""
    value = manifest.section(section).get(name)
    if not isinstance(value, str):
        raise InputError(
            f"{stage / MANIFEST}: config.{section}.{name} is {value!r}, expected a text; restore the file, or name the "
            "folder of a training"
        )
    return value

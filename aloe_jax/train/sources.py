"""A model by name: the start model of a run, the result of one of its trainings, or one from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from etils import epath
from jax.sharding import Mesh

from aloe_jax.errors import InputError
from aloe_jax.hub.identity import model_hash
from aloe_jax.hub.load import load_params
from aloe_jax.hub.source import resolve_model
from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.run.manifest import read_manifest
from aloe_jax.run.model import model_config, model_folder
from aloe_jax.run.progress import Line, quiet
from aloe_jax.run.stage import Run
from aloe_jax.train.adapters import merged_params
from aloe_jax.train.names import BASE, CHAIN, OWN


@dataclass(frozen=True)
class ModelSource:
    """Where a model is: a Hugging Face `folder`, and the folder of the training `stage` if it was trained from that."""

    folder: epath.Path
    stage: epath.Path | None = None

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
        """Its parameters (f32, sharded), adapters merged."""
        base = partial(load_params, self.folder, model)
        if self.stage is None:
            return base(decoder.shardings(model, mesh))
        return merged_params(model, self.stage, base, mesh, line)


def find_model(run: Run, name: str) -> ModelSource:
    """The model `name`: `base`, a training of the run, the folder of a training of another run, or anything that
    `resolve_model` takes. InputError for a folder that is none of these."""
    if name in OWN:
        return ModelSource(model_folder(run), None if name == BASE else run.directory(name))
    stage = epath.Path(name)
    if not (stage / "checkpoints").is_dir():
        return ModelSource(resolve_model(name))
    if stage.name not in CHAIN:
        raise InputError(f"'{name}' holds checkpoints of no training; name the folder {' or '.join(CHAIN)} of a run")
    start = read_manifest(stage).section("model").get("source")
    if not isinstance(start, str):
        raise InputError(f"'{name}': its manifest does not say which model it started from; restore manifest.json")
    return ModelSource(resolve_model(start), stage)


def load_stage_params(run: Run, name: str, mesh: Mesh) -> decoder.Params:
    """The parameters of `base` or of a training of the run, as `ModelSource.load` gives them."""
    return find_model(run, name).load(mesh, model_config(run), run.progress.line)

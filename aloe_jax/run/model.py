"""The model, chat format, mesh and input hashes of a run."""

from __future__ import annotations

from etils import epath
from jax.sharding import Mesh

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.config_file import read_config
from aloe_jax.hub.identity import model_hash
from aloe_jax.hub.source import resolve_model
from aloe_jax.hub.templated import templated
from aloe_jax.models.config import ModelConfig
from aloe_jax.parallel.mesh import MeshSettings
from aloe_jax.run.settings import ModelSettings, TemplateSettings
from aloe_jax.run.stage import Run
from aloe_jax.tree.template import ChatFormat


def model_folder(run: Run) -> epath.Path:
    """The Hugging Face folder of the start model, with the chat template of `config.model.template` if it names one.
    InputError as `check_source`."""
    return templated(resolve_model(check_source(run)), run.section("model", ModelSettings).template)


def check_source(run: Run) -> str:
    """The source of the start model. InputError if the config names none."""
    source = run.section("model", ModelSettings).source
    if not source:
        raise InputError("config.model.source is empty; name a folder, a hub id, a GGUF file or embedded:smollm2")
    return source


def model_config(run: Run) -> ModelConfig:
    """The config of the start model."""
    return read_config(model_folder(run))[0]


def chat_format(run: Run) -> ChatFormat:
    """Tokenizer and chat template of the start model, with the settings of `config.template`. InputError if the
    tokenizer does not belong to the model."""
    return chat_model(run, model_folder(run))[1]


def chat_model(run: Run, folder: epath.Path) -> tuple[ModelConfig, ChatFormat]:
    """Config and chat format of the model in `folder`, with the settings of `config.template`. InputError if the
    tokenizer does not belong to the model."""
    template = run.section("template", TemplateSettings)
    return read_chat_model(folder, date=template.date, system=template.system, variables=template.values)


def mesh_of(run: Run) -> Mesh:
    """The mesh of `config.mesh` over the devices of all processes, on which trainings run."""
    return run.section("mesh", MeshSettings).build()


def model_inputs(run: Run) -> dict[str, str]:
    """The hash of the start model, as an input of stages that read it."""
    return {"model": model_hash(model_folder(run))}


def model_places(run: Run) -> dict[str, list[str]]:
    """What `model_inputs` are the hashes of, for messages."""
    return {"model": [check_source(run)]}


def call_identity(run: Run, model: str = "") -> str:
    """The hash of a model (of hash `model`, by default the start model) and of the run's chat template, which the ids
    of its calls depend on."""
    return files.sha256(model or model_hash(model_folder(run)), chat_format(run).template.hash)[:16]

"""The families' tiny models as folders, and the trees that are scored with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from aloe_jax.hub.families import tensor_names
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.families import FAMILIES
from aloe_jax.tree.schema import Conversation
from helpers import tiny_models
from helpers.tiny_models import TEMPLATES
from helpers.tree_samples import FIXTURES, SPECIAL, aloe_tree


def scored_trees() -> list[Conversation]:
    """Two trees, one of them with a system message."""
    return [aloe_tree(3, name="plain"), aloe_tree(2, system="Be brief.", name="system")]


def write_folder(folder: Path, family: str, config: dict[str, Any], pad: int | None = None) -> Path:
    """A family's tiny model as a Hugging Face folder, with its template and the fixture tokenizer."""
    folder.mkdir(parents=True)
    module = FAMILIES[family]
    model = module.from_hf(config)
    shutil.copyfile(FIXTURES / "tokenizer" / "tokenizer.json", folder / "tokenizer.json")
    bos, eos = SPECIAL[TEMPLATES[family]]
    template = (FIXTURES / "templates" / f"{TEMPLATES[family]}.jinja").read_text()
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": eos}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}))
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    end = next(token["id"] for token in vocabulary if token["content"] == eos)
    ids = {"eos_token_id": end, "pad_token_id": end if pad is None else pad}
    (folder / "config.json").write_text(json.dumps(module.to_hf(model, "float32") | ids))
    save_file(random_tensors(family, model), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def random_tensors(family: str, model: ModelConfig) -> dict[str, np.ndarray]:
    """The tensors of `tiny_models.tensor` by Hugging Face name."""
    offset = family.startswith("gemma")
    return {
        name: tiny_models.tensor(name, weight.shape, offset)
        for weight in FAMILIES[family].weights(model)
        for name in tensor_names(weight, model)
    }

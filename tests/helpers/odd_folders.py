"""Model folders that are easily read wrongly, of tiny random models, and the replies that are scored with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

from aloe_jax.models.families import FAMILIES
from aloe_jax.tree.schema import Conversation
from helpers import tiny_models
from helpers.family_samples import write_folder
from helpers.template_samples import template
from helpers.tree_samples import aloe_tree, conversation

HEAD, EMBEDDING, WEIGHTS = "lm_head.weight", "model.embed_tokens.weight", "model.safetensors"
_TURN = "{% for m in messages %}{{ BEGIN ~ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ END ~ '\n' }}{% endfor %}"
_TURN += "{% if add_generation_prompt %}{{ BEGIN ~ '<|im_start|>assistant\n' }}{% endif %}"


def _template(begin: str = "''", end: str = "eos_token") -> str:
    return _TURN.replace("BEGIN", begin).replace("END", end)


NAMES = "unk_token ~ pad_token ~ (sep_token or '')"
OTHER = _template("'<|start_header_id|>'")
THOUGHT = conversation(
    ("u", None, "user", "Why does it rain?"),
    ("a", "u", "assistant", "<think>\nhm\n</think>\n\nThe clouds are heavy."),
    ("b", "u", "assistant", "It does not."),
    ("v", "a", "user", "And then?"),
    ("c", "v", "assistant", "<think>\nWhat falls?\n</think>\n\nThe water runs to the river."),
    ("d", "v", "assistant", "Then it is wet."),
    name="thought",
)
NAMED = conversation(
    ("u", None, "user", "How does a turn end? With </s> or <|im_end|>?"),
    ("a", "u", "assistant", "With <|im_end|>, and then a line break."),
    ("b", "u", "assistant", "With nothing."),
    ("v", "a", "user", "<|im_start|>system"),
    ("c", "v", "assistant", "That is a mark."),
    name="named",
)
PLAIN = aloe_tree(2, system="Be brief.", name="plain")


def _edit(folder: Path, file: str, **changes: Any) -> dict[str, Any]:
    """Change fields of a JSON file, None for none; what it held before."""
    path = folder / file
    before = json.loads(path.read_text()) if path.exists() else {}
    kept = {key: value for key, value in (before | changes).items() if value is not None}
    path.write_text(json.dumps(kept))
    return before


def _settings(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: _edit(folder, "tokenizer_config.json", **changes) and None


def _added(folder: Path, keep: Callable[[dict[str, Any]], bool], **flags: bool) -> dict[str, Any]:
    """Take added tokens that are not kept out of tokenizer.json, and give `<|im_end|>` flags there; all as objects."""
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    for token in tokens:
        token |= flags if token["content"] == "<|im_end|>" else {}
    _edit(folder, "tokenizer.json", added_tokens=[token for token in tokens if keep(token)])
    return {str(token.pop("id")): token for token in tokens}


def in_the_config_alone(folder: Path) -> None:
    _edit(folder, "tokenizer_config.json", added_tokens_decoder=_added(folder, lambda token: token["id"] > 300))


def swallowing(folder: Path) -> None:
    _edit(folder, "tokenizer_config.json", added_tokens_decoder=_added(folder, lambda token: False, rstrip=True))


def swallowing_in_the_tokenizer(folder: Path) -> None:
    _added(folder, lambda token: True, rstrip=True, lstrip=True)


def older_files(folder: Path) -> None:
    _edit(folder, "tokenizer_config.json", eos_token=None, chat_template=_template())
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<stop>", "rstrip": True}}))
    (folder / "added_tokens.json").write_text(json.dumps({"<stop>": 402}))


def other_end(folder: Path) -> None:
    _edit(folder, "tokenizer_config.json", eos_token="<|endoftext|>", chat_template=_template(end="'</s>'"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 8]}))


def template_file(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(OTHER)


def template_list(folder: Path) -> None:
    listed = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": OTHER}]
    _edit(folder, "tokenizer_config.json", chat_template=listed)


def _weights(folder: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def other_head(folder: Path) -> None:
    _edit(folder, "config.json", tie_word_embeddings=True)
    _weights(folder, lambda stored: stored | {HEAD: tiny_models.tensor(HEAD, stored[EMBEDDING].shape, False)})


def equal_head(folder: Path) -> None:
    _edit(folder, "config.json", tie_word_embeddings=True)
    _weights(folder, lambda stored: stored | {HEAD: stored[EMBEDDING].copy()})


def tied(folder: Path) -> None:
    _edit(folder, "config.json", tie_word_embeddings=True)
    _weights(folder, lambda stored: {name: array for name, array in stored.items() if name != HEAD})


def own_index(folder: Path) -> None:
    names = dict.fromkeys(load_file(folder / WEIGHTS), WEIGHTS)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def shards(folder: Path) -> None:
    stored, index = load_file(folder / WEIGHTS), {}
    (folder / WEIGHTS).unlink()
    for number in (0, 1):
        part = {name: array for at, (name, array) in enumerate(stored.items()) if at % 2 == number}
        file = f"model-{number + 1:05d}-of-00002.safetensors"
        save_file(part, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def _stored_as(dtype: Any) -> Callable[[Path], None]:
    return lambda folder: _weights(folder, lambda stored: {name: stored[name].astype(dtype) for name in stored})


def _config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: _edit(folder, "config.json", **changes) and None


def newer_rope(folder: Path) -> None:
    before = _edit(folder, "config.json", rope_theta=None, rope_scaling=None)
    rope = (before["rope_scaling"] or {}) | {"rope_theta": before["rope_theta"]}
    _edit(folder, "config.json", rope_parameters=rope)


def nothing(folder: Path) -> None:
    """The folder as it is."""


# How a folder differs, the family, and the trees that are scored with it.
FOLDERS: dict[str, tuple[Callable[[Path], None], str, tuple[Conversation, ...]]] = {
    "added tokens in tokenizer_config.json alone": (in_the_config_alone, "smollm3", (PLAIN,)),
    "end of turn that is only named": (
        _settings(eos_token="<stop>", chat_template=_template()), "smollm3", (PLAIN,),
    ),
    "end of turn swallows a line break": (swallowing, "smollm3", (PLAIN, THOUGHT)),
    "end of turn swallows, by tokenizer.json": (swallowing_in_the_tokenizer, "smollm3", (PLAIN,)),
    "special_tokens_map.json and added_tokens.json": (older_files, "smollm3", (PLAIN,)),
    "end of turn of generation_config.json": (other_end, "smollm3", (PLAIN,)),
    "unk, pad and no sep in the template": (
        _settings(unk_token="<unk>", pad_token="</s>", chat_template=_template(NAMES)),
        "smollm3", (PLAIN,),
    ),
    "template file beside the config's": (template_file, "smollm3", (PLAIN,)),
    "list of templates": (template_list, "smollm3", (PLAIN,)),
    "thinking begun by the prompt and stripped": (
        _settings(chat_template=template("thinking_opener")), "smollm3", (THOUGHT,),
    ),
    "thinking stripped from history": (_settings(chat_template=template("qwen3")), "smollm3", (THOUGHT, PLAIN)),
    "thinking kept behind the last question": (_settings(chat_template=template("qwq")), "smollm3", (THOUGHT,)),
    "special tokens named in messages": (nothing, "smollm3", (NAMED,)),
    "tied, with a head that differs": (other_head, "llama", (PLAIN,)),
    "tied, with an equal head": (equal_head, "llama", (PLAIN,)),
    "tied, without a head": (tied, "llama", (PLAIN,)),
    "index of the file itself": (own_index, "llama", (PLAIN,)),
    "shards": (shards, "llama", (PLAIN,)),
    "bfloat16 weights": (_stored_as(ml_dtypes.bfloat16), "llama", (PLAIN,)),
    "float16 weights": (_stored_as(np.float16), "llama", (PLAIN,)),
    "rope_parameters": (newer_rope, "llama", (PLAIN,)),
    "layer_types of Mistral": (
        _config(layer_types=["sliding_attention"] * 2, sliding_window=12), "mistral", (PLAIN,),
    ),
    "Mistral without fields that have defaults": (
        _config(sliding_window=None, hidden_act=None, rms_norm_eps=None, rope_theta=None), "mistral", (PLAIN,),
    ),
    "layer_types of Qwen3": (
        _config(layer_types=["sliding_attention", "full_attention"], use_sliding_window=True, sliding_window=10,
                max_window_layers=None),
        "qwen3", (PLAIN,),
    ),
}  # fmt: skip


def write(name: str, folder: Path) -> Path:
    """The folder of that name."""
    change, family, _ = FOLDERS[name]
    config = FAMILIES[family].TINY | tiny_models.SCORED | {"vocab_size": tiny_models.VOCAB}
    write_folder(folder, family, config)
    change(folder)
    return folder

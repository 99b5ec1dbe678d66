"""A model's config and its chat format, read from one folder and checked against each other."""

from __future__ import annotations

from collections.abc import Mapping

from etils import epath

from aloe_jax.errors import InputError
from aloe_jax.hub.config_file import read_config
from aloe_jax.hub.folders import checked_tokenizer
from aloe_jax.models.config import ModelConfig
from aloe_jax.tree.template import DEFAULT_DATE, ChatFormat, SystemHandling


def read_chat_model(
    folder: epath.PathLike,
    *,
    date: str = DEFAULT_DATE,
    system: SystemHandling = "keep",
    variables: Mapping[str, object] | None = None,
) -> tuple[ModelConfig, ChatFormat]:
    """Config, tokenizer and chat template, with `variables` beside the messages, of a Hugging Face folder.

    Raises InputError as `read_config`, `checked_tokenizer` and `ChatFormat.load` do, if the tokenizer has ids above the
    model's vocabulary, which would silently be looked up as other tokens, and for a template that computes without end.
    """
    model, _ = read_config(folder)
    checked_tokenizer(epath.Path(folder))
    chat = ChatFormat.load(folder, date=date, system=system, variables=variables)
    if (needed := chat.tokenizer.text_size) > model.vocab:
        raise InputError(
            f"{folder}: the tokenizer makes {needed} ids of text, the model's vocab_size is {model.vocab}; put the "
            "tokenizer.json there that belongs to the model"
        )
    chat.template.check_work()
    return model, chat

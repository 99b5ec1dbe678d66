"""What a training starts from, and refers to: `config.preference.start`, `config.online.start` and `reference`."""

from __future__ import annotations

import dataclasses

from aloe_jax.errors import InputError
from aloe_jax.run.model import chat_format, chat_model, check_source, model_config
from aloe_jax.run.stage import Run
from aloe_jax.train.names import OWN
from aloe_jax.train.sources import model_at


def check_start(run: Run, start: str, setting: str) -> None:
    """Raise InputError if `start`, which `config.SETTING` names, is an unfinished training of another run, or a model
    that differs from the run's start model in its shape, its tokenizer or its chat template."""
    if start in OWN:
        return
    source = model_at(start)
    _ = source.identity  # of a finished training
    model, chat = chat_model(run, source.folder)
    own, own_chat = model_config(run), chat_format(run)
    different = [each.name for each in dataclasses.fields(own) if getattr(own, each.name) != getattr(model, each.name)]
    if chat.tokenizer.hash != own_chat.tokenizer.hash:
        different.append("tokenizer")
    if chat.template.hash != own_chat.template.hash:
        different.append("chat template")
    if different:
        raise InputError(
            f"config.{setting}: '{start}' differs from config.model.source '{check_source(run)}' in "
            f"{', '.join(different)}; set config.model.source to it, and start from 'base'"
        )


def start_inputs(start: str) -> dict[str, str]:
    """The hash of the model that a training starts from, if it is none of the run's own."""
    return {} if start in OWN else {"start": model_at(start).identity}

"""`config.preference.start`: what a preference training starts from, and refers to."""

from __future__ import annotations

import dataclasses

from aloe_jax.errors import InputError
from aloe_jax.run.model import chat_format, chat_model, check_source, model_config
from aloe_jax.run.stage import Run
from aloe_jax.train.names import OWN, PREFERENCE
from aloe_jax.train.settings import PreferenceSettings
from aloe_jax.train.sources import model_at


def preference_start(run: Run) -> str:
    """The name of the model that the preference training starts from, as `find_model` takes it."""
    return run.section(PREFERENCE, PreferenceSettings).start


def check_start(run: Run) -> None:
    """Raise InputError if the preference training starts from an unfinished training, or from a model that differs from
    the run's start model in its shape, its tokenizer or its chat template."""
    start = preference_start(run)
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
            f"config.preference.start: '{start}' differs from config.model.source '{check_source(run)}' in "
            f"{', '.join(different)}; set config.model.source to it, and start from 'base'"
        )


def start_inputs(run: Run) -> dict[str, str]:
    """The hash of the model that the preference training starts from, if it is none of the run's own."""
    start = preference_start(run)
    return {} if start in OWN else {"start": model_at(start).identity}

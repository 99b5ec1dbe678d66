"""`config.model` and `config.template`: which model a run starts from, and how its chat template is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from aloe_jax.settings import section, setting
from aloe_jax.tree.template import SystemHandling


@dataclass(frozen=True)
class ModelSettings:
    """The start model."""

    source: str = setting("", "a Hugging Face folder, a hub id, a GGUF file, embedded:smollm2 or random:FAMILY")
    sizes: Mapping[str, object] = section(
        dict, "what the source's config.json says of its sizes, for `aloe plan`, which then needs no download"
    )


@dataclass(frozen=True)
class TemplateSettings:
    """What the chat template is given besides the messages."""

    date: str = setting("26 Jul 2024", "what templates that tell the date say, frozen so that runs repeat")
    system: SystemHandling = setting(
        "keep",
        "or fold_into_first_user, for templates that refuse a system message",
        choices=get_args(SystemHandling),
    )

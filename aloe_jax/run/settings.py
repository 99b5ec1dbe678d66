"""`config.model` and `config.template`: the model that a run starts from, and how its chat template is rendered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from aloe_jax.settings import is_json_object, section, setting
from aloe_jax.tree.template import SystemHandling


@dataclass(frozen=True)
class ModelSettings:
    """The model that a run starts from."""

    source: str = setting(
        "",
        "start model: a Hugging Face folder, hub id, GGUF file, embedded:smollm2 or random:FAMILY",
    )
    template: str = setting(
        "", "chat template in place of the model's own: a jinja file, or chatml, llama3, gemma or plain; empty: its own"
    )
    sizes: Mapping[str, object] = section(
        dict, "the sizes in the source's config.json, so that `aloe plan` needs no download"
    )


@dataclass(frozen=True)
class TemplateSettings:
    """Arguments of the chat template besides the messages."""

    date: str = setting("26 Jul 2024", "date that chat templates print, fixed so that runs are reproducible")
    system: SystemHandling = setting(
        "keep",
        "system messages: keep, or fold_into_first_user for templates that refuse them",
        choices=get_args(SystemHandling),
    )
    variables: str = setting(
        "",
        'further variables of the template as a JSON object, such as {"enable_thinking": false}; empty: none',
        holds=is_json_object,
        expected="a JSON object or empty",
    )

    @property
    def values(self) -> Mapping[str, object]:
        """The variables of the template."""
        found: Mapping[str, object] = json.loads(self.variables or "{}")
        return found

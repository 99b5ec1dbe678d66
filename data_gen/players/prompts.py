"""The wording of the model-backed roles: versioned jinja2 templates, rendered in a sandbox, hashed into every record.

A template has a block for each message it words. The wording of a finished run is never edited: a change is a new file
(`judge_v2.jinja`), so that a hash in a record always has its text.
"""

from __future__ import annotations

import importlib.resources
from typing import Any

import jinja2
import jinja2.sandbox

from aloe_jax import files
from aloe_jax.errors import InputError

# The current version of each.
TEMPLATES = {
    "author": "pool_v1.jinja",
    "user": "user_v1.jinja",
    "inducer": "inducer_v1.jinja",
    "responder": "responder_v1.jinja",
    "judge": "judge_v1.jinja",
}


class Prompt:
    """A template's blocks. `hash` identifies its wording. InputError for a template that is broken."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.hash = files.sha256(source)
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise InputError(f"template '{name}': {error}; mend it") from None

    def render(self, block: str, **values: Any) -> str:
        """The text of a block, without surrounding space. InputError if the template lacks it or names an unknown
        value."""
        if block not in self._template.blocks:
            raise InputError(f"template '{self.name}' has no block '{block}'; add {{% block {block} %}}")
        try:
            return "".join(self._template.blocks[block](self._template.new_context(values))).strip()
        except jinja2.TemplateError as error:
            raise InputError(f"template '{self.name}', block '{block}': {error}; mend it") from None


def load_prompt(role: str, path: str = "") -> Prompt:
    """The template of a role, or the file at `path` instead."""
    if path:
        return Prompt(path, files.existing(path, f"config.roles.{role}.template: file").read_text(encoding="utf-8"))
    name = TEMPLATES[role]
    return Prompt(
        name, importlib.resources.files("data_gen.players").joinpath("templates", name).read_text(encoding="utf-8")
    )

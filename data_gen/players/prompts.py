"""The wording of the model-backed roles: versioned jinja2 templates, rendered in a sandbox, hashed into every record.

A template has a block for each message. The wording of a finished run is never edited: a change is a new file
(`judge_v2.jinja`), so that the text for every recorded hash can be found.
"""

from __future__ import annotations

import importlib.resources

import jinja2
import jinja2.sandbox

from aloe_jax import files
from aloe_jax.errors import InputError


class Prompt:
    """The blocks of a template. `hash` identifies its wording. InputError for a template that is broken."""

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

    def render(self, block: str, **values: object) -> str:
        """The text of a block, without surrounding whitespace. InputError if the template lacks the block or names an
        unknown value."""
        if block not in self._template.blocks:
            raise InputError(f"template '{self.name}' has no block '{block}'; add {{% block {block} %}}")
        try:
            return "".join(self._template.blocks[block](self._template.new_context(values))).strip()
        except jinja2.TemplateError as error:
            raise InputError(f"template '{self.name}', block '{block}': {error}; mend it") from None


def shipped_prompt(name: str) -> Prompt:
    """The template of that name in data_gen/players/templates."""
    folder = importlib.resources.files("data_gen.players").joinpath("templates")
    return Prompt(name, folder.joinpath(name).read_text(encoding="utf-8"))


def own_prompt(path: str, setting: str) -> Prompt:
    """The user's own template at `path`, which `setting` names. InputError if there is no such file."""
    return Prompt(path, files.existing(path, f"{setting}: file").read_text(encoding="utf-8"))

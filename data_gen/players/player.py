"""What all model-backed roles have: a way to ask, the wording, the sampling."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aloe_jax.tree.schema import Item, Message, Persona
from data_gen.calls.call_cache import Chat
from data_gen.players.prompts import Prompt
from data_gen.roles import Dialogue, Revealed

GAME = ("user", "inducer", "responder", "judge")


@dataclass(frozen=True)
class Player:
    """A role's `chat`, `prompt` and `sampling` (temperature, top_p, max_tokens)."""

    chat: Chat
    prompt: Prompt
    sampling: Mapping[str, Any]

    def how(self) -> dict[str, Any]:
        """The sampling as `Client.request` takes it."""
        return sampling_of(self.sampling)


def sampling_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """What a section of the config says of sampling."""
    return {name: section[name] for name in ("temperature", "top_p", "max_tokens")}


def system(content: str) -> Message:
    """A system message."""
    return Message(role="system", content=content)


def asked(content: str) -> Message:
    """A message that is to be answered."""
    return Message(role="user", content=content)


def home(persona: Persona, dialogue: Dialogue) -> str:
    """What calls of one conversation have in common, for the client to keep them on one server: its first message."""
    return dialogue[0].content if dialogue else persona.id


def known_items(persona: Persona, revealed: Sequence[Revealed] | None) -> list[Item]:
    """The facts and traits that have shown; all of them where nobody says which."""
    items = [*persona.facts, *persona.traits]
    if revealed is None:
        return items
    ids = {each.id for each in revealed}
    return [item for item in items if item.id in ids]


def family(model: str) -> str:
    """The family a model's name tells: the letters it begins with, without the owner. "meta-llama/Llama-3-8B" is
    "llama"."""
    found = re.match("[a-z]+", re.split("[/:]", model)[-1].lower())
    return found.group() if found else model.lower()


def one_family(models: Mapping[str, str]) -> str | None:
    """A warning where user, responder and judge are models of one family (each judges its own kind too well), by role;
    None otherwise."""
    names = [models.get(role) for role in ("user", "responder", "judge")]
    families = {family(name) for name in names if name}
    if None in names or len(families) > 1:
        return None
    return (
        f"user, responder and judge are all of the family '{families.pop()}': a model prefers answers of its own kind; "
        "set config.roles.judge.model and base_url to another family"
    )

"""What all model-backed roles share: a way to call the model, the prompts' wording, the sampling."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aloe_jax.serve.client.interface import SamplingOptions
from aloe_jax.tree.schema import Item, Message, Persona
from data_gen.calls.call_cache import Chat
from data_gen.players.prompts import Prompt
from data_gen.players.settings import ModelSettings
from data_gen.roles import Dialogue, Revealed


class Sampling(Protocol):
    """Settings that say how a model is sampled, among others."""

    @property
    def temperature(self) -> float:
        """Of the sampling; 0 is greedy."""
        ...

    @property
    def top_p(self) -> float:
        """Of the sampling."""
        ...

    @property
    def max_tokens(self) -> int:
        """Length of the longest answer."""
        ...


@dataclass(frozen=True)
class Player:
    """A role's way to call its model (`chat`), its `prompt`, its `sampling`, and the model's `name`."""

    chat: Chat
    prompt: Prompt
    sampling: Sampling
    name: str = "model"

    def how(self) -> SamplingOptions:
        """The sampling as `Client.request` takes it."""
        return sampling_of(self.sampling)


def sampling_of(settings: Sampling) -> SamplingOptions:
    """The part of the settings that `Client.request` takes."""
    found: SamplingOptions = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_tokens": settings.max_tokens,
    }
    return found | thinking_of(settings) if isinstance(settings, ModelSettings) else found


def thinking_of(settings: ModelSettings) -> SamplingOptions:
    """How the model is to think; what is not set stays out of requests, whose ids are then those of before."""
    found: SamplingOptions = {}
    if settings.chat_template_kwargs:
        found["chat_template_kwargs"] = json.loads(settings.chat_template_kwargs)
    if settings.reasoning_effort:
        found["reasoning_effort"] = settings.reasoning_effort
    return found


def system(content: str) -> Message:
    """A system message."""
    return Message(role="system", content=content)


def asked(content: str) -> Message:
    """A message that the model is to answer."""
    return Message(role="user", content=content)


def home(persona: Persona, dialogue: Dialogue) -> str:
    """What the calls of one conversation have in common, so that the client keeps them on one server: its first
    message."""
    return dialogue[0].content if dialogue else persona.id


def known_items(persona: Persona, revealed: Sequence[Revealed] | None) -> list[Item]:
    """The facts and traits that the user has shown; all of them if `revealed` is None."""
    items = [*persona.facts, *persona.traits]
    if revealed is None:
        return items
    ids = {each.id for each in revealed}
    return [item for item in items if item.id in ids]


def family(model: str) -> str:
    """The family in a model's name: its leading letters, without the owner. "meta-llama/Llama-3-8B" is "llama"."""
    found = re.match("[a-z]+", re.split("[/:]", model)[-1].lower())
    return found.group() if found else model.lower()


def role_of(seat: str) -> str:
    """The role of a seat: itself, or `judge` of `judge:MODEL`, a further judge of a panel."""
    return seat.partition(":")[0]


def self_preference(models: Mapping[str, str], tested: str) -> str | None:
    """A warning if a judge among the `models`, by role, is of the family of the model `tested`, whose answers it may
    favour; else None."""
    judges = [name for seat, name in models.items() if role_of(seat) == "judge" and family(name) == family(tested)]
    if not judges:
        return None
    return (
        f"the judge '{judges[0]}' and the model under test '{tested}' are of one family, '{family(tested)}': a model "
        "prefers answers of its own kind; judge with another family (config.roles.judge.model, or a panel)"
    )


def alike_panel(models: Mapping[str, str]) -> str | None:
    """A warning if all judges of a panel among the `models`, by role, are of one family, so that they err alike; else
    None."""
    families = [family(name) for seat, name in models.items() if role_of(seat) == "judge"]
    if len(families) < 2 or len(set(families)) > 1:
        return None
    return (
        f"all {len(families)} judges of the panel are of the family '{families[0]}', so that they err alike; name "
        "models of other families in config.roles.judge.panel"
    )


def one_family(models: Mapping[str, str]) -> str | None:
    """A warning if user, writer of the hinted replies and judge are models of one family, which favours answers of its
    own; else None. `models` are the models' names by role, and by seat for the further judges of a panel; the writer is
    the teacher, or the responder without one."""
    writer = "teacher" if "teacher" in models else "responder"
    names = [models.get(role) for role in ("user", writer, "judge")]
    names += [models[seat] for seat in models if role_of(seat) == "judge"]
    families = {family(name) for name in names if name}
    if None in names or len(families) > 1:
        return None
    return (
        f"user, {writer} and judge are all of the family '{families.pop()}': a model prefers answers of its own kind; "
        "set config.roles.judge.model and base_url to another family"
    )

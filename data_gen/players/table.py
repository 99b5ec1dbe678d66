"""The table of roles: what each asks of its servers, how its prompts are worded, and who can play it.

A new role takes four places:

1. `data_gen/players/settings.py`: a field of `RolesSettings`;
2. `data_gen/roles.py`: its interface, and a field of `Roles`;
3. `data_gen/players/<role>.py`: the class that plays it with a model, and `templates/<role>_v1.jinja`;
4. here: its entry. A role that has to be played without a model, too, names the scripted player of `data_gen/world`.

Checks, probes of servers, prompts and the assembling of players derive from the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from data_gen.players.inducer import ModelInducer
from data_gen.players.judge import ModelJudge
from data_gen.players.player import Player
from data_gen.players.prompts import Prompt, own_prompt, shipped_prompt
from data_gen.players.responder import ModelResponder
from data_gen.players.user import ModelUser
from data_gen.world.inducer import ScriptedInducer
from data_gen.world.judge import ScriptedJudge
from data_gen.world.user import ScriptedUser


@dataclass(frozen=True)
class RoleEntry:
    """An entry of the table.

    Attributes:
        wanted: the abilities that it needs of its servers (see `aloe_jax/serve/client/probe.py`).
        template: the current version of its prompts.
        model: the class that plays it with a model; None for a role outside the game.
        scripted: makes the scripted player from a seed; None if only a model can play it.
    """

    wanted: tuple[str, ...]
    template: str
    model: type[Player] | None = None
    scripted: Callable[[int], object] | None = None


ROLES: Mapping[str, RoleEntry] = {
    "author": RoleEntry(("schema", "system"), "pool_v1.jinja"),
    "user": RoleEntry(("seed", "system"), "user_v1.jinja", ModelUser, ScriptedUser),
    "inducer": RoleEntry(("schema", "system"), "inducer_v1.jinja", ModelInducer, lambda seed: ScriptedInducer()),
    "responder": RoleEntry(("logprobs", "n", "seed", "system"), "responder_v1.jinja", ModelResponder),
    "judge": RoleEntry(
        ("choice", "top_logprobs", "system"), "judge_v1.jinja", ModelJudge, lambda seed: ScriptedJudge()
    ),
}
GAME = tuple(name for name, role in ROLES.items() if role.model is not None)


def load_prompt(role: str, path: str = "") -> Prompt:
    """The prompts of a role, or those in the file at `path` instead."""
    return own_prompt(path, f"config.roles.{role}.template") if path else shipped_prompt(ROLES[role].template)

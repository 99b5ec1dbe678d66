"""The table of roles: what each asks of its servers, how its prompts are worded, who can play it, and its settings.

A new role takes its entry in `ROLES`, its field of `RolesSettings`, the class that plays it with a model
(`data_gen/players/<role>.py`) and its prompts (`templates/<role>_v1.jinja`); CONTRIBUTING.md has the details. Checks,
probes of servers, prompts, prices and the assembling of players derive from the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aloe_jax.settings import section
from data_gen.players.inducer import ModelInducer
from data_gen.players.judge import ModelJudge
from data_gen.players.judge_presets import PRESETS
from data_gen.players.player import Player
from data_gen.players.prompts import Prompt, own_prompt, shipped_prompt
from data_gen.players.responder import ModelResponder
from data_gen.players.settings import (
    DIALOGUE,
    JudgeSettings,
    ModelSettings,
    RoleSettings,
    TeacherSettings,
    UserSettings,
)
from data_gen.players.teacher import ModelTeacher
from data_gen.players.user import ModelUser
from data_gen.world.inducer import ScriptedInducer
from data_gen.world.judge import ScriptedJudge
from data_gen.world.simulators import SIMULATORS
from data_gen.world.teacher import ScriptedTeacher
from data_gen.world.user import ScriptedUser


@dataclass(frozen=True)
class RoleEntry:
    """An entry of the table.

    Attributes:
        wanted: the abilities that it needs of its servers (see `aloe_jax/serve/client/probe.py`).
        template: the current version of its prompts.
        model: the class that plays it with a model; None for a role outside the game.
        scripted: makes the scripted player from a seed and the role's settings; None if only a model can play it.
        learns: whether it is the model that is trained.
    """

    wanted: tuple[str, ...]
    template: str
    model: type[Player] | None = None
    scripted: Callable[[int, RoleSettings], object] | None = None
    learns: bool = False


def _scripted_teacher(seed: int, settings: RoleSettings) -> ScriptedTeacher:
    assert isinstance(settings, TeacherSettings)
    return ScriptedTeacher(settings.skill)


def _scripted_user(seed: int, settings: RoleSettings) -> ScriptedUser:
    assert isinstance(settings, UserSettings)
    return ScriptedUser(seed, SIMULATORS[settings.simulator])


ROLES: Mapping[str, RoleEntry] = {
    "author": RoleEntry(("schema", "system"), "pool_v1.jinja"),
    "user": RoleEntry(("seed", "system"), "user_v1.jinja", ModelUser, _scripted_user),
    "inducer": RoleEntry(("schema", "system"), "inducer_v1.jinja", ModelInducer, lambda *_: ScriptedInducer()),
    "teacher": RoleEntry(("logprobs", "n", "seed", "system"), "teacher_v1.jinja", ModelTeacher, _scripted_teacher),
    "responder": RoleEntry(("logprobs", "n", "seed", "system"), "responder_v1.jinja", ModelResponder, learns=True),
    "judge": RoleEntry(("choice", "top_logprobs", "system"), "judge_v1.jinja", ModelJudge, lambda *_: ScriptedJudge()),
}
GAME = tuple(name for name, role in ROLES.items() if role.model is not None)


@dataclass(frozen=True)
class RolesSettings:
    """`config.roles`: a section per role. The author writes the personas if config.personas.source is "generated"."""

    author: ModelSettings = section(ModelSettings, temperature=0.8, top_p=0.95, max_tokens=4096)
    user: UserSettings = section(UserSettings, temperature=0.9, top_p=0.95)
    inducer: RoleSettings = section(RoleSettings)
    teacher: TeacherSettings = section(TeacherSettings, temperature=0.8, top_p=0.95)
    responder: RoleSettings = section(RoleSettings, player="model", temperature=0.8, top_p=0.95)
    judge: JudgeSettings = section(JudgeSettings, max_tokens=8)

    def of(self, role: str) -> ModelSettings:
        """The settings of a role."""
        found = getattr(self, role)
        assert isinstance(found, ModelSettings), role
        return found

    def of_game(self, role: str) -> RoleSettings:
        """The settings of a role of the game."""
        found = self.of(role)
        assert isinstance(found, RoleSettings), role
        return found


def load_prompt(role: str, path: str = "", preset: str = "") -> Prompt:
    """The prompts of a role, of a judge those of its `preset`, or those in the file at `path` instead."""
    if path:
        return own_prompt(path, f"config.roles.{role}.template")
    return shipped_prompt(PRESETS[preset].template if preset else ROLES[role].template)


def prompt_of(role: str, settings: ModelSettings) -> Prompt:
    """The prompts of a role with these settings."""
    if isinstance(settings, UserSettings) and settings.prompt == DIALOGUE:
        return shipped_prompt("user_dialogue_v1.jinja")
    path = settings.template if isinstance(settings, RoleSettings) else ""
    return load_prompt(role, path, settings.preset if isinstance(settings, JudgeSettings) else "")

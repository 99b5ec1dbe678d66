"""`config.roles`: who plays in the conversation game, and how."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_jax.settings import section, setting

PLAYERS = ("model", "scripted")


@dataclass(frozen=True)
class ModelSettings:
    """The servers and the sampling of a role's model."""

    base_url: str = setting(
        "", "servers of its model, with commas between them; empty: those of config.serve", decides=False
    )
    model: str = setting("", "the model's name on those servers")
    api_key_env: str = setting("ALOE_API_KEY", "environment variable that holds their key", decides=False)
    temperature: float = setting(0.0, "of the sampling; 0 is greedy")
    top_p: float = setting(1.0, "of the sampling")
    max_tokens: int = setting(128, "longest answer", minimum=1)
    price_in: float = setting(0.0, "US dollars per million tokens, to show what a run costs", decides=False)
    price_out: float = setting(0.0, "the same of what is sampled", decides=False)


@dataclass(frozen=True)
class RoleSettings(ModelSettings):
    """Who plays a role of the conversation game."""

    player: str = setting(
        "scripted", "model, or scripted: the world of data_gen/world, whose truth is known", choices=PLAYERS
    )
    template: str = setting("", "a jinja2 file in place of data_gen/players/templates")


@dataclass(frozen=True)
class JudgeSettings(RoleSettings):
    """The judge; a model judge is tried before it judges."""

    trials: int = setting(
        48, "pairs of the scripted world, whose better reply is known, that a model judge is tried on first"
    )


@dataclass(frozen=True)
class RolesSettings:
    """Every role. The author writes the personas if config.personas.source is "generated"."""

    author: ModelSettings = section(ModelSettings, temperature=0.8, top_p=0.95, max_tokens=4096)
    user: RoleSettings = section(RoleSettings, temperature=0.9, top_p=0.95)
    inducer: RoleSettings = section(RoleSettings)
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

"""A section of `config.roles`: who plays a role, and how. `data_gen/players/table.py` has one for every role."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_jax.errors import InputError
from aloe_jax.serve.settings import check_servers, plain_address
from aloe_jax.settings import is_json_object, setting

PLAYERS = ("model", "scripted")
JUDGE_PRESETS = OVERALL, PAPER, ROBUST = ("overall", "aloe-paper", "robust")
RESPONDER = "responder"  # of a teacher
ROLE_PLAY, DIALOGUE = "role_play", "dialogue"  # prompts of a user


@dataclass(frozen=True)
class ModelSettings:
    """The servers and the sampling of a role's model."""

    base_url: str = setting(
        "", "servers of its model, with commas between them; empty: those of config.serve", decides=False
    )
    model: str = setting(
        "",
        "the model's name on those servers; of a responder without servers a model as config.preference.start takes it",
    )
    api_key_env: str = setting("ALOE_API_KEY", "environment variable that holds their key", decides=False)
    temperature: float = setting(0.0, "of the sampling; 0 is greedy")
    top_p: float = setting(1.0, "of the sampling")
    max_tokens: int = setting(128, "longest answer, thoughts included", minimum=1)
    chat_template_kwargs: str = setting(
        "",
        'values for the chat template of its servers as a JSON object, such as {"enable_thinking": false}; empty: none',
        holds=is_json_object,
        expected="a JSON object or empty",
    )
    reasoning_effort: str = setting("", "how long it thinks, as its servers call it (low, none, ...); empty: not sent")
    price_in: float = setting(0.0, "US dollars per million tokens, to show what a run costs", decides=False)
    price_out: float = setting(0.0, "the same of what is sampled", decides=False)

    def __post_init__(self) -> None:
        check_servers(self.base_url, self.api_key_env)


@dataclass(frozen=True)
class RoleSettings(ModelSettings):
    """Who plays a role of the conversation game."""

    player: str = setting(
        "scripted", "model, or scripted: the world of data_gen/world, whose truth is known", choices=PLAYERS
    )
    template: str = setting("", "a jinja2 file in place of data_gen/players/templates")


@dataclass(frozen=True)
class UserSettings(RoleSettings):
    """The user."""

    simulator: str = setting(
        "A",
        "of the scripted user; A, or the held-out B: other words and another temper (data_gen/world/simulators.py)",
        choices=("A", "B"),
    )
    prompt: str = setting(
        ROLE_PLAY,
        "of a model; role_play: it is told whom it plays; dialogue: it gets the dialogue with swapped roles alone, for "
        "a model that was trained on the user's turns (aloe convert --train=user)",
        choices=(ROLE_PLAY, DIALOGUE),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, set_, player in (
            ("simulator", self.simulator != "A", "scripted"),
            ("prompt", self.prompt != ROLE_PLAY, "model"),
        ):
            if set_ and self.player != player:
                raise InputError(
                    f"{name}: a user whose player is '{self.player}' does not read it; set config.roles.user.player to "
                    f"'{player}', or leave it out"
                )
        if self.prompt != ROLE_PLAY and self.template:
            raise InputError(f"prompt: config.roles.user.template is in the place of '{self.prompt}'; leave out one")


@dataclass(frozen=True)
class TeacherSettings(RoleSettings):
    """The teacher, which writes the hinted replies."""

    player: str = setting(
        RESPONDER,
        "responder: the responder, with its servers and sampling; model: a model of its own, or config.model with its "
        "own sampling; scripted: the oracle of data_gen/world",
        choices=(RESPONDER, *PLAYERS),
    )
    skill: float = setting(
        1.0, "of the scripted teacher: the probability with which it meets a trait", minimum=0, maximum=1
    )


@dataclass(frozen=True)
class JudgeSettings(RoleSettings):
    """The judge; a model judge is tried before it judges. docs/benchmark.md compares the presets."""

    preset: str = setting(
        OVERALL,
        "how a model judge is asked; overall: one question, by what has been revealed; aloe-paper: an integer by the "
        "whole persona and the last message; robust: four anchored rubrics, and both scales",
        choices=JUDGE_PRESETS,
    )
    panel: tuple[str, ...] = setting(
        (),
        "further judges, each URL#MODEL on a server, beside the one of `model`: the score is their mean; api_key_env, "
        "sampling and prices are those of the judge",
        decides=False,
    )

    trials: int = setting(
        48, "pairs of the scripted world, whose better reply is known, that a model judge is tried on first"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        models = [model for _, model in self.members]
        if double := next((model for model in models if models.count(model) > 1 or model == self.model), None):
            raise InputError(f"panel: '{double}' judges twice; name each model once")
        for name, set_ in (("preset", self.preset != OVERALL), ("panel", bool(self.panel))):
            if set_ and self.player == "scripted":
                raise InputError(f"{name}: a scripted judge has none; set config.roles.judge.player to 'model'")

    @property
    def members(self) -> list[tuple[str, str]]:
        """(address, model) of each judge of the panel."""
        return [_member(text, self.api_key_env) for text in self.panel]


def _member(text: str, api_key_env: str) -> tuple[str, str]:
    url, _, model = text.partition("#")
    if not model:
        raise InputError(f"panel: '{url}' names no model; give URL#MODEL, such as http://127.0.0.1:8000/v1#gemma-3")
    return plain_address(url, api_key_env), model

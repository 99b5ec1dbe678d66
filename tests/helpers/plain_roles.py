"""Roles of the conversation game in plain Python, with fixed answers."""

import dataclasses

from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.schema import Item, Persona
from data_gen.game.settings import ConversationSettings, MixSettings, TreeSettings
from data_gen.game.tree_growth import Shape
from data_gen.roles import Comparison, Revealed, Roles, Said, Verdict

PERSONA = Persona(
    id="p1",
    profile="profile",
    personality="personality",
    facts=tuple(Item(id=f"f{number}", text=f"Fact {number}.") for number in range(1, 5)),
    traits=(Item(id="t1", text="Trait 1."),),
)
TURNS = 4
SHAPE = Shape(
    ConversationSettings(turns=TURNS, mix=MixSettings(hinted=2), min_margin=0.1),
    TreeSettings(min_turns=1, attempts=1, guards=()),
)


def changed(**settings):
    """SHAPE with other settings of its three sections."""

    def given(kind):
        names = {field.name for field in dataclasses.fields(kind)}
        return {name: value for name, value in settings.items() if name in names}

    mix = dataclasses.replace(SHAPE.conversations.mix, **given(MixSettings))
    conversations = dataclasses.replace(SHAPE.conversations, **{"mix": mix, **given(ConversationSettings)})
    return Shape(conversations, dataclasses.replace(SHAPE.tree, **given(TreeSettings)))


class User:
    """Says something new each turn, which names the reply it answers; records the dialogues of its calls."""

    def __init__(self):
        self.dialogues = []

    async def message(self, persona, dialogue, seed=0):
        self.dialogues.append(list(dialogue))
        last = f" after '{dialogue[-1].content}'" if dialogue else ""
        return Said(f"Message {len(dialogue) // 2 + 1}{last}.")


class Inducer:
    """One fact shows in each turn."""

    async def beliefs(self, persona, dialogue, known=()):
        turns = len(dialogue) // 2 + 1
        return tuple(Revealed(persona.facts[turn - 1].id, turn) for turn in range(1, turns + 1))


class Responder:
    """Candidates that name their condition; records its calls."""

    def __init__(self, texts=None):
        self.calls = []
        self.texts = texts or (lambda turn, condition, number: f"{condition} {turn}.{number}")

    async def replies(self, dialogue, hint, n, seed):
        self.calls.append((list(dialogue), hint, n, seed))
        condition = "plain" if hint is None else "hinted"
        turn = len(dialogue) // 2 + 1
        return [
            Answer(
                self.texts(turn, condition, number),
                finish_reason="length" if number == 2 else "stop",
                token_ids=(number, 7),
                logprobs=(-1.0, -2.0),
                tokenizer="hash",
                call="call",
            )
            for number in range(1, n + 1)
        ]


class Teacher:
    """Passes hints to a responder, as a responder that is the teacher too; records what it was told."""

    def __init__(self, responder):
        self.responder, self.told = responder, []

    async def replies(self, told, dialogue, n, seed):
        self.told.append((told, list(dialogue)))
        return await self.responder.replies(dialogue, told.hint, n, seed)


class Judge:
    """Prefers hinted replies with a probability of 0.8, in either order; tells equal conditions apart by 0.02."""

    name = "judge"

    def __init__(self):
        self.compared = []

    async def score(self, persona, dialogue, reply, revealed=None):
        return Verdict(4.0 if "hinted" in reply else 2.0)

    async def prefer(self, persona, dialogue, first, second, revealed=None):
        self.compared.append((dialogue[-1].content, first, second))
        if ("hinted" in first) == ("hinted" in second):
            return Comparison(0.51, 0.51)
        return Comparison(0.8, 0.8) if "hinted" in first else Comparison(0.2, 0.2)


def cast(responder=None, judge=None):
    """All roles; the responder is the teacher too."""
    responder = responder or Responder()
    return Roles(User(), Inducer(), responder, judge or Judge(), Teacher(responder))

"""Responders without a model: the oracle, lazy baselines and adversaries. They calibrate the judge's scale.

`python -m data_gen.world.responders` plays ten turns with each, for train and benchmark personas, and prints the mean
scores on both scales and the curves of some. The oracle's curve is the ceiling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import correlation, fmean, linear_regression
from typing import NamedTuple

from aloe_jax.errors import InputError
from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.schema import Message, Persona
from data_gen.roles import Dialogue
from data_gen.seeds import draw
from data_gen.text import FUNCTION_WORDS, words
from data_gen.world.facts import facts_of, named
from data_gen.world.judge import Assessment, assess
from data_gen.world.occasions import topics
from data_gen.world.oracle import oracle_reply
from data_gen.world.personas import scripted_personas
from data_gen.world.user import write_message

Strategy = Callable[[Persona, Dialogue, int], str]


def _empty(persona: Persona, dialogue: Dialogue, seed: int) -> str:
    return ""


def _constant(persona: Persona, dialogue: Dialogue, seed: int) -> str:
    return "I understand how you feel, and I am here to help."


def _echo(persona: Persona, dialogue: Dialogue, seed: int) -> str:
    return dialogue[-1].content


def _generic(persona: Persona, dialogue: Dialogue, seed: int) -> str:
    return "That sounds great! Tell me more."


def _varied_generic(persona: Persona, dialogue: Dialogue, seed: int) -> str:
    """Pleasant, fits any message, never repeats the last reply."""
    options = (
        "Oh, how interesting! What happened after that?",
        "I'm sorry to hear that. I hope it gets better soon.",
        "Wow, that is quite something. How do you feel now?",
        "Thanks for sharing. You could talk to someone you trust.",
        "Good to hear from you. Perhaps it is for the best.",
        "I think that makes sense, and you should be proud!",
    )
    return options[(len(dialogue) // 2 + seed) % len(options)]


def _edited_echo(persona: Persona, dialogue: Dialogue, seed: int) -> str:
    """The user's message with the persons swapped ("I" -> "you") and every sixth word replaced."""
    turned = {"i": "you", "i'm": "you're", "my": "your", "i've": "you've", "me": "you", "myself": "yourself"}
    tokens = [turned.get(token, token) for token in words(dialogue[-1].content)]
    return " ".join("indeed" if row % 6 == 5 else token for row, token in enumerate(tokens)).capitalize() + "."


def _keywords(persona: Persona, dialogue: Dialogue, seed: int) -> str:
    """All topic words of the latest message, without a sentence."""
    tokens = [token for token in words(dialogue[-1].content) if token not in FUNCTION_WORDS]
    return ", ".join(tokens).capitalize() + "."


def _everything(persona: Persona, dialogue: Dialogue, seed: int) -> str:
    """The whole persona, shown or not."""
    return "You like hearing about " + ", ".join(f"your {fact.topic}" for fact in facts_of(persona)) + "."


def _guesser(persona: Persona, dialogue: Dialogue, seed: int) -> str:
    """A perfect reply that also names a fact the user has not shown, as long as there is one."""
    reply = oracle_reply(persona, dialogue, seed)
    said = " ".join(message.content for message in dialogue if message.role == "user")
    hidden = [fact for fact in facts_of(persona) if not named([fact], said)]
    return f"{reply} Same as your {hidden[0].topic}." if hidden else reply


def _repeat(persona: Persona, dialogue: Dialogue, seed: int) -> str:
    """A perfect first reply, repeated in every turn."""
    return oracle_reply(persona, dialogue, seed) if len(dialogue) == 1 else dialogue[1].content


def _relevant(persona: Persona, dialogue: Dialogue, seed: int) -> str:
    """On topic in plain sentences, without regard to style: the level of a model without alignment."""
    topical = topics(persona, dialogue)
    topic = draw(topical, seed, len(dialogue)).topic
    options = (
        "I see, your {} must keep you busy these days.",
        "It sounds like your {} is quite a challenge! How do you manage it?",
        "Thank you for telling me about your {}. I hope it goes well from now on.",
        "Your {} is a good thing to have, and you should take your time with it.",
        "Oh, that is a lot. Is your {} always so demanding?",
        "Many people would find your {} tiring after a while. Well done for keeping at it.",
        "What a day! Your {} certainly gives you something to talk about.",
        "I understand. With your {}, one thing often leads to another.",
        "Nobody can say that your {} is boring, at least. How long has it been going on?",
        "That sounds fun. Who else knows about your {}?",
        "Hopefully your {} will settle down by the weekend, and then you can rest.",
        "Interesting! The story about your {} made this a better afternoon.",
    )
    return options[len(dialogue) // 2 % len(options)].format(topic)


STRATEGIES: Mapping[str, Strategy] = {
    "oracle": lambda persona, dialogue, seed: oracle_reply(persona, dialogue, seed),
    "half oracle": lambda persona, dialogue, seed: oracle_reply(persona, dialogue, seed, skill=0.5),
    "relevant": _relevant,
    "empty": _empty,
    "constant": _constant,
    "echo": _echo,
    "generic": _generic,
    "varied generic": _varied_generic,
    "edited echo": _edited_echo,
    "keywords": _keywords,
    "everything": _everything,
    "guesser": _guesser,
    "repeat": _repeat,
}


class ScriptedResponder:
    """Implements `data_gen.roles.Responder` for one persona with a strategy of `STRATEGIES`, which ignores the hint."""

    def __init__(self, persona: Persona, strategy: str = "oracle") -> None:
        if strategy not in STRATEGIES:
            raise InputError(f"strategy is '{strategy}', expected one of {', '.join(STRATEGIES)}")
        self.persona = persona
        self.strategy = strategy

    async def replies(self, dialogue: Dialogue, hint: str | None, n: int, seed: int) -> list[Answer]:
        """`n` candidates, drawn with the seeds `seed`, `seed + 1`, ..."""
        reply = STRATEGIES[self.strategy]
        return [Answer(reply(self.persona, dialogue, seed + row)) for row in range(n)]


def play(persona: Persona, strategy: str, turns: int, seed: int = 0) -> tuple[list[Message], list[Assessment]]:
    """A dialogue of `turns` turns between the scripted user and a strategy, and the parts of each reply's score."""
    dialogue: list[Message] = []
    scores = []
    for _ in range(turns):
        dialogue.append(Message(role="user", content=write_message(persona, dialogue, seed)))
        reply = STRATEGIES[strategy](persona, dialogue, seed)
        scores.append(assess(persona, dialogue, reply))
        dialogue.append(Message(role="assistant", content=reply))
    return dialogue, scores


class Curves(NamedTuple):
    """The mean score per turn over personas, on either scale."""

    shown: list[float]
    persona: list[float]


def calibration(personas: Sequence[Persona], turns: int = 10) -> dict[str, Curves]:
    """The curves of each strategy."""
    table = {}
    for strategy in STRATEGIES:
        by_turn = list(zip(*(play(persona, strategy, turns)[1] for persona in personas), strict=True))
        table[strategy] = Curves(
            [fmean(parts.value for parts in turn) for turn in by_turn],
            [fmean(parts.persona_value for parts in turn) for turn in by_turn],
        )
    return table


def line_of(curve: Sequence[float]) -> tuple[float, float]:
    """Slope per turn of the least-squares line through a curve, and R2 (1 of a flat curve)."""
    turns = range(1, len(curve) + 1)
    if len(curve) < 2 or max(curve) - min(curve) < 1e-12:
        return 0.0, 1.0
    slope, _ = linear_regression(turns, curve)
    return slope, correlation(turns, curve) ** 2


def main() -> None:
    """Print the mean scores of both splits on both scales, and the curves of benchmark personas."""
    personas = {
        "train": scripted_personas("train", profiles=40, personalities=40, seed=0, pairings=1),
        "benchmark": scripted_personas("benchmark", profiles=8, personalities=5, seed=0),
    }
    tables = {split: calibration(found) for split, found in personas.items()}
    scales = [(split, scale) for split in tables for scale in Curves._fields]
    print(f"{'strategy':<16}" + "".join(f"{f'{split} {scale}':>20}" for split, scale in scales))
    for strategy in STRATEGIES:
        means = [fmean(getattr(tables[split][strategy], scale)) for split, scale in scales]
        print(f"{strategy:<16}" + "".join(f"{mean:>20.2f}" for mean in means))
    print("\nbenchmark, by turn")
    for strategy in ("oracle", "half oracle", "relevant", "varied generic"):
        for scale in Curves._fields:
            curve = getattr(tables["benchmark"][strategy], scale)
            slope, r2 = line_of(curve)
            values = " ".join(f"{value:.2f}" for value in curve)
            print(f"{strategy:<16}{scale:<9}{values}  IR {slope:+.3f}  R2 {r2:.2f}")


if __name__ == "__main__":
    main()

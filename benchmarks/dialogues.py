"""Dialogues of short user turns, of which the decoding benchmarks make prompts. Every turn has 15 to 30 tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import ChatFormat

TURNS = (
    "I found {thing} in the attic of our new house, and I have no idea what to do with it. Any thoughts?",
    "Hm. Suppose I keep it. Where would you put {thing} in a small flat with two cats?",
    "My sister says that {thing} is worth money. How would I find that out without being cheated?",
    "Before I sell it I would like to clean it. What should I never use on {thing}?",
    "Can you write one sentence for the notice board, so that people ask me about {thing}?",
    "Someone has called already and offers twelve. Is that fair for {thing}, what would you answer?",
    "I said that I would think about it. To be honest, I am beginning to like {thing}.",
    "Tell me something that most people get wrong about {thing}, then I can impress my sister.",
    "She did not believe a word. What would convince a very stubborn person, in a friendly way?",
    "Good. Last question for tonight: if {thing} could talk, how would it describe me?",
)
THINGS = (
    "an accordion",
    "a brass telescope",
    "a crate of old postcards",
    "a broken cuckoo clock",
    "a wooden sledge",
    "a box of marbles",
    "an oil lamp",
    "a typewriter",
    "a stuffed pheasant",
    "a folding chair",
    "a set of silver spoons",
    "an army blanket",
    "a tin of buttons",
    "a rolled-up map",
    "a rocking horse",
    "a sewing machine",
)
REPLY = "REPLY"  # stands for a reply while the template is rendered


@dataclass(frozen=True)
class Dialogue:
    """The ids around the replies: a turn's prompt is `pieces[0]`, then for each earlier turn its reply and the next
    piece."""

    pieces: Sequence[Sequence[int]]


def dialogue(chat: ChatFormat, number: int, turns: int) -> Dialogue:
    """A dialogue that differs from every other `number` in its first user turn."""
    messages: list[Message] = []
    for turn in range(turns):
        text = TURNS[turn % len(TURNS)].format(thing=THINGS[number % len(THINGS)])
        text = text if turn else f"Visitor {number} here. {text}"
        messages += [Message(role="user", content=text), Message(role="assistant", content=REPLY)]
    text = chat.render(messages[:-1], add_generation_prompt=True)
    pieces = text.split(REPLY)
    assert len(pieces) == turns, "the template changes what earlier turns said"
    return Dialogue([chat.tokenizer.encode(piece) for piece in pieces])


def dialogues(chat: ChatFormat, first: int, count: int, turns: int) -> list[list[list[int]]]:
    """Pieces of `count` dialogues, numbered from `first`, as JSON has them."""
    return [[list(piece) for piece in dialogue(chat, first + number, turns).pieces] for number in range(count)]

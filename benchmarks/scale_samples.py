"""Records of any number for scale.py, as large as real ones: trees, persona entries and calls."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from ten_turns import TURNS, conversation

from aloe_jax.tree.schema import Belief, Conversation, Item, Node, Persona, Score
from data_gen.personas.entry import Entry, Kind, make_entry

_WORDS = tuple(word for turn in TURNS for text in turn for word in text.split())
_DIMENSIONS = 384  # of the sentence encoder


def scattered(rng: random.Random, words: int) -> str:
    """Some words in random order."""
    return " ".join(rng.choices(_WORDS, k=words))


def trees(count: int, turns: int = len(TURNS)) -> Iterator[Conversation]:
    """Conversations of so many turns with two replies per turn, all different."""
    base, rng = conversation(turns), random.Random(0)
    for number in range(count):
        items = tuple(Item(id=f"fact{place}", text=scattered(rng, 12)) for place in range(10))
        names = f"profile-{number // 10:010d}", f"personality-{number % 710:010d}"
        persona = Persona(id="-".join(names), profile=names[0], personality=names[1], facts=items, traits=items)
        nodes: list[Node] = []
        for node in base.nodes:
            changes: dict[str, object] = {"text": scattered(rng, len(node.text.split())), "calls": (_hash(rng),)}
            if node.role == "user":
                changes["belief"] = tuple(Belief(id=item.id, node=node.id) for item in items[: len(nodes) // 3 + 1])
            else:
                changes |= {"scores": (Score(judge="judge", criterion="overall", value=3.5),), "value": 3.5}
            nodes.append(node.model_copy(update=changes))
        name = f"c{number:05d}-{persona.id}"
        yield Conversation(id=name, persona=persona, nodes=tuple(nodes), preferences=base.preferences)


def entries(count: int, kind: Kind = "profile") -> list[Entry]:
    """Different entries of ten items of twelve words."""
    rng = random.Random(kind)
    return [make_entry(kind, [scattered(rng, 12) for _ in range(10)], {}, "generated") for _ in range(count)]


def unit_vectors(count: int) -> Float[np.ndarray, "N D"]:
    """Random directions."""
    vectors = np.random.default_rng(0).standard_normal((count, _DIMENSIONS), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def call_record(number: int) -> tuple[str, dict[str, object]]:
    """The id and the record of a call of some 3 kB: a prompt of 400 words and an answer."""
    rng = random.Random(number)
    request = {"model": "m", "messages": [{"role": "user", "content": scattered(rng, 400)}], "seed": number}
    record: dict[str, object] = {
        "role": "responder",
        "template": "0" * 64,
        "request": request,
        "answers": [{"text": scattered(rng, 31)}],
    }
    return hashlib.sha256(str(number).encode()).hexdigest(), record


def _hash(rng: random.Random) -> str:
    return f"{rng.getrandbits(256):064x}"

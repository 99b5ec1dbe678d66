"""A probe: what the model has learned about the user, asked beside the dialogue.

Under a reply hang a question, a user node, and its answers, all flagged `probe`. They are branches of the same tree, so
they share its tokens and cost only their own. They are off the path and no turn of the dialogue.

The answer is JSON, `{"known":[{"item":"pet.mare","turn":2}]}`: each claim names an item of a catalogue, or is a free
sentence where there is none, with the user turn (from 1) that is its evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aloe_jax import files
from aloe_jax.tree.schema import PROBE, Node

QUESTION = 'What have you learned about me so far? Answer as {"known":[{"item":"...","turn":1}]}, turn by turn.'
MAX_ITEM = 120  # characters of a free item
MAX_CLAIMS = 40  # claims of an answer
ANSWER_TOKENS = 512  # of an answer that is constrained to the schema


@dataclass(frozen=True)
class Claim:
    """Something learned about the user: an id of a catalogue or a free sentence, and the user turn that showed it."""

    item: str
    turn: int


def schema(catalogue: Sequence[str] | None, turns: int) -> dict[str, object]:
    """The JSON schema of an answer after `turns` user turns, for constrained decoding; None: free items."""
    item: dict[str, object] = {"type": "string", "minLength": 1, "maxLength": MAX_ITEM}
    if catalogue is not None:
        item = {"type": "string", "enum": list(catalogue)}
    claim = {
        "type": "object",
        "properties": {"item": item, "turn": {"type": "integer", "minimum": 1, "maximum": turns}},
        "required": ["item", "turn"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"known": {"type": "array", "items": claim, "maxItems": MAX_CLAIMS}},
        "required": ["known"],
        "additionalProperties": False,
    }


def answer_text(claims: Iterable[Claim]) -> str:
    """The claims as an answer: canonical JSON, sorted by turn, in their order within a turn."""
    by_turn = sorted(claims, key=lambda claim: claim.turn)
    return files.canonical({"known": [{"item": claim.item, "turn": claim.turn} for claim in by_turn]})


def read_claims(text: str) -> tuple[Claim, ...] | None:
    """The claims of an answer, of several about one item the first; None if the text is no answer. Whitespace is free,
    keys are not; whether a catalogue has the items, and the dialogue the turns, is not checked."""
    try:
        value = files.loads(text)
    except ValueError:
        return None
    known = value["known"] if isinstance(value, dict) and value.keys() == {"known"} else None
    if not isinstance(known, list) or len(known) > MAX_CLAIMS or not all(map(_is_claim, known)):
        return None
    first: dict[str, int] = {}
    for claim in known:
        first.setdefault(claim["item"], claim["turn"])
    return tuple(Claim(item, turn) for item, turn in first.items())


def read_cut(text: str) -> tuple[Claim, ...] | None:
    """As `read_claims`, of an answer that its limit of tokens may have cut: the claims that came whole."""
    claims, end = read_claims(text), len(text)
    while claims is None and (end := text.rfind("}", 0, end)) >= 0:  # the last one may stand in an item that is cut
        claims = read_claims(f"{text[: end + 1]}]}}")
    return claims


def _is_claim(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() != {"item", "turn"}:
        return False
    item, turn = value["item"], value["turn"]
    return isinstance(item, str) and 1 <= len(item) <= MAX_ITEM and type(turn) is int and turn >= 1


def probe_question(reply: str) -> Node:
    """The question under the reply of that id."""
    return Node(id=f"{reply}/probe", parent=reply, role="user", text=QUESTION, flags=(PROBE,))


def probe_answer(reply: str, text: str, number: int = 1) -> Node:
    """The answer of that number (from 1) to the question under a reply."""
    name = f"{reply}/belief{number if number > 1 else ''}"
    return Node(id=name, parent=f"{reply}/probe", role="assistant", text=text, flags=(PROBE,))

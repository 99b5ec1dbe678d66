"""The files of the paper's code (paper, section 2): flat conversations to trees, persona pools to personas."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping

from aloe_jax.errors import InputError
from aloe_jax.formats import keys
from aloe_jax.formats.keys import Tally
from aloe_jax.formats.repair import Repairs, clean_texts
from aloe_jax.tree.schema import Belief, Conversation, Item, Node, Persona, Preference

JUDGE = "reference"  # part of the format of the trees, like the prefix of the ids below
_SIDES = ("preferred", "rejected")
# A sentence ends before a space and a capital letter, except after common titles and initials.
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\b[DMS][rst]\.)(?<!\bMrs\.)(?<!\b[A-Z]\.)\s+(?=[A-Z\"'])")
_WORD = re.compile(r"[\w'-]+")
# Minimum fraction of an item's words that the inferred text repeats. The inducer copies parts of sentences and writes
# "He/She" for the pronoun, so a copied sentence reaches this and a merely related one does not.
SHOWN_SHARE = 2 / 3


def conversations(
    values: Iterable[tuple[int, object]], repairs: Repairs, tally: Tally | None = None
) -> Iterator[Conversation]:
    """The trees of flat records. Each turn has a user message, two replies of which one is preferred, and the one that
    the conversation continued from (`chosen`), which the tree's `path` follows.

    A record is cut before its first broken turn, and a record without a whole turn is dropped; `repairs` notes both.
    Keys that are not read are counted in `tally`; a record is dropped for one that would change the dialogue.
    """
    tally = tally or Tally()
    for count, (line, value) in enumerate(values, start=1):
        if not isinstance(value, dict) or not isinstance(turns := value.get("conversations"), list):
            repairs.drop(line, "expected an object with the list 'conversations'")
            continue
        try:
            tally.check(value, keys.PAPER, line)
            for record in turns:
                tally.check(record if isinstance(record, dict) else {}, keys.PAPER_TURN, line, "conversations[].")
        except ValueError as error:
            repairs.drop(line, str(error))
            continue
        persona = _persona(value, line, repairs)
        nodes: list[Node] = []
        preferences: list[Preference] = []
        path: list[str] = []
        for turn, record in enumerate(turns, start=1):
            if problem := _broken(record):
                repairs.repair(f"conversation cut before a turn with {problem}", line)
                break
            parent = path[-1] if path else None
            user = Node(id=f"user{turn}", parent=parent, role="user", text=record["user"])
            nodes.append(user.model_copy(update={"belief": _belief(persona, record, nodes, user.id)}))
            texts = {side: record["assistant"][side] for side in _SIDES}
            if texts["preferred"] == texts["rejected"]:
                repairs.repair("equal candidates kept once, without a preference", line)
                texts.pop("rejected" if record["chosen"] == "preferred" else "preferred")
            else:
                chosen, rejected = f"preferred{turn}", f"rejected{turn}"
                preferences.append(Preference(chosen=chosen, rejected=rejected, judge=JUDGE))
            nodes += [
                Node(id=f"{side}{turn}", parent=user.id, role="assistant", text=text) for side, text in texts.items()
            ]
            path += [user.id, f"{record['chosen']}{turn}"]
        if path:
            yield Conversation(
                id=f"reference-{count:05d}",
                persona=persona,
                nodes=tuple(nodes),
                preferences=tuple(preferences),
                path=tuple(path),
            )
        else:
            repairs.drop(line, "conversation without a whole turn")


def personas(values: Iterable[tuple[int, object]], repairs: Repairs, kind: str) -> Iterator[Persona]:
    """The half personas of a pool file, one per distinct text: `kind` is "profile" (facts) or "personality" (traits);
    the other half is empty."""
    if kind not in ("profile", "personality"):
        raise InputError(f"pool kind is '{kind}'; expected profile or personality")
    seen: set[str] = set()
    for line, value in values:
        if not isinstance(value, str):
            repairs.drop(line, f"expected a string, found {type(value).__name__}")
            continue
        for text in clean_texts(value, line, repairs):
            if text in seen:
                repairs.drop(line, "the same text as before")
                continue
            seen.add(text)
            name = _key(kind, text)
            yield Persona(
                id=name,
                profile=name if kind == "profile" else "",
                personality=name if kind == "personality" else "",
                facts=_items("fact", text) if kind == "profile" else (),
                traits=_items("trait", text) if kind == "personality" else (),
            )


def _broken(record: object) -> str | None:
    """The missing part of a turn, None for a complete turn."""
    if not isinstance(record, dict):
        return "no fields"
    replies = record.get("assistant")
    if not isinstance(record.get("user"), str) or not record["user"].strip():
        return "no user message"
    if not isinstance(replies, dict) or not all(isinstance(replies.get(side), str) for side in _SIDES):
        return "no two replies"
    if record.get("chosen") not in _SIDES:
        return "no chosen reply"
    return None


def _persona(value: Mapping[str, object], line: int, repairs: Repairs) -> Persona | None:
    texts = {}
    for kind in ("profile", "personality"):
        text = value.get(kind)
        if not isinstance(text, str):
            return None
        texts[kind] = " ".join(clean_texts(text, line, repairs))
    names = {kind: _key(kind, text) for kind, text in texts.items()}
    return Persona(
        id=f"{names['profile']}-{names['personality']}",
        profile=names["profile"],
        personality=names["personality"],
        facts=_items("fact", texts["profile"]),
        traits=_items("trait", texts["personality"]),
    )


def _belief(
    persona: Persona | None, record: Mapping[str, object], nodes: list[Node], user: str
) -> tuple[Belief, ...] | None:
    """What the user has shown so far: the beliefs of earlier turns and the items that this turn's inferred text
    repeats."""
    if persona is None:
        return None
    earlier = next((node.belief for node in reversed(nodes) if node.belief is not None), ())
    known = {belief.id for belief in earlier}
    found = list(earlier)
    for items, field_name in ((persona.facts, "inferred_profile"), (persona.traits, "inferred_personality")):
        inferred = record.get(field_name)
        words = set(_words(inferred)) if isinstance(inferred, str) else set()
        for item in items:
            own = _words(item.text)
            if item.id not in known and own and sum(word in words for word in own) / len(own) >= SHOWN_SHARE:
                found.append(Belief(id=item.id, node=user))
    return tuple(found)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _items(prefix: str, text: str) -> tuple[Item, ...]:
    """The sentences of `text`, numbered from 1."""
    sentences = [sentence.strip() for sentence in _SENTENCE_END.split(text) if sentence.strip()]
    return tuple(Item(id=f"{prefix}{number}", text=sentence) for number, sentence in enumerate(sentences, start=1))


def _key(kind: str, text: str) -> str:
    """A name that is equal for equal texts."""
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

"""The request for new entries: its message, the JSON schema of the answer, and the tolerant reader of answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from aloe_jax.tree.schema import Message
from data_gen.personas.entry import Entry, Kind, check_kind
from data_gen.personas.rules import ITEMS
from data_gen.players.table import load_prompt

_DECODER = json.JSONDecoder(strict=False)  # accepts raw line breaks inside strings
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_OPENING = re.compile(r"[{\[]")
_MARKER = re.compile(r"(?P<number>\d{1,3})\s*[.):]\s+|[-*•–]\s+")
_MOST_STARTS = 2_000  # places at which JSON is tried; an answer with a thousand people has fewer


def proposal_messages(
    kind: Kind, attributes: Sequence[Mapping[str, str]], examples: Sequence[Entry], count: int
) -> list[Message]:
    """The request for `count` new entries, one for each of the drawn `attributes`, which repeat if there are fewer.

    It is a single user message, because some chat templates have no system role.
    """
    check_kind(kind)
    people = [attributes[number % len(attributes)] for number in range(count)]
    content = load_prompt("author").render("ask", kind=kind, people=people, examples=examples)
    return [Message(role="user", content=content)]


def proposal_schema(kind: Kind, count: int) -> dict[str, object]:
    """The JSON schema of an answer with `count` people."""
    check_kind(kind)
    items = {"type": "array", "items": {"type": "string"}, "minItems": ITEMS[0], "maxItems": ITEMS[1]}
    person = {"type": "object", "properties": {"items": items}, "required": ["items"], "additionalProperties": False}
    people = {"type": "array", "items": person, "minItems": count, "maxItems": count}
    return {
        "type": "object",
        "properties": {"people": people},
        "required": ["people"],
        "additionalProperties": False,
    }


def parse_proposals(text: str) -> list[tuple[str, ...]]:
    """The people in an answer, a tuple of items each, in whatever form the model wrote them; empty if there are none.

    JSON is tried first, anywhere in the text: a code fence, surrounding words and a truncated end do no harm. Otherwise
    each numbered or bulleted list is a person. The quality of the items is left to the rules.
    """
    text = _THOUGHTS.sub("", text)
    try:
        return _from_json(text) or _from_lists(text)
    except RecursionError:  # thousands of nested brackets
        return _from_lists(text)


def _from_json(text: str) -> list[tuple[str, ...]]:
    """People in the JSON values of `text`. If an outer value is truncated, the complete ones inside it count."""
    found: list[tuple[str, ...]] = []
    position = 0
    for _ in range(_MOST_STARTS):
        start = _OPENING.search(text, position)
        if not start:
            break
        try:
            value, position = _DECODER.raw_decode(text, start.start())
        except json.JSONDecodeError:
            position = start.end()
            continue
        found += _people(value)
    return found


def _people(value: object) -> Iterator[tuple[str, ...]]:
    """The lists of texts inside a JSON value, depth first."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _people(inner)
    elif isinstance(value, list):
        texts = [_item_text(inner) for inner in value]
        kept = tuple(_clean(text) for text in texts if text is not None)
        if kept and len(kept) == len(value):
            yield tuple(item for item in kept if item)
        else:
            for inner in value:
                yield from _people(inner)


def _item_text(value: object) -> str | None:
    """The text of an item: the value itself, or the only text in an object such as {"id": 3, "text": "..."}."""
    if isinstance(value, dict):
        texts = [inner for key, inner in value.items() if isinstance(inner, str) and key != "id"]
        return texts[0] if len(texts) == 1 and not any(isinstance(inner, list) for inner in value.values()) else None
    return value if isinstance(value, str) else None


def _from_lists(text: str) -> list[tuple[str, ...]]:
    """Runs of numbered or bulleted lines. A new run begins after any other line, where the numbers restart, and after a
    blank line below enough bullets; a numbered line above bullets is their heading."""
    runs: list[list[str]] = [[]]
    bullets = gap = False
    for line in text.splitlines():
        line = line.replace("**", "").strip()
        if not line:
            gap = True
            continue
        marker = _MARKER.match(line)
        if not marker:
            runs.append([])
            continue
        was_bullets, bullets = bullets, marker["number"] is None
        if bullets and not was_bullets and runs[-1]:
            runs[-1].pop()
            runs.append([])
        elif (bullets and gap and len(runs[-1]) >= ITEMS[0]) or (
            not bullets and (was_bullets or marker["number"] == "1")
        ):
            runs.append([])
        gap = False
        runs[-1].append(_clean(line))
    return [tuple(item for item in run if item) for run in runs if len(run) > 1]


def _clean(item: str) -> str:
    """An item on one line, without its list marker, emphasis or quotes around it."""
    item = re.sub(r"\s+", " ", item.replace("**", "")).strip()
    marker = _MARKER.match(item)
    item = item[marker.end() :] if marker else item
    if len(item) > 1 and item[0] == item[-1] == '"' and '"' not in item[1:-1]:
        item = item[1:-1]
    return item.strip()

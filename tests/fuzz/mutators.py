"""Mutations of good input: of JSON values by their structure, of files by their bytes.

Every mutation is a pure function of a `random.Random` and its input, so that a case is repeated by its number.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

_RAW = "@raw{}@"
_TWICE = "@twice@"  # behind a key that then stands in its object twice
# Texts of values that `json.dumps` cannot write, or that no good file has.
RAW = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "-1e400",
    "-0.0",
    "01",
    "9" * 6_000,
    "1." + "3" * 6_000,
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 3_000 + "1" + "}" * 3_000,
    '"\\ud83d"',
    '"a\\udc00b"',
    '"\\u0000"',
    "'x'",
    "True",
    "undefined",
    '"tab\tinside"',
)
SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 2**31, 2**53 + 1, 2**63, -(2**63), 10**30, 0.5, -1.5, 1e308, 1e-320,
    "", " ", "\n", "0", "1", "1.5", "true", "false", "null", "none", "auto", [], {}, [[]], [None], [0], [""], {"": 0},
    {"text": "x"}, [{"type": "text", "text": "x"}], [{"type": "image"}], "x" * 100_000,
)  # fmt: skip
PIECES = (
    "\ufeff", "\x00", "\u2028", "\u200d", "\r", "\t", "\x1b[31m", "\U0001f30a", "e\u0301", "<|im_end|>", "<|im_start|>",
    "</s>", "<think>", "</think>", "{{ 1/0 }}", "{% for x in y %}", "<script>", "'", '"', "\\", "\\ud83d", " ", "\n\n",
)  # fmt: skip
NEW_KEYS = (
    "extra",
    "notes",
    "content",
    "tools",
    "weight",
    "metadata",
    "reasoning_content",
    "",
    " id",
    "ID",
    "__class__",
)


def json_text(value: Any, rng: random.Random | None = None, **options: Any) -> str:
    """JSON with the raw values and the repeated keys that `mutate_json` put in."""
    text = json.dumps(value, **options)
    for number, raw in enumerate(RAW):
        text = text.replace(f'"{_RAW.format(number)}"', raw)
    return text.replace(_TWICE, "")


def mutate_json(rng: random.Random, value: Any, most: int = 2) -> tuple[Any, str]:
    """A changed copy, for `json_text`, and what was changed in words."""
    value, told = copy.deepcopy(value), []
    for _ in range(rng.randint(1, most)):
        slots = list(_slots(value, ""))
        if not slots:
            return value, "nothing to change"
        container, key, where = rng.choice(slots)
        told.append(f"{_mutate_slot(rng, container, key, slots)} at {where}")
    return value, ", ".join(told)


def _slots(value: Any, where: str) -> Iterator[tuple[Any, Any, str]]:
    """Every (container, key, place in words) in a value, few of a long list."""
    pairs = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    if isinstance(value, list) and len(pairs) > 8:
        pairs = pairs[:4] + pairs[-2:]
    for key, inner in pairs[:60]:
        place = f"{where}.{key}" if isinstance(value, dict) else f"{where}[{key}]"
        yield value, key, place
        yield from _slots(inner, place)


def _mutate_slot(rng: random.Random, container: Any, key: Any, slots: list[tuple[Any, Any, str]]) -> str:
    """Change one slot in place; returns the change in words."""
    old = container[key]
    kind = rng.choice(("drop", "scalar", "raw", "wrap", "text", "swap", "key", "new", "twice", "number", "repeat"))
    if kind == "drop":
        del container[key]
    elif kind == "raw":
        container[key] = _RAW.format(rng.randrange(len(RAW)))
    elif kind == "wrap":
        container[key] = rng.choice(([old], {"value": old}, json.dumps(old), str(old)))
    elif kind == "text" and isinstance(old, str):
        place = rng.randint(0, len(old))
        container[key] = old[:place] + rng.choice(PIECES) * rng.choice((1, 1, 3)) + old[place:]
    elif kind == "swap":
        other, there, _ = rng.choice(slots)
        if (isinstance(other, list) and there >= len(other)) or (isinstance(other, dict) and there not in other):
            return "no change"
        container[key] = copy.deepcopy(other[there])
    elif kind == "key" and isinstance(container, dict):
        new = rng.choice((key.upper(), key + " ", key + "s", key[:-1], key.replace("_", ""), rng.choice(NEW_KEYS)))
        container[new] = container.pop(key)
        return f"key to {new!r}"
    elif kind == "new" and isinstance(container, dict):
        new = rng.choice(NEW_KEYS)
        container[new] = rng.choice((*SCALARS, "A text of its own."))
        return f"new key {new!r}"
    elif kind == "twice" and isinstance(container, dict):
        container[key + _TWICE] = rng.choice((old, rng.choice(SCALARS)))
    elif kind == "number" and isinstance(old, int | float) and not isinstance(old, bool):
        container[key] = rng.choice((-old, old + 1, old - 1, old * 2, old * 1000, 0, old / 3, float(old), str(old)))
    elif kind == "repeat" and isinstance(container, list):
        container[key:key] = [copy.deepcopy(old)] * rng.choice((1, 1, 1, 50))
    else:
        kind = "scalar"
        container[key] = copy.deepcopy(rng.choice(SCALARS))
        return f"{str(container[key])[:40]!r}"
    return kind


def _truncated(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randint(0, len(data))]


def _flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 4, 30))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _inserted(rng: random.Random, data: bytes) -> bytes:
    place = rng.randint(0, len(data))
    piece = rng.choice((b"\0", b"\xff", b"\xed\xa0\x80", b"\xc3", b"\n", b"{", b'"', b",", b"[" * 50_000, b"\r", b" "))
    return data[:place] + piece * rng.choice((1, 1, 5)) + data[place:]


def _cut_out(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted(rng.randint(0, len(data)) for _ in range(2))
    end = min(end, start + rng.choice((1, 8, 100)))
    return data[:start] + data[end:]


def _doubled(rng: random.Random, data: bytes) -> bytes:
    start = rng.randint(0, len(data))
    return data[:start] + data[start : start + 40] + data[start:]


def _lines(rng: random.Random, data: bytes) -> bytes:
    rows = data.splitlines(keepends=True)
    if len(rows) < 2:
        return data + data
    first, second = rng.sample(range(len(rows)), 2)
    kind = rng.choice(("swap", "twice", "drop", "join"))
    if kind == "swap":
        rows[first], rows[second] = rows[second], rows[first]
    elif kind == "twice":
        rows.insert(second, rows[first])
    elif kind == "drop":
        del rows[first]
    else:
        rows[first] = rows[first].rstrip(b"\n")
    return b"".join(rows)


def _recoded(rng: random.Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    codec = rng.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7"))
    return text.encode(codec, "replace")


def _other_file(rng: random.Random, data: bytes) -> bytes:
    return rng.choice(
        (b"", b"\n\n", b"null", b"[]", b"{}", b'""', b"0", b"PK\x03\x04" + data, gzip.compress(data, mtime=0),
         gzip.compress(data, mtime=0)[:-9], b"PAR1" + data, b"ARROW1\0\0", b"<!DOCTYPE html><html></html>",
         b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", b"\x80\x04K\x01.", b"\0" * 4096)
    )  # fmt: skip


def _line_ends(rng: random.Random, data: bytes) -> bytes:
    return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", "\u2028".encode())))


BYTES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _truncated, _flipped, _inserted, _cut_out, _doubled, _lines, _recoded, _other_file, _line_ends,
)  # fmt: skip


def mutate_bytes(rng: random.Random, data: bytes) -> tuple[bytes, str]:
    """Changed bytes, and the change in words."""
    mutation = rng.choice(BYTES)
    return mutation(rng, data), f"bytes {mutation.__name__.strip('_')}"


def reordered(rng: random.Random, value: Any) -> Any:
    """An equal JSON value whose objects have their keys in another order."""
    if isinstance(value, dict):
        keys = list(value)
        rng.shuffle(keys)
        return {key: reordered(rng, value[key]) for key in keys}
    return [reordered(rng, item) for item in value] if isinstance(value, list) else value


def respelled(rng: random.Random, value: Any) -> str:
    """Another text of an equal JSON value on one line: order of keys, spaces, escapes."""
    separators = rng.choice(((",", ":"), (" , ", " : "), (", ", ": ")))
    return json.dumps(reordered(rng, value), ensure_ascii=rng.random() < 0.5, separators=separators)

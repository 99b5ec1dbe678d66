"""Data: users' records, trees, the paper's files, scores and persona pools."""

from __future__ import annotations

import copy
import gzip
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aloe_jax.tree.schema import dump, read_personas, read_trees
from fuzz import case, mutators
from fuzz.case import Case, Result, command
from helpers.aloe_command import ROOT
from helpers.synthetic_run import training_tree
from helpers.tree_samples import aloe_tree

DEMO = f"--config={ROOT / 'configs/demo.py'}:debug"


def _chat(number: int, turns: int = 2, names: tuple[str, ...] = ("role", "content", "user", "assistant")) -> list[Any]:
    role, content, user, assistant = names
    return [
        {
            role: (user, assistant)[place % 2],
            content: f"{('Question', 'Answer')[place % 2]} {number}-{place} of a lamp?",
        }
        for place in range(2 * turns)
    ]


def _pair(number: int) -> dict[str, Any]:
    return {"prompt": f"Prompt {number}?", "chosen": f"Good {number}.", "rejected": f"Poor {number}."}


def _whole_pair(number: int) -> dict[str, Any]:
    prompt = {"role": "user", "content": f"Prompt {number}?"}
    sides = {side: [prompt, {"role": "assistant", "content": f"{side} {number}."}] for side in ("chosen", "rejected")}
    return {"prompt": f"Prompt {number}?", **sides, "score_chosen": 8.0, "score_rejected": 2.0}


LAYOUTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "messages": lambda k: {"messages": _chat(k)},
    "system": lambda k: {"messages": [{"role": "system", "content": f"Be kind {k}."}, *_chat(k)]},
    "parts": lambda k: {
        "messages": [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in _chat(k, 1)]
    },
    "weighted": lambda k: {"messages": [one | {"weight": k % 2} if i == 1 else one for i, one in enumerate(_chat(k))]},
    "pair": _pair,
    "margin": lambda k: _pair(k) | {"margin": 0.5},
    "whole": _whole_pair,
    "binarized": lambda k: _whole_pair(k) | {"messages": _whole_pair(k)["chosen"]},
    "question": lambda k: {"system": f"Be {k}.", "question": f"Why {k}?", "chosen": f"S{k}.", "rejected": f"N{k}."},
    "labelled": lambda k: {"prompt": f"Prompt {k}?", "completion": f"Reply {k}.", "label": k % 2 == 0},
    "sharegpt": lambda k: {"conversations": _chat(k, 2, ("from", "value", "human", "gpt"))},
}  # fmt: skip
TEXT_KEYS = ("content", "value", "text", "prompt", "question", "system", "chosen", "rejected")


def records(rng: random.Random, folder: Path) -> Case:
    """`aloe convert` of users' records."""
    layout = rng.choice(list(LAYOUTS))
    rows = [LAYOUTS[layout](number) for number in range(rng.randint(1, 4))]
    kind = rng.choice(("json", "json", "json", "bytes", "equal", "parquet"))
    if kind == "equal":
        (folder / "clean.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data, name, told = _respelled(rng, rows)
        (folder / name).write_bytes(data)
        return _convert(name, f"{layout}: {told}", lambda result: _equal_output("clean.jsonl", "out.jsonl"))
    if kind == "parquet":
        return _parquet_case(rng, folder, layout, rows)
    changed, told = mutators.mutate_json(rng, rows)
    if kind == "bytes" or not isinstance(changed, list):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        data, told = mutators.mutate_bytes(rng, text.encode())
    elif rng.random() < 0.2:
        data = mutators.json_text(changed, indent=2).encode()
    else:
        data = "".join(mutators.json_text(row) + "\n" for row in changed).encode("utf-8", "surrogatepass")
    name = rng.choice(("data.jsonl", "data.jsonl", "data.json"))
    (folder / name).write_bytes(data)
    return _convert(name, f"{layout}: {told}", lambda result: _kept(result, data))


def _respelled(rng: random.Random, rows: list[Any]) -> tuple[bytes, str, str]:
    """The same records in another spelling: bytes, file name, words."""
    lines = [mutators.respelled(rng, row) for row in rows]
    kind = rng.choice(("lines", "crlf", "blank", "mark", "array", "gzip"))
    text = "\n".join(lines) + "\n" * rng.randint(0, 2)
    if kind == "crlf":
        text = text.replace("\n", "\r\n")
    elif kind == "blank":
        text = "\n \n" + text.replace("\n", "\n\n")
    elif kind == "mark":
        text = "\ufeff" + text
    elif kind == "array":
        return json.dumps(rows, indent=rng.choice((None, 1))).encode(), "data.json", "the same as an array"
    elif kind == "gzip":
        return gzip.compress(text.encode(), mtime=0), "data.jsonl.gz", "the same in gzip"
    return text.encode(), "data.jsonl", f"the same with {kind}"


def _parquet_case(rng: random.Random, folder: Path, layout: str, rows: list[Any]) -> Case:
    rows, told = (rows, "as it is") if rng.random() < 0.5 else mutators.mutate_json(rng, rows)
    try:
        pq.write_table(pa.Table.from_pylist(json.loads(mutators.json_text(rows))), folder / "data.parquet")
    except (pa.ArrowException, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        rows, told = [_pair(0)], "as it is"
        pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")
    if rng.random() < 0.6:
        data, more = mutators.mutate_bytes(rng, (folder / "data.parquet").read_bytes())
        (folder / "data.parquet").write_bytes(data)
        told += f", {more}"
    return _convert("data.parquet", f"{layout} parquet: {told}", _well_formed)


def _convert(name: str, told: str, check: Callable[[Result], str | None]) -> Case:
    call = ("convert", name, "--out=out.jsonl")
    return Case(command(*call), "aloe " + " ".join(call), told, writes=("out.jsonl",), check=check)


def _equal_output(clean: str, out: str) -> str | None:
    """What is wrong if the output for an equal input differs from that of the clean one."""
    found = case.aloe(("convert", clean, "--out=clean.out"))
    if found.code:
        return None  # the layout is refused as a whole
    same = Path("clean.out").read_bytes() == Path(out).read_bytes()
    return None if same else "another result than that of the same records plainly spelled"


def _well_formed(result: Result, name: str = "out.jsonl") -> str | None:
    """What is wrong with trees that were written, by rules that hold for any input."""
    for tree in read_trees(name):
        for pair in tree.preferences:
            path = tree.path_to(pair.chosen)
            if not any(node.role == "user" for node in path[:-1]):
                return f"the pair {pair} has no prompt"
            if tree.node(pair.chosen).text == tree.node(pair.rejected).text:
                return f"the pair {pair} has two equal sides"
    return None


def _kept(result: Result, data: bytes) -> str | None:
    """What of the input's records is missing in the output."""
    if wrong := _well_formed(result):
        return wrong
    rows = strictly_read(data)
    if rows is None or any(word in result.out for word in ("left out", "repaired", "not read")):
        return None
    trees = list(read_trees("out.jsonl"))
    texts = "\0".join(node.text for tree in trees for node in tree.nodes)
    for row in rows:
        if not isinstance(row, dict):
            return f"a record that is no object was taken: {str(row)[:80]}"
        for text in _texts({key: value for key, value in row.items() if key != "messages" or "chosen" not in row}):
            if text.strip() and text.strip() not in texts:
                return f"a text of the input is in no node: {text[:80]!r}"
        sides = [row.get(side) for side in ("chosen", "rejected")]
        if all(isinstance(side, str) for side in sides) and sides[0] != sides[1]:
            chosen = {tree.node(pair.chosen).text for tree in trees for pair in tree.preferences}
            if not {side.strip() for side in sides} & {text.strip() for text in chosen}:
                return f"no preference of {sides}"
    untrained = {node.text for tree in trees for node in tree.nodes if "no_loss" in node.flags}
    counts: dict[str, set[bool]] = {}
    for one in (one for row in rows for one in _objects(row) if isinstance(one.get("content"), str)):
        marked = any(
            one.get(key) in (0, False, "0", "false") and one.get(key) is not None for key in ("weight", "train")
        )
        counts.setdefault(one["content"], set()).add(marked)
    wrong = [text for text, marks in counts.items() if marks == {True} and text.strip() and text not in untrained]
    return f"trained on in spite of its weight: {wrong[0][:80]!r}" if wrong else None


def strictly_read(data: bytes) -> list[Any] | None:
    """The JSON values of a file, read as plainly as can be; None where that is not JSON lines or one array."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    try:
        text = data.decode("utf-8")
        if text.lstrip().startswith("["):
            whole = json.loads(text, object_pairs_hook=once)
            return whole if isinstance(whole, list) else None
        return [json.loads(line, object_pairs_hook=once) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(inner)


def _texts(value: Any) -> Iterator[str]:
    """The texts under keys that hold parts of a dialogue."""
    for one in _objects(value):
        yield from (inner for key, inner in one.items() if key in TEXT_KEYS and isinstance(inner, str))


def trees(rng: random.Random, folder: Path) -> Case:
    """`aloe convert` of trees, to parquet and to JSON lines."""
    grown = [aloe_tree(2, "Be kind."), training_tree(1, np.random.default_rng(rng.randrange(9)), turns=2)]
    rows = [json.loads(dump(tree)) for tree in grown]
    kind, out = rng.choice(("json", "json", "json", "bytes", "equal")), rng.choice(("out.jsonl", "out.parquet"))
    if kind == "equal":
        rows[0]["nodes"][0] |= {"flags": [], "scores": [], "value": None}
        data, told = "".join(mutators.respelled(rng, row) + "\n" for row in rows).encode(), "the same"
    elif kind == "bytes":
        data, told = mutators.mutate_bytes(rng, "".join(json.dumps(row) + "\n" for row in rows).encode())
    else:
        rows, told = mutators.mutate_json(rng, rows)
        data = "".join(mutators.json_text(row) + "\n" for row in rows).encode()
    (folder / "trees.jsonl").write_bytes(data)
    call = ("convert", "trees.jsonl", f"--out={out}")
    check = lambda result: _same_trees(result, data, out)  # noqa: E731
    return Case(command(*call), "aloe " + " ".join(call), told, writes=(out,), check=check)


def _same_trees(result: Result, data: bytes, out: str) -> str | None:
    """What differs between the trees of the input and those of the output."""
    if out.endswith(".parquet"):
        back = case.aloe(("convert", out, "--out=back.jsonl"))
        if back.code:
            return f"the output is refused: {back.err}"
        out = "back.jsonl"
    rows = strictly_read(data)
    if rows is None or "left out" in result.out or not all(isinstance(row, dict) and "nodes" in row for row in rows):
        return None
    written = [json.loads(line) for line in Path(out).read_text().splitlines()]
    if len(written) != len(rows):
        return f"{len(rows)} trees became {len(written)}"
    return next(filter(None, (_lost(row, tree, "tree") for row, tree in zip(rows, written, strict=True))), None)


def _lost(given: Any, written: Any, where: str) -> str | None:
    """The first place where a value of the input is not that of the output; defaults may be left out of it."""
    if isinstance(given, dict) and isinstance(written, dict):
        found = (_lost(value, written.get(key), f"{where}.{key}") for key, value in given.items())
        return next(filter(None, found), None)
    if isinstance(given, list) and isinstance(written, list) and len(given) == len(written):
        found = (_lost(*two, f"{where}[{at}]") for at, two in enumerate(zip(given, written, strict=True)))
        return next(filter(None, found), None)
    if written is None and given in (None, [], (), 1, 1.0):
        return None
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (given, written))
    if type(given) is not type(written) and not numbers:
        return f"{where} was {str(given)[:60]!r} and is {str(written)[:60]!r}"
    equal = math.isclose(given, written, rel_tol=0, abs_tol=0) if numbers else given == written
    return None if equal else f"{where} was {str(given)[:60]!r} and is {str(written)[:60]!r}"


def _paper_row(number: int, turns: int = 2) -> dict[str, Any]:
    return {
        "profile": json.dumps(f"He bakes {number} loaves. He owns two boats.") + "\n",
        "personality": json.dumps("She jokes a lot."),
        "conversations": [
            {
                "user": f"User {number}-{turn}",
                "assistant": {"preferred": f"Good {number}-{turn}", "rejected": f"Poor {number}-{turn}"},
                "chosen": ("preferred", "rejected")[turn % 2],
                "inferred_profile": "He/She owns two boats.",
            }
            for turn in range(turns)
        ],
    }


def paper(rng: random.Random, folder: Path) -> Case:
    """`aloe convert` of the paper's conversations and pools: what was not changed is always kept."""
    pool = rng.random() < 0.4
    rows: list[Any] = [f"He bakes {k} loaves. She sings." if pool else _paper_row(k) for k in range(4)]
    name = "profile.jsonl" if pool else "conversations.jsonl"
    if rng.random() < 0.4:
        data, told = mutators.mutate_bytes(rng, "".join(json.dumps(row) + "\n" for row in rows).encode())
        (folder / name).write_bytes(data)
        check = (lambda result: read_personas("out.jsonl") and None) if pool else _well_formed
        return _convert(name, told, check)
    changed = copy.deepcopy(rows)
    changed[1:2], told = mutators.mutate_json(rng, rows[1:2])
    lines = [mutators.json_text(row) + "\n" for row in changed]
    (folder / name).write_text("".join(lines), errors="surrogatepass")
    return _convert(name, told, lambda result: _untouched(rows, pool))


def _untouched(rows: Sequence[Any], pool: bool) -> str | None:
    """Which of the records that were not changed is missing."""
    text = Path("out.jsonl").read_text()
    for number in (0, 2, 3):
        wanted = [f"He bakes {number} loaves."] if pool else list(_texts_of_paper(rows[number]))
        for one in wanted:
            if one not in text:
                return f"'{one}' of record {number} is missing, which was not changed"
    return None


def _texts_of_paper(row: dict[str, Any]) -> Iterator[str]:
    for turn in row["conversations"]:
        yield turn["user"]
        yield from turn["assistant"].values()


def scores(rng: random.Random, folder: Path) -> Case:
    """`aloe metrics`: the levels are the means of the scores."""
    rows: list[Any] = [
        {"case": f"p{p}-q{q}", "profile": f"p{p}", "personality": f"q{q}", "turn": turn, "score": 1.5 + turn % 2}
        for p in range(2) for q in range(2) for turn in (1, 2, 3)
    ]  # fmt: skip
    if rng.random() < 0.3:
        data, told = mutators.mutate_bytes(rng, "".join(json.dumps(row) + "\n" for row in rows).encode())
    elif rng.random() < 0.3:
        rng.shuffle(rows)
        data, told = "".join(mutators.respelled(rng, row) + "\n" for row in rows).encode(), "in another order"
    else:
        rows, told = mutators.mutate_json(rng, rows)
        data = "".join(mutators.json_text(row) + "\n" for row in rows).encode()
    (folder / "scores.jsonl").write_bytes(data)
    check = lambda result: _levels(result, data)  # noqa: E731
    return Case(command("metrics", "scores.jsonl"), "aloe metrics scores.jsonl", told, check=check)


def _levels(result: Result, data: bytes) -> str | None:
    """What is wrong with printed metrics."""

    def refuse(name: str) -> float:
        raise ValueError(name)

    found = json.loads(result.out, parse_constant=refuse)
    rows = strictly_read(data)
    if rows is None:
        return None
    turns = max(row["turn"] for row in rows)
    for turn in range(1, turns + 1):
        given = [row["score"] for row in rows if row["turn"] == turn and row["score"] is not None]
        level = found["AL"][turn - 1] if found["AL"] else None
        if any(isinstance(score, bool | str) for score in given):
            return f"a score of another type was taken: {given}"
        if (
            given
            and level is not None
            and not math.isclose(level, sum(given) / len(given), rel_tol=1e-9, abs_tol=1e-12)
        ):
            return f"AL of turn {turn} is {level}, the mean of {given} is {sum(given) / len(given)}"
    return None


def pools(rng: random.Random, folder: Path) -> Case:
    """`aloe run` of the stage `personas` with pools of one's own, as `personas.jsonl`."""
    for kind, items in (("profile", "facts"), ("personality", "traits")):
        rows: list[Any] = [
            {"id": f"{kind}{k}", "profile": "", "personality": "", kind: f"{kind}{k}",
             items: [{"id": f"i{place}", "text": f"Text {k}-{place}."} for place in range(2)]}
            for k in range(5)
        ]  # fmt: skip
        if kind == "profile":
            text = "".join(json.dumps(row) + "\n" for row in rows).encode()
            changed, told = mutators.mutate_json(rng, rows)
            text = "".join(mutators.json_text(row) + "\n" for row in changed).encode()
            if rng.random() < 0.3:
                text, told = mutators.mutate_bytes(rng, "".join(json.dumps(row) + "\n" for row in rows).encode())
        else:
            text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (folder / f"{kind}.jsonl").write_bytes(text)
    sizes = ("profiles=2", "personalities=2", "pairings=1", "benchmark_profiles=1", "benchmark_personalities=1")
    options = ("source=files", "profile_pool=profile.jsonl", "personality_pool=personality.jsonl", *sizes)
    call = ("run", DEMO, "--workdir=run", "--stages=personas", *(f"--config.personas.{one}" for one in options))
    return Case(
        command(*call), "aloe " + " ".join(call), told, writes=("run",), changes=("run",), check=_personas_written
    )


def _personas_written(result: Result) -> str | None:
    names = ("personas.jsonl", "benchmark.jsonl")
    found = [persona for name in names for persona in read_personas(f"run/personas/{name}")]
    empty = [persona.id for persona in found if not persona.facts or not persona.traits]
    return f"persona '{empty[0]}' has no facts or no traits" if empty else None

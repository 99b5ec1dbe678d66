"""People's labels of a benchmark's replies."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from fuzz import mutators
from fuzz.case import Case, Result, command


def labels(rng: random.Random, folder: Path) -> Case:
    """`aloe metrics --labels`: of a judge that is half a point too kind, whatever else the labels say."""
    rows: list[Any] = [
        {"case": f"p{p}-q{q}", "profile": f"p{p}", "personality": f"q{q}", "turn": turn, "score": 1.5 + turn + p}
        for p in range(2) for q in range(2) for turn in (1, 2, 3)
    ]  # fmt: skip
    (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    marks: list[Any] = [
        {"case": row["case"], "turn": row["turn"], "labeller": f"l{k % 2}", "score": row["score"] - 0.5}
        for k, row in enumerate(rows[:8])
    ]
    if rng.random() < 0.4:
        data, told = mutators.mutate_bytes(rng, "".join(json.dumps(mark) + "\n" for mark in marks).encode())
    else:
        marks, told = mutators.mutate_json(rng, marks)
        data = "".join(mutators.json_text(mark) + "\n" for mark in marks).encode()
    (folder / "labels.jsonl").write_bytes(data)
    call = command("metrics", "scores.jsonl", "--labels=labels.jsonl")
    return Case(call, "aloe metrics scores.jsonl --labels=labels.jsonl", told, check=_numbers)


def _numbers(result: Result) -> str | None:
    """What is wrong with the printed block."""

    def refuse(name: str) -> float:
        raise ValueError(name)

    found = json.loads(result.out, parse_constant=refuse)["corrected"]
    if not 2 <= found["labelled"] <= 12:
        return f"{found['labelled']} of 12 replies count as labelled"
    return None

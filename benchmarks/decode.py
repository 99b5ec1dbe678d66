"""New tokens per second of the engine, beside `transformers.generate` and llama.cpp's server, and what they cost.

    uv run python benchmarks/decode.py                                      # ours alone
    uv run python benchmarks/decode.py --torch-python=ENV/bin/python --llama-python=ENV/bin/python
    uv run python benchmarks/decode.py --parts=dialogues --dialogues=32 --turns=10 --torch-python=ENV/bin/python ...

`pip install torch==2.13.0 transformers==5.23.0 xllamacpp` makes such an environment.

SmolLM2-135M, weights and cache in f32, greedy, replies of exactly 48 tokens. The parts:

- `dialogues`: all dialogues go on turn by turn. The sides get the same ids for everything but the replies, each in a
  process of its own, and work in turns: a round of each after a first one that is not timed. Each round has dialogues
  that no side has seen. `transformers` reads the history again at each turn; llama.cpp's server has a slot with a
  prompt cache for each dialogue, and as many of them as our engine.
- `turns`: the seconds of each turn of the dialogues, with our engine.
- `floor`: a decode step of the engine beside the matrix products of its weights alone, in turns.
- `sequences`, `history`: new tokens per second against the number of sequences in an engine of 64 slots, and of eight
  sequences against what came before.
- `siblings`: prompt tokens computed for a dialogue with four replies per turn and with one.

Seconds are of the wall; CPU seconds are those of all threads of a side, waiting in a loop included. `--cores=1` puts
every side on one core: where other programs run beside it, threads that wait for each other take longer than one alone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from worker import Worker, missing_modules

from aloe_jax import files
from aloe_jax.hub.source import embedded_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.f32_gguf import dequantised

MODEL = "smollm2"
PARTS = ("dialogues", "turns", "floor", "sequences", "history", "siblings")
ROWS = (1, 8, 32)
SEQUENCES = (1, 2, 4, 8, 16, 32, 64)
HISTORY = (128, 512, 1024, 2048)
SHORT = 40  # tokens of a prompt whose length does not matter
PIECE = 64  # at most so many tokens between two replies
SIBLINGS, SIBLING_TURNS = 4, 10
Round = Mapping[str, float]  # seconds and cpu_seconds


def run_dialogues(console: Console, sides: Sequence[Worker], args: argparse.Namespace) -> dict[str, Any]:
    """Rounds of all sides in turns; the first is not counted."""
    ours, context = sides[0], args.turns * (args.tokens + PIECE)
    rounds: dict[str, list[Round]] = {side.name: [] for side in sides}
    for number in range(args.repeats + 1):
        first = number * args.dialogues
        made = ours.ask({"part": "make_dialogues", "first": first, "count": args.dialogues, "turns": args.turns})
        for side in sides:
            question = {"dialogues": made, "tokens": args.tokens}
            extra = {"part": "run_dialogues", "context": context} if side is ours else {}
            found = side.ask(question | extra)
            if number:
                rounds[side.name].append(found)
    new = args.dialogues * args.turns * args.tokens
    table = _table(
        f"{args.dialogues} dialogues x {args.turns} turns x {args.tokens} tokens, median of {args.repeats}",
        ("", "new tokens/s", "least to most", "per CPU second", "ours / it", "CPU ours / it"),
    )
    result: dict[str, Any] = {}
    for name, found in rounds.items():
        rates = [new / one["seconds"] for one in found]
        per_cpu = [new / one["cpu_seconds"] for one in found]
        ratios = {
            key: statistics.median(it[key] / our[key] for our, it in zip(rounds[ours.name], found, strict=True))
            for key in ("seconds", "cpu_seconds")
        }
        table.add_row(
            name,
            f"{statistics.median(rates):.1f}",
            f"{min(rates):.1f} to {max(rates):.1f}",
            f"{statistics.median(per_cpu):.1f}",
            f"{ratios['seconds']:.2f}",
            f"{ratios['cpu_seconds']:.2f}",
        )
        result[name] = {"rounds": found, "new_tokens": new, "ours_over_it": ratios}
    console.print(table)
    return result


def run_floor(console: Console, ours: Worker, args: argparse.Namespace) -> list[dict[str, Any]]:
    """A decode step beside its matrix products, at some numbers of rows, in turns."""
    table = _table(
        "milliseconds of a decode step and of its matrix products",
        ("rows", "step", "products", "step / products", "CPU step / products"),
    )
    result = []
    for rows in ROWS:
        sizes = {"sequences": rows, "slots": rows, "history": SHORT, "context": SHORT + 2 * args.tokens}
        steps: list[Sequence[Round]] = []
        products: list[Round] = []
        for _ in range(args.repeats):
            steps.append(ours.ask({"part": "step", "tokens": args.tokens, **sizes}))
            products.append(ours.ask({"part": "floor", "rows": rows, "tokens": args.tokens // 3}))
        least = {"step": step(steps, args.tokens), "products": _least(products)}
        over = {key: least["step"][key] / least["products"][key] for key in least["step"]}
        cells = (_both(least[name]) for name in ("step", "products"))
        table.add_row(str(rows), *cells, f"{over['seconds']:.2f}", f"{over['cpu_seconds']:.2f}")
        result.append({"rows": rows, **least, "step_over_products": over})
    console.print(table)
    return result


def run_turns(console: Console, ours: Worker, args: argparse.Namespace) -> list[Round]:
    """The time of each turn: it grows by what attention over the longer history takes, not by reading it again."""
    rounds, context = [], args.turns * (args.tokens + PIECE)
    for number in range(args.repeats + 1):
        first = number * args.dialogues
        made = ours.ask({"part": "make_dialogues", "first": first, "count": args.dialogues, "turns": args.turns})
        rounds.append(ours.ask({"part": "turns", "dialogues": made, "tokens": args.tokens, "context": context}))
    turns = [_least(turn) for turn in zip(*rounds[1:], strict=True)]
    table = _table(f"{args.dialogues} dialogues x {args.tokens} tokens", ("turn", "seconds", "CPU seconds"))
    for number, turn in enumerate(turns, start=1):
        table.add_row(str(number), f"{turn['seconds']:.1f}", f"{turn['cpu_seconds']:.1f}")
    console.print(table)
    return turns


def step(rounds: Sequence[Sequence[Round]], tokens: int) -> Round:
    """One decode step, from rounds of replies of one token and of `tokens + 1`: the difference of the least times."""
    one, more = (_least(side) for side in zip(*rounds, strict=True))
    return {key: (more[key] - one[key]) / tokens for key in one}


def _least(rounds: Sequence[Round]) -> Round:
    return {key: min(one[key] for one in rounds) for key in rounds[0]}


def run_rates(
    console: Console, ours: Worker, args: argparse.Namespace, title: str, sizes: Sequence[Mapping[str, int]]
) -> list[dict[str, Any]]:
    """New tokens per second at some sizes, of which the first key is the column."""
    found: list[list[Sequence[Round]]] = [[] for _ in sizes]
    for _ in range(args.repeats):
        for one, size in zip(found, sizes, strict=True):
            one.append(ours.ask({"part": "step", "tokens": args.tokens, **size}))
    table = _table(title, (next(iter(sizes[0])), "new tokens/s", "per CPU second"))
    result = []
    for one, size in zip(found, sizes, strict=True):
        rates = {key: size["sequences"] / seconds for key, seconds in step(one, args.tokens).items()}
        table.add_row(str(next(iter(size.values()))), f"{rates['seconds']:.1f}", f"{rates['cpu_seconds']:.1f}")
        result.append({**size, "per_second": rates["seconds"], "per_cpu_second": rates["cpu_seconds"]})
    console.print(table)
    return result


def run_siblings(console: Console, ours: Worker, args: argparse.Namespace) -> dict[str, int]:
    """Prompt tokens computed with one reply per turn and with several."""
    context = SIBLING_TURNS * (args.tokens + PIECE)
    result: dict[str, int] = {}
    for first, siblings in enumerate((1, SIBLINGS)):
        question = {"part": "siblings", "siblings": siblings, "turns": SIBLING_TURNS, "tokens": args.tokens}
        result[str(siblings)] = ours.ask(question | {"context": context, "first": first})
    one, several = result.values()
    console.print(
        f"prompt tokens computed in {SIBLING_TURNS} turns: one reply per turn {one:,}, {SIBLINGS} replies "
        f"{several:,}, {several / one:.2f} times"
    )
    return result


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _both(one: Round) -> str:
    return f"{1000 * one['seconds']:.0f} (CPU {1000 * one['cpu_seconds']:.0f})"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time decoding, beside transformers and llama.cpp where present.")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"what to measure (default {','.join(PARTS)})")
    parser.add_argument("--dialogues", type=int, default=8, help="parallel dialogues (default 8)")
    parser.add_argument("--turns", type=int, default=4, help="turns of each (default 4)")
    parser.add_argument("--tokens", type=int, default=48, help="new tokens per reply (default 48)")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds (default 3)")
    parser.add_argument("--cores", type=int, help="cores that each side may use (default: all)")
    parser.add_argument("--torch-python", help="interpreter of an environment that has torch and transformers")
    parser.add_argument("--llama-python", help="interpreter of an environment that has xllamacpp")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    found = parser.parse_args()
    found.parts = found.parts.split(",")
    for name in ("dialogues", "turns", "tokens", "repeats", "cores"):
        if getattr(found, name) is not None and getattr(found, name) < 1:
            parser.error(f"--{name} is {getattr(found, name)}; expected at least 1")
    if unknown := set(found.parts) - set(PARTS):
        parser.error(f"--parts has {sorted(unknown)[0]}; expected some of {', '.join(PARTS)}")
    return found


def others(console: Console, stack: contextlib.ExitStack, args: argparse.Namespace, model: str) -> list[Worker]:
    """The sides whose interpreter was given and has what they need."""
    context = args.turns * (args.tokens + PIECE)
    sides = []
    for name, python, modules in (
        ("transformers", args.torch_python, ("torch", "transformers")),
        ("llama.cpp", args.llama_python, ("xllamacpp",)),
    ):
        if python is None:
            continue
        if lacking := missing_modules(python, modules):
            console.print(f"{python} has no {', '.join(lacking)}: {name} is left out", soft_wrap=True)
        elif name == "transformers":
            sides.append(stack.enter_context(Worker(name, python, "decode_transformers.py", model)))
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            weights = dequantised(embedded_file(MODEL), folder / "f32.gguf")
            setup = (str(weights), str(args.dialogues), str(context))
            sides.append(stack.enter_context(Worker(name, python, "decode_llama_cpp.py", *setup)))
    return sides


def main() -> None:
    """Measure and print."""
    args, console = arguments(), Console(width=None if sys.stdout.isatty() else 110)
    if args.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])  # workers inherit it
    result: dict[str, Any] = {"cores": len(os.sched_getaffinity(0))}
    slots = {"slots": max(SEQUENCES), "history": SHORT, "context": SHORT + 2 * args.tokens}
    counts = [{"sequences": count, **slots} for count in SEQUENCES]
    context = max(HISTORY) + 2 * args.tokens
    lengths = [{"history": length, "sequences": 8, "slots": 8, "context": context} for length in HISTORY]
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(Worker("aloe_jax", sys.executable, "decode_ours.py", f"embedded:{MODEL}"))
        for part in args.parts:
            if part == "dialogues":
                with contextlib.ExitStack() as beside:
                    sides = [ours, *others(console, beside, args, ours.ready["folder"])]
                    result[part] = run_dialogues(console, sides, args)
            elif part == "turns":
                result[part] = run_turns(console, ours, args)
            elif part == "floor":
                result[part] = run_floor(console, ours, args)
            elif part == "sequences":
                result[part] = run_rates(console, ours, args, "engine of 64 slots", counts)
            elif part == "history":
                result[part] = run_rates(console, ours, args, "eight sequences", lengths)
            else:
                result[part] = run_siblings(console, ours, args)
            ours.ask({"part": "release"})
    if args.json:
        files.write_json(args.json, result)


if __name__ == "__main__":
    main()

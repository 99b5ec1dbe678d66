"""Config files and overrides, and run directories: manifests, logs, ledgers and status files."""

from __future__ import annotations

import ast
import asyncio
import functools
import json
import random
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from aloe_jax.cli.arguments import STAGES
from aloe_jax.run.config import load_config
from eval.report import write_report
from eval.viewer.index import TreeIndex
from fuzz import mutators
from fuzz.case import Case, Result, aloe, command, function
from helpers import grow_process, synthetic_run
from helpers.aloe_command import ROOT
from helpers.fake_server import FakeServer, serving

DEMO = ROOT / "configs/demo.py"
KEYS = (
    "seed", "stages", "model.source", "compute.dtype", "serve.slots", "conversations.trees", "conversations.min_margin",
    "roles.judge.player", "roles.responder.temperature", "tree.guards", "dataset.max_path", "dataset.row.tokens",
    "sft.learning_rate", "sft.turn_weights", "preference.beta", "preference.objective", "benchmark.models", "mesh.fsdp",
    "personas", "dataset.sources", "unknown", "sft.lr", "benchmark.models[0]", "sft..batch", "", "sft.batch.size",
)  # fmt: skip
VALUES = (
    "1", "0", "-1", "1.5", "1e400", "nan", "inf", "True", "None", "", "''", "x", "(1,2)", "('base',)", "base,sft",
    "{'a': 1}", "2**3", "__import__('os')", "9" * 5_000, "(" * 3_000, "0x10", "1_000", "é", "'unclosed", "=1",
)  # fmt: skip


def config(rng: random.Random, folder: Path) -> Case:
    """`aloe config` with odd overrides or a changed config file."""
    file, told = folder / "config.py", "overrides"
    text = DEMO.read_text()
    if rng.random() < 0.5:
        data, told = mutators.mutate_bytes(rng, text.encode())
        file.write_bytes(data)
    else:
        file.write_text(text)
    overrides = [f"--config.{rng.choice(KEYS)}={rng.choice(VALUES)}" for _ in range(rng.choice((0, 1, 1, 2)))]
    call = ("config", f"--config=config.py{rng.choice(('', ':debug', ':debug', ':x', ':'))}", *overrides)
    return Case(
        command(*call), " ".join(("aloe", *call))[:300], f"{told}, {[one[:60] for one in overrides]}",
        changes=("__pycache__",), check=lambda result: _overridden(call, overrides),
    )  # fmt: skip


def _overridden(call: tuple[str, ...], overrides: list[str]) -> str | None:
    """What is wrong with the value of the last override of a plain number."""
    values = load_config([argument for argument in call if argument.startswith("--config")])
    for override in overrides[-1:]:
        name, _, text = override.removeprefix("--config.").partition("=")
        found: Any = values
        for key in name.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        try:
            wanted = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        numbers = isinstance(wanted, int | float) and isinstance(found, int | float)
        if numbers and not isinstance(wanted, bool) and found != wanted:
            return f"{name} is {found} where {text} was given"
    return None


@functools.cache
def _synthetic() -> Path:
    """A finished run with made-up figures."""
    return synthetic_run.write_run(Path(tempfile.mkdtemp(prefix="aloe-fuzz-run-")) / "run")


@functools.cache
def _grown() -> Path:
    """The ledgers of conversations that a fake server grew."""
    folder = Path(tempfile.mkdtemp(prefix="aloe-fuzz-grown-")) / "grown"

    async def grow() -> None:
        async with serving(FakeServer()) as url:
            await grow_process.grow_all(url, folder, trees=2)

    asyncio.run(grow())
    return folder


def mutate_file(rng: random.Random, path: Path) -> str:
    """Change a JSON or JSON-lines file in place; returns the change in words."""
    data = path.read_bytes()
    if rng.random() < 0.3 or path.suffix not in (".json", ".jsonl"):
        data, told = mutators.mutate_bytes(rng, data)
    elif path.suffix == ".json":
        value, told = mutators.mutate_json(rng, json.loads(data))
        data = mutators.json_text(value).encode("utf-8", "surrogatepass")
    else:
        rows = data.decode().splitlines()
        place = rng.randrange(len(rows))
        value, told = mutators.mutate_json(rng, json.loads(rows[place]))
        rows[place] = mutators.json_text(value, ensure_ascii=False)
        data = "".join(row + "\n" for row in rows).encode("utf-8", "surrogatepass")
    path.write_bytes(data)
    return f"{path.name}: {told}"


def _mutated_run(rng: random.Random, folder: Path, only: str = "") -> str:
    """A copy of the synthetic run in `folder`/run with one changed file."""
    shutil.copytree(_synthetic(), folder / "run")
    if not (folder / "run/conversations/status.json").exists():
        (folder / "run/conversations/status.json").write_text(json.dumps(STATUS))
    held_out = folder / "run/personas/benchmark.jsonl"
    shutil.copy(folder / "run/personas/personas.jsonl", held_out)
    (folder / "run/personas/pool.json").write_text(json.dumps(POOLS))
    files = sorted(path for path in (folder / "run").rglob("*") if path.suffix in (".json", ".jsonl"))
    return mutate_file(rng, rng.choice([path for path in files if re.search(only, str(path.relative_to(folder)))]))


STATUS: dict[str, Any] = {
    "time": 1e9, "seconds": 60.0, "left": 30.0, "accepted": 3, "target": 6, "given_up": 0, "under_way": 1,
    "turns": {"1": 1}, "stored": 9, "rejects": {"empty": 2}, "cost": 0.5,
    "roles": {"judge": {"model": "m", "calls": 3, "from_store": 0, "tokens_in": 9, "tokens_out": 9,
                        "calls_a_second": 0.5, "tokens_a_second": 2.0, "seconds_a_call": 0.1}},
    "endpoints": [{"address": "http://a/v1", "model": "m", "under_way": 0, "limit": 8, "answered": 3, "retries": 0,
                   "down": False, "waiting": 0}],
    "judge": {"compared": 4, "inconclusive": 1, "unreadable": 0},
}  # fmt: skip


_POOL: dict[str, Any] = {
    "entries": 9, "origins": {"seed": 4, "generated": 5, "file": 0}, "stopped": "rounds", "rounds": 3, "threshold": 0.5,
    "nearest": {"q50": 0.4, "max": 0.5}, "seeds_nearest": {"q50": 0.3}, "rejects": {"near": 2},
}  # fmt: skip
_GRAMS: dict[str, Any] = {"overlapping": 0, "rate": 0.0, "examples": []}
_OVERLAP: dict[str, Any] = {
    "train": 6, "benchmark": 3, "shared_ids": [], "grams_13": _GRAMS, "grams_8": _GRAMS,
    "cosine": {"distribution": {"q50": 0.2, "max": 0.3}, "nearest": []},
}  # fmt: skip
POOLS = {"profiles": _POOL, "personalities": _POOL, "contamination": {"profiles": _OVERLAP}}


def status(rng: random.Random, folder: Path) -> Case:
    """`aloe status` of a run with a changed file."""
    told = _mutated_run(rng, folder, "config.json|manifest.json|status.json|ledger")
    return Case(command("status", "run"), "aloe status run", told)


def report(rng: random.Random, folder: Path) -> Case:
    """The report of a run with a changed file."""
    told = _mutated_run(rng, folder)
    call = function(lambda: write_report("run", stages=STAGES))
    return Case(call, "the stage report of run", told, writes=("run/report",), check=_page)


def compare(rng: random.Random, folder: Path) -> Case:
    """`aloe compare` of the results of a run with a changed file."""
    told = _mutated_run(rng, folder, "benchmark/|config.json")
    return Case(command("compare", "run", "--json"), "aloe compare run --json", told)


def _page(result: Result) -> str | None:
    text = re.sub(
        r'(?s)<table class="config">.*?</table>', "", Path("run/report/index.html").read_text()
    )  # as it is given
    found = re.search(r">\s*(nan|inf|NaN|Infinity|None)\s*<", text)
    return f"the page shows '{found[1]}'" if found else None


def publish(rng: random.Random, folder: Path) -> Case:
    """`aloe convert` of a run with a changed file."""
    told = _mutated_run(rng, folder, "config.json|conversations/|personas/")
    call = ("convert", "run", "--out=published")
    return Case(command(*call), "aloe " + " ".join(call), told, writes=("published",))


def viewer(rng: random.Random, folder: Path) -> Case:
    """The viewer's index of a run with changed trees: a broken line is counted, never an end of the page."""
    told = _mutated_run(rng, folder, "conversations/trees|personas/personas")

    def read() -> None:
        index = TreeIndex(folder / "run")
        for summary in index.part(0, 100).trees:
            index.tree(summary.line)

    return Case(function(read), "aloe view run", told)


@functools.cache
def _begun() -> Path:
    """A run with the finished stage `personas`."""
    folder = Path(tempfile.mkdtemp(prefix="aloe-fuzz-begun-")) / "run"
    result = aloe(_stage_personas(str(folder)))
    assert result.code == 0, result
    return folder


def _stage_personas(workdir: str) -> tuple[str, ...]:
    return ("run", f"--config={DEMO}:debug", f"--workdir={workdir}", "--stages=personas")


def resume(rng: random.Random, folder: Path) -> Case:
    """`aloe run` that finds a changed file of a finished stage."""
    shutil.copytree(_begun(), folder / "run")
    files = sorted(path for path in (folder / "run").rglob("*") if path.suffix in (".json", ".jsonl"))
    files += [path for path in files if path.name in ("manifest.json", "config.json")] * 2
    told = mutate_file(rng, rng.choice(files))
    call = _stage_personas("run")
    return Case(command(*call), "aloe " + " ".join(call), told, changes=("run",))


def store(rng: random.Random, folder: Path) -> Case:
    """Growing on from changed ledgers: the answers that were paid for are read or refused, never lost."""
    shutil.copytree(_grown(), folder / "grown")
    files = sorted(path for path in (folder / "grown").iterdir() if path.suffix == ".jsonl" and path.stat().st_size)
    told = mutate_file(rng, rng.choice(files))

    async def grow() -> None:
        async with serving(FakeServer()) as url:
            await grow_process.grow_all(url, Path("grown"), trees=2, retries=3)

    return Case(function(lambda: asyncio.run(grow())), "growing two conversations", told, changes=("grown",))

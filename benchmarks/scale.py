"""What data generation and training on one host cost in time and memory as trees, personas, calls and turns grow.

    uv run python benchmarks/scale.py                                  # every part, some minutes of computing
    uv run python benchmarks/scale.py --parts=dataset,turns --largest  # also the largest sizes, 4 GB of disk and memory

Each size is a process of its own. Seconds are its processor time (several threads add up), memory is the growth of its
largest resident set after the imports, so other work on the machine changes neither much. The trees have ten turns of
two replies with the words of ten_turns.py in random order, beliefs, scores and the ids of calls; nothing is compared in
meaning, so vectors of personas are random. docs/scale.md reads the figures.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from etils import epath
from rich.console import Console
from rich.table import Table
from scale_samples import call_record, entries, trees, unit_vectors

from aloe_jax.data.builder import FragmentSource
from aloe_jax.data.dataset_writer import DatasetWriter
from aloe_jax.data.mixture import Source
from aloe_jax.data.plan import pack_plan
from aloe_jax.formats.convert import read_conversations, stream_conversations
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.load import load_params
from aloe_jax.hub.source import resolve_model
from aloe_jax.train.forward import Compute
from aloe_jax.train.score import score_trees, whole_tries
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.row import Capacity
from aloe_jax.tree.schema import read_personas, write_records
from aloe_jax.tree.template import ChatFormat
from aloe_jax.tree.trie import build_trie
from data_gen.calls.store import Store
from data_gen.game.scheduler import put_in_order
from data_gen.personas.filter import Pool, nearest_neighbours
from data_gen.personas.split import personas, split, spread
from eval.viewer.index import TreeIndex

Laps = Iterator[tuple[str, str]]  # what was done since the one before, and a note
MODEL = "embedded:smollm2"
RANDOM = "random:llama"  # with the tokenizer of MODEL
ROW = Capacity(tokens=8192, targets=8192, replies=512, pairs=512)
CONTEXTS = (32768, 8192, 4096)
OFFERS = 50  # proposals timed against a full pool
PERSONALITIES, PAIRINGS, HELD_OUT = 71, 10, 20  # for 331 profiles; paper, section 1


def read(size: int, folder: Path) -> Laps:
    """A trees.jsonl: written, read one tree at a time, sorted, and read as a whole."""
    path = folder / "trees.jsonl"
    write_records(path, trees(size))
    yield "write", f"{path.stat().st_size / 1e6:,.0f} MB"
    assert sum(1 for _ in stream_conversations(path)) == size
    yield "read, one at a time", ""
    put_in_order(path)
    yield "put in order", ""
    assert len(read_conversations(path).trees) == size
    yield "read as a whole", ""


def dataset(size: int, folder: Path) -> Laps:
    """The stage `dataset`, and opening what it wrote, as every training does on every host."""
    write_records(folder / "trees.jsonl", trees(size))
    yield "write", ""
    chat = ChatFormat.load(resolve_model(MODEL))
    source = Source("trees", (), 1.0, 1.0)
    writer = DatasetWriter((source,), folder / "trees.jsonl", chat, ROW, ROW.tokens, 1 << 17, lambda done, total: None)
    (folder / "dataset").mkdir()
    writer.write(epath.Path(folder / "dataset"))
    stored = sum(path.stat().st_size for path in (folder / "dataset").rglob("*.array_record*"))
    yield "stage dataset", f"{stored / 1e6:,.0f} MB"
    opened = FragmentSource(folder / "dataset")
    yield "open the dataset", f"{len(opened):,} fragments"


def plan(size: int, folder: Path) -> Laps:
    """The pack plan of one epoch of preference training with 910 pairs per step, and the reference log-probabilities of
    all replies in memory. Conversations have the sizes of ten-turn ones."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(1386, 180, size).clip(700, 2400).astype(int)
    sizes = np.column_stack([tokens, tokens // 2, np.full(size, 20), np.full(size, 10)])
    yield "sizes", ""
    made = pack_plan(sizes, np.arange(size), ROW, batch=910, unit="pairs", seed=0, epochs=1)
    yield "pack plan", f"{len(made.steps):,} steps, {made.fill(sizes, ROW):.0%} full"
    reference = {(tree, node): -30.5 * node for tree in range(size) for node in range(20)}
    yield "reference", f"{len(reference):,} replies"


def pool(size: int, folder: Path) -> Laps:
    """A pool of `size` profiles: proposals against it, its nearest neighbours, held-out entries, pairings and order."""
    found, vectors = entries(size + OFFERS), unit_vectors(size + OFFERS)
    yield "entries", ""
    grown = Pool(threshold=2.0)
    for entry, vector in zip(found[:size], vectors[:size], strict=True):
        grown.add(entry, vector)
    yield "fill the pool", ""
    for entry, vector in zip(found[size:], vectors[size:], strict=True):
        grown.offer(entry, vector)
    yield f"{OFFERS} proposals", ""
    nearest_neighbours(vectors[:size])
    yield "nearest neighbours", ""
    few = max(HELD_OUT, size // 166)
    split(found[: 50 * few], vectors[: 50 * few], few, seed=0)
    yield "split", f"{few} of {50 * few:,} held out"
    styles = entries(max(PAIRINGS, size * PERSONALITIES // 331), kind="personality")
    paired = personas(found[:size], styles, PAIRINGS, seed=0)
    yield "pairings", f"{len(styles):,} personalities, {len(paired):,} personas"
    spread(paired, seed=0)
    yield "order of candidates", ""
    write_records(folder / "personas.jsonl", paired)
    yield "write personas", f"{(folder / 'personas.jsonl').stat().st_size / 1e6:,.0f} MB"
    assert len(read_personas(folder / "personas.jsonl")) == len(paired)
    yield "read personas", ""


def calls(size: int, folder: Path) -> Laps:
    """A ledger of stored calls: written, and opened again by a run that resumes."""
    with Store(folder / "calls") as store:
        for number in range(size):
            store.add_call(*call_record(number))
    yield "store calls", f"{(folder / 'calls/calls.jsonl').stat().st_size / 1e6:,.0f} MB"
    with Store(folder / "calls") as store:
        assert store.calls == size
        yield "open again", ""


def turns(size: int, folder: Path) -> Laps:
    """One conversation of `size` turns, in rows of 8,192 tokens (or of its length), under the models' contexts."""
    chat, (tree,) = ChatFormat.load(resolve_model(MODEL)), trees(1, size)
    yield "load the tokenizer", ""
    for context in CONTEXTS:
        trie = build_trie(tree, chat, context)
        rows = fragments(tree, trie, Capacity(max(ROW.tokens, context), 1 << 20, 1 << 12, 1 << 12), 0)
        tokens = sum(len(row.tokens) for row in rows)
        note = f"{tokens:,} tokens in {len(rows)} rows, {trie.sharing:.1f} x shared, {trie.turns_cut} turns cut"
        yield f"context {context:,}", note


def score(size: int, folder: Path) -> Laps:
    """`aloe score` of one conversation of `size` turns under a tiny random model with a context for all of it: replies
    beyond what a row has place for go into later rows, which repeat their history."""
    source, (tree,) = resolve_model(RANDOM), trees(1, size)
    config, chat = read_chat_model(source)
    config = replace(config, context=CONTEXTS[0])
    params = load_params(source, config)
    yield "load the model", f"{config.layers} layers of width {config.dim}"
    tries = whole_tries([tree], chat, config)
    yield "tokens", f"{tries[0].tree_tokens:,}"
    found = score_trees(params, config, [tree], tries, Compute())
    assert all(each.log_prob < 0 for each in found)
    yield "score", f"{len(found)} replies"


def viewer(size: int, folder: Path) -> Laps:
    """The index of `aloe view`, and the list that the page gets."""
    path = folder / "trees.jsonl"
    write_records(path, trees(size))
    yield "write", ""
    index = TreeIndex(path)
    part = index.part()
    assert len(part.trees) == size
    yield "index", ""
    text = json.dumps([vars(one) for one in part.trees])
    yield "list for the page", f"{len(text) / 1e6:,.1f} MB"


PARTS: Mapping[str, tuple[Callable[[int, Path], Laps], tuple[int, ...], int]] = {  # sizes, and the largest
    "read": (read, (300, 3000), 30_000),
    "dataset": (dataset, (300,), 3000),
    "plan": (plan, (3000, 30_000), 300_000),
    "pool": (pool, (331, 3310), 33_100),
    "calls": (calls, (20_000,), 200_000),
    "turns": (turns, (10, 50), 200),
    "score": (score, (10, 50), 200),
    "viewer": (viewer, (300, 3000), 30_000),
}


def measure(part: str, size: int) -> None:
    """Print a JSON line per lap of a part: what, processor seconds, MiB that the process grew by, note."""
    before, clock = largest(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="aloe-scale-") as folder:
        for what, note in PARTS[part][0](size, Path(folder)):
            print(json.dumps([what, time.process_time() - clock, largest() - before, note]), flush=True)
            clock = time.process_time()


def largest() -> float:
    """The largest resident set of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time and memory as trees, personas, calls and turns grow.")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated (default: all)")
    parser.add_argument("--largest", action="store_true", help="also the largest size of each part")
    parser.add_argument("--measure", nargs=2, metavar=("PART", "SIZE"), help=argparse.SUPPRESS)
    args, console = parser.parse_args(), Console(width=110)
    if args.measure:
        measure(args.measure[0], int(args.measure[1]))
        return
    table = Table("part", "size", "step", "seconds", "MiB", "")
    for part in args.parts.split(","):
        _, sizes, most = PARTS[part]
        for size in (*sizes, *([most] if args.largest else [])):
            command = [sys.executable, __file__, "--measure", part, str(size)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            for what, seconds, grown, note in map(json.loads, done.stdout.splitlines()):
                table.add_row(part, f"{size:,}", what, f"{seconds:.2f}", f"{grown:,.0f}", note)
    console.print(table)


if __name__ == "__main__":
    main()

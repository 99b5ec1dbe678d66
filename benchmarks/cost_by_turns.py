"""How the cost of a conversation grows with its turns: as one row, and beside it as one sequence per reply.

    uv run python benchmarks/cost_by_turns.py              # 2, 5, 10 and 20 turns, SmolLM2-135M, f32
    uv run python benchmarks/cost_by_turns.py --unshared   # and one sequence per reply, once each, by the same code

A reference pass, a DPO gradient and an AdamW update on the conversation of ten_turns.py, which starts again after its
tenth turn. Programs are compiled ahead and the smallest size runs once untimed; then sizes are timed in turn,
`--repeats` times. The exponent is the slope of the least-squares line through the logarithms of turns and of median
seconds. With one sequence per reply, each pair is in a row of its own, its two paths side by side and nothing shared
between them, as in a trainer that reads prompt, chosen and rejected only; the gradients of the rows are added up to one
update.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from preference_step_ours import MODEL, TRAINING, one_row, row_length
from rich.console import Console
from rich.progress import track
from rich.table import Table
from ten_turns import conversation

from aloe_jax.hub.load import load_model
from aloe_jax.hub.source import resolve_model
from aloe_jax.models.decoder import Params
from aloe_jax.train.forward import Compute, make_score
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.step import make_gradient
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.pack import pack, stack
from aloe_jax.tree.row import Capacity, TreeRow
from aloe_jax.tree.schema import Conversation, Node
from aloe_jax.tree.template import ChatFormat
from aloe_jax.tree.trie import build_trie

TURNS = (2, 5, 10, 20)
STEP = 128  # rows of pairs are padded to multiples of it, so that fewer programs are compiled


@dataclass
class Case:
    """A conversation in one layout, and what its steps took."""

    turns: int
    tokens: int
    batches: Sequence[TreeRow]  # [1, T] each; their gradients are added up
    seconds: list[float] = field(default_factory=list)


def shared(turns: int, chat: ChatFormat) -> Case:
    """The conversation as one row."""
    tree = conversation(turns)
    trie = build_trie(tree, chat)
    return Case(turns, trie.tree_tokens, [one_row(tree, trie)])


def unshared(turns: int, chat: ChatFormat) -> Case:
    """One row per pair: the path of the chosen and that of the rejected reply, one after the other, with the reply at
    the end of each as its only target."""
    tree, total, rows = conversation(turns), 0, []
    for preference in tree.preferences:
        two = [_path(tree, leaf, chat) for leaf in (preference.chosen, preference.rejected)]
        replies = [len(part.length) for part in two]
        tokens, targets = (sum(part.sizes[column] for part in two) for column in (0, 1))
        total += tokens
        size = (row_length(-(-tokens // STEP) * STEP), -(-targets // STEP) * STEP, 2 * max(TURNS), 1)
        ends, one = np.array([[replies[0] - 1, sum(replies) - 1]]), np.ones(1, np.float32)
        row = pack(two, Capacity(*size)).replace(pairs=ends, pair_weight=one, pair_margin=one)
        rows.append(jax.tree.map(jnp.asarray, stack([row])))
    return Case(turns, total, rows)


def _path(tree: Conversation, leaf: str, chat: ChatFormat) -> TreeRow:
    """The path to a reply as a conversation of its own."""
    node_of = {node.id: node for node in tree.nodes}
    nodes: list[Node] = []
    name: str | None = leaf
    while name is not None:
        nodes.insert(0, node_of[name])
        name = nodes[0].parent
    alone = Conversation(id=leaf, nodes=tuple(nodes))
    (part,) = fragments(alone, build_trie(alone, chat), Capacity(1 << 20, 1 << 20, 1 << 10, 1 << 10), 0)
    last = part.reply == part.reply.max()
    return part.replace(**{name: getattr(part, name)[last] for name in ("source", "target", "reply", "weight")})


def exponent(turns: Sequence[int], amounts: Sequence[float]) -> float:
    """b of amount = a turns^b, by least squares of the logarithms."""
    return float(np.polyfit(np.log(turns), np.log(amounts), 1)[0])


def run(cases: Sequence[Case], step: Callable[[Case], None], repeats: int, console: Console) -> None:
    """Time all cases one after the other, `repeats` times, after an untimed step of the first."""
    step(cases[0])
    for _ in range(repeats):
        for case in cases:
            began = time.perf_counter()
            step(case)
            case.seconds.append(time.perf_counter() - began)
            console.print(f"{case.turns} turns, {case.tokens:,} tokens: {case.seconds[-1]:.2f} s")


def show(title: str, cases: Sequence[Case], console: Console) -> None:
    """A table of medians, and the exponent."""
    table = Table(title=title)
    for column in ("turns", "tokens", "seconds", "least to most"):
        table.add_column(column, justify="right")
    for case in cases:
        spread = f"{min(case.seconds):.1f} to {max(case.seconds):.1f}"
        table.add_row(str(case.turns), f"{case.tokens:,}", f"{statistics.median(case.seconds):.1f}", spread)
    console.print(table)
    turns = [case.turns for case in cases]
    by_time = exponent(turns, [statistics.median(case.seconds) for case in cases])
    by_tokens = exponent(turns, [case.tokens for case in cases])
    console.print(f"seconds grow as turns^{by_time:.2f}, tokens as turns^{by_tokens:.2f}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Cost of a DPO step against the turns of its conversation.")
    parser.add_argument("--turns", type=int, nargs="+", default=TURNS, help="sizes to time (default 2 5 10 20)")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps of each size (default 3)")
    parser.add_argument("--unshared", action="store_true", help="also time a sequence a reply, for some half an hour")
    args, console = parser.parse_args(), Console()
    source = resolve_model(MODEL)
    chat = ChatFormat.load(source)
    model, reference = load_model(source)
    compute, optimizer = Compute(), make_optimizer(TRAINING, 1)
    score: Any = make_score(model, compute)
    gradient = jax.jit(make_gradient(model, TRAINING, compute))
    add = jax.jit(lambda left, right: jax.tree.map(jnp.add, left, right), donate_argnums=0)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Params, state: Any, grads: Params) -> tuple[Params, Any]:
        changes, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, changes), state

    params = jax.tree.map(jnp.copy, reference)
    state = optimizer.init(params)

    programs: dict[tuple[int, int], tuple[Any, Any]] = {}  # by tokens and targets of a row
    one = jnp.asarray(1)

    def micro_batch(row: TreeRow) -> TreeRow:
        return jax.tree.map(lambda leaf: leaf[None], row)

    def prepare(cases: Sequence[Case]) -> Sequence[Case]:
        rows = [row for case in cases for row in case.batches]
        for row in track(rows, "compiling", console=console, transient=True):
            if (shape := (row.tokens.size, row.target.size)) not in programs:
                lowered = score.lower(reference, row), gradient.lower(params, {}, micro_batch(row), one)
                programs[shape] = lowered[0].compile(), lowered[1].compile()
        return cases

    def step(case: Case) -> None:
        nonlocal params, state
        grads = None
        for row in case.batches:
            score_row, gradient_row = programs[row.tokens.size, row.target.size]
            known = row.replace(reference=score_row(reference, row))
            _, part = gradient_row(params, {}, micro_batch(known), one)
            grads = part if grads is None else add(grads, part)
        params, state = jax.block_until_ready(update(params, state, grads))

    cases = prepare([shared(turns, chat) for turns in args.turns])
    run(cases, step, args.repeats, console)
    show("one row a conversation", cases, console)
    if args.unshared:
        cases = prepare([unshared(turns, chat) for turns in args.turns])
        run(cases, step, 1, console)
        show("a sequence a reply", cases, console)


if __name__ == "__main__":
    main()

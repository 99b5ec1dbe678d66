"""What a rollout tree costs as one row, against one sequence per leaf and one per reply: tokens, seconds, memory.

    uv run python benchmarks/online_cost.py                                       # SmolLM2-135M, f32
    uv run python benchmarks/online_cost.py --model=twin                          # a model of half a million parameters
    uv run python benchmarks/online_cost.py --trl-python=ENV/bin/python           # and the tokens of TRL's prefix trie

Trees of ten turns are rolled out by the scripted stochastic policy, with three siblings at half of the turns and one
future of two turns, one towards the end, for each. The update is measured that they are for: the pass of the policy
over them, and the gradient of `policy_gradient`, in f32, one row per micro-batch. The layouts are

- `tree`: every token once;
- `leaves`: the path to each last reply, in which a reply has its advantage over the number of these paths, so that the
  sum of gradients is the same;
- `replies`: the path to each reply that is learned from, which alone is a target in it.

Paths are packed into rows of the tree's length, without padding between them, which is the best case for them. All
gradients are compared. Replies are learned from by two methods: `leaf`, in which every reply has an advantage, and
`siblings`, in which only compared replies have one, so the futures are left out of the row.

Each layout runs in a process of its own, one after the other. Memory is the growth of the resident memory during the
update, above the model's parameters. `pip install torch==2.13.0 trl==1.16.0 transformers==5.23.0` makes an environment
for TRL's side, which only packs token ids.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from credit import seat
from rich.console import Console
from rich.table import Table
from worker import Worker, missing_modules

from aloe_jax.tree.schema import Conversation, dump
from data_gen.online.methods import METHODS
from data_gen.online.rewards import rewarded
from data_gen.online.rollout import roll_out
from data_gen.online.settings import RolloutSettings
from data_gen.world.personas import scripted_personas
from data_gen.world.stochastic import StochasticResponder

LAYOUTS = ("tree", "leaves", "replies")
LEARNED = ("leaf", "siblings")
# Sums of hundreds of tokens in f32, in another order.
TOLERANCE = 1e-3
MODULES = ("torch", "transformers", "trl")


@dataclass(frozen=True)
class Cost:
    """What a layout takes. `gradient` has the length of each parameter's gradient and its projection on a random
    direction."""

    sequences: int
    tokens: int
    rows: int
    cpu_seconds: float
    peak_bytes: int
    gradient: Sequence[tuple[float, float]]


def rolled_out(count: int, seed: int, learned: Sequence[str]) -> Iterator[tuple[str, list[Conversation]]]:
    """The trees with the advantages of each of these methods."""
    settings = RolloutSettings(futures=1)
    personas = scripted_personas("train", count, count, seed=seed, pairings=1)[:count]
    seats = [seat(persona, lambda user: StochasticResponder(user, 0.5)) for persona in personas]
    trees = [rewarded(tree, settings) for tree in asyncio.run(roll_out(seats, settings, seed))]
    for name in learned:
        advantages = METHODS[name].advantages(trees, settings, None)
        yield name, [_credited(*each) for each in zip(trees, advantages, strict=True)]


def _credited(tree: Conversation, advantages: dict[str, float]) -> Conversation:
    nodes = (node.model_copy(update={"advantage": advantages.get(node.id)}) for node in tree.nodes)
    return tree.model_copy(update={"nodes": tuple(nodes)})


def cost_of(layout: str, model: str, trees: Path, repeats: int) -> Cost:
    """What a layout of the trees in that file takes, in a process of its own."""
    with Worker(layout, sys.executable, "online_cost_ours.py", layout, model, str(trees)) as worker:
        steps = [worker.ask("update") for _ in range(repeats + 1)]
        seconds = statistics.median(step["cpu_seconds"] for step in steps[1:])  # the first one warms up
        peak = max(step["peak_bytes"] for step in steps)
        return Cost(**worker.ready, cpu_seconds=seconds, peak_bytes=peak, gradient=steps[0]["gradient"])


def difference(one: Cost, other: Cost) -> float:
    """The largest difference of their gradients, in either figure, over the length of the other one's."""
    pairs = zip(one.gradient, other.gradient, strict=True)
    return max(max(abs(a - c), abs(b - d)) / max(c, 1e-30) for (a, b), (c, d) in pairs)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded:smollm2", help="a model as aloe_jax.load takes it, or 'twin'")
    parser.add_argument("--trees", type=int, default=1, help="trees of the update (default 1)")
    parser.add_argument("--learned", nargs="+", choices=LEARNED, default=LEARNED, help="by which methods (both)")
    parser.add_argument("--repeats", type=int, default=3, help="timed updates of each layout (default 3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trl-python", default=sys.executable, help="interpreter that has TRL")
    return parser.parse_args()


def main() -> int:
    """Measure all layouts of both methods; 1 if their gradients differ."""
    args, console, worst = arguments(), Console(), 0.0
    lacking = missing_modules(args.trl_python, MODULES)
    if lacking:
        console.print(f"{args.trl_python} has no {', '.join(lacking)}: aloe_jax alone", soft_wrap=True)
    table = Table(title=f"pass of the policy and gradient, {args.model}, median of {args.repeats}")
    for column in ("learned from", "layout", "sequences", "tokens", "rows", "CPU seconds", "memory", "gradient"):
        table.add_column(column, justify="left" if column in ("learned from", "layout") else "right")
    with tempfile.TemporaryDirectory() as folder:
        for name, trees in rolled_out(args.trees, args.seed, args.learned):
            path = Path(folder) / f"{name}.jsonl"
            path.write_text("".join(f"{dump(tree)}\n" for tree in trees))
            costs: dict[str, Cost] = {}
            for layout in LAYOUTS:
                cost = costs[layout] = cost_of(layout, args.model, path, args.repeats)
                console.print(f"{name}, {layout}: {cost.cpu_seconds:.2f} s")
                away = difference(cost, costs["tree"])
                worst = max(worst, away)
                figures = (f"{cost.sequences}", f"{cost.tokens:,}", f"{cost.rows}", f"{cost.cpu_seconds:.2f}")
                table.add_row(name, layout, *figures, f"{cost.peak_bytes / 2**20:,.0f} MiB", f"{away:.0e}")
            if not lacking:
                with Worker("TRL", args.trl_python, "online_cost_trl.py", str(path.with_suffix(".ids"))) as trl:
                    counts = trl.ready
                table.add_row(name, "TRL's trie", f"{counts['samples']}", f"{counts['tokens']:,}", "1", "", "", "")
                console.print(f"{name}: TRL gathers {counts['keys']:,} keys and values per layer")
    console.print(table)
    console.print(f"largest difference of gradients {worst:.1e} ({'ok' if worst < TOLERANCE else 'TOO LARGE'})")
    return int(worst >= TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())

"""Is turn-level credit right? Advantages by several methods against the truth, in the scripted world.

    uv run python benchmarks/credit.py --table=runs/credit/scripted.jsonl
    uv run python benchmarks/credit.py --table=runs/credit/persistent.jsonl --persistence=0.5
    uv run python benchmarks/credit.py --table=runs/credit/twin.jsonl --policy=runs/twin/sft

Trees are rolled out by a stochastic policy: the scripted one, which costs no model, or a model of the scripted world
(`configs/world.py:twin`). The truth of a reply is its mean return over `--truth` futures less that of its siblings,
with returns to the horizon of the futures and to the dialogue's end. Every method has trees of its own, of at least as
many sampled tokens as those of `siblings`, which begin with the same replies, so all are compared on the same ones.
Intervals are over trees, by the bootstrap; differences are paired. docs/online.md has the results.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from credit_truth import SKIPPED, State, Table

from aloe_jax.errors import InputError
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.serve.in_process import InProcessClient
from aloe_jax.serve.local import client_of, engine_of
from aloe_jax.serve.settings import ServeSettings
from aloe_jax.train.sources import model_at
from aloe_jax.tree.schema import Conversation, Node, Persona
from data_gen.online.advantages import Advantages
from data_gen.online.methods import METHODS
from data_gen.online.rewards import rewarded
from data_gen.online.rollout import Seat, roll_out, tree_name
from data_gen.online.settings import RolloutSettings
from data_gen.players.responder import ModelResponder
from data_gen.players.settings import ModelSettings
from data_gen.players.table import load_prompt
from data_gen.roles import Responder, Roles
from data_gen.text import words
from data_gen.world.inducer import ScriptedInducer
from data_gen.world.judge import ScriptedJudge
from data_gen.world.personas import scripted_personas
from data_gen.world.stochastic import StochasticResponder
from data_gen.world.teacher import ScriptedTeacher
from data_gen.world.user import ScriptedUser

SCRIPTED = "scripted"
RESAMPLES = 2_000
MANY = (1, 2, SKIPPED)  # futures per sibling
POOL = 64  # personas, of which the first ones are taken: more of them later leave those of before as they are
Players = Callable[[Persona], Responder]


def seat(persona: Persona, players: Players, round_number: int = 0) -> Seat:
    """A tree of a persona, with a user that goes by the seed of each call."""
    roles = Roles(ScriptedUser(seed=None), ScriptedInducer(), players(persona), ScriptedJudge(), ScriptedTeacher())
    return Seat(tree_name(round_number, persona), persona, roles)


class Rollouts:
    """The trees of some personas by one policy, and what they cost in sampled tokens (of a scripted policy, words)."""

    def __init__(self, personas: Sequence[Persona], players: Players, seed: int) -> None:
        self.personas, self.players, self.seed = personas, players, seed

    async def trees(self, settings: RolloutSettings, round_number: int = 0) -> list[Conversation]:
        """A rewarded tree per persona, in the personas' order."""
        found: list[Conversation] = []
        for start in range(0, len(self.personas), settings.batch):
            batch = self.personas[start : start + settings.batch]
            found += await roll_out([seat(each, self.players, round_number) for each in batch], settings, self.seed)
        return [rewarded(tree, settings) for tree in found]

    async def at_least(
        self, budget: float, sized: Callable[[int], tuple[RolloutSettings, int]]
    ) -> tuple[RolloutSettings, list[Conversation]]:
        """The trees of the least size that samples `budget` tokens per persona, and their settings. `sized` gives the
        settings of a size, from 1, and the trees per persona; those of a persona stand `len(personas)` apart. Tokens
        grow about evenly with the size, so two sizes tell where to begin."""

        async def grown(size: int) -> list[Conversation]:
            settings, rounds = sized(size)
            return [tree for number in range(rounds) for tree in await self.trees(settings, number)]

        one, two = [self.tokens(await grown(size)) for size in (1, 2)]
        size = max(2, math.floor(2 + (budget - two) / (two - one)))
        while self.tokens(trees := await grown(size)) < budget:
            size += 1
        return sized(size)[0], trees

    def tokens(self, trees: Sequence[Conversation]) -> float:
        """Tokens sampled per persona."""
        return sum(length(node) for tree in trees for node in tree.replies()) / len(self.personas)


def length(reply: Node) -> int:
    """The sampled tokens of a reply, or the words of one that was not sampled by a model."""
    return len(words(reply.text)) if reply.token_ids is None else len(reply.token_ids)


@dataclass(frozen=True)
class Correlation:
    """The correlation of a method's advantages with the truth, and the same of each resample of the trees."""

    value: float
    resampled: np.ndarray

    def __str__(self) -> str:
        return _with_interval(self.value, self.resampled, ".2f")

    def less(self, other: Correlation) -> str:
        """The difference to that of another method, with its interval over the same resamples."""
        return _with_interval(self.value - other.value, self.resampled - other.resampled, "+.2f")


def _with_interval(value: float, resampled: np.ndarray, form: str) -> str:
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def correlated(
    states: Sequence[Sequence[State]], advantages: Sequence[Advantages], which: str, siblings: int
) -> Correlation:
    """The correlation over the first `siblings` of each state, of which only what they differ by counts, as methods
    compare them with different numbers of others. A reply that has no advantage, as its group is flat, has 0."""
    pairs = []
    for of_tree, found in zip(states, advantages, strict=True):
        values = []
        for state in of_tree:
            truth = getattr(state, which).mean(1)
            compared = zip(state.replies[:siblings], truth - truth.mean(), strict=False)
            of_state = np.array([(found.get(reply, 0.0), value) for reply, value in compared])
            values.append(of_state - of_state.mean(0) if siblings > 1 else of_state)
        pairs.append(np.concatenate(values))
    draws = np.random.default_rng(0).integers(0, len(pairs), (RESAMPLES, len(pairs)))
    with np.errstate(invalid="ignore"):
        resampled = np.array([_correlation([pairs[row] for row in rows]) for rows in draws])
    return Correlation(_correlation(pairs), resampled)


def _correlation(pairs: Sequence[np.ndarray]) -> float:
    left, right = np.concatenate(pairs).T
    return float(np.corrcoef(left, right)[0, 1])


def ceiling(states: Sequence[Sequence[State]], which: str, futures: int, common: bool) -> tuple[float, float, float]:
    """tau, sigma and tau / sqrt(tau^2 + sigma^2 / m): the spread of the siblings' true values, that of one future about
    its mean, and the best correlation that `futures` futures allow. With `common` draws what all siblings' futures
    share is no error."""
    spreads, errors = [], []
    for state in (state for of_tree in states for state in of_tree):
        returns = getattr(state, which)
        siblings, count = returns.shape
        left = returns - returns.mean(1, keepdims=True)
        shared = left.mean(0) if common else 0.0
        error = ((left - shared) ** 2).sum() / ((siblings - common) * max(1, count - 1))  # the last turn has none
        spreads.append(returns.mean(1).var(ddof=1) - error / count)
        errors.append(error)
    tau2, sigma2 = max(0.0, float(np.mean(spreads))), float(np.mean(errors))
    return tau2**0.5, sigma2**0.5, (tau2 / (tau2 + sigma2 / futures)) ** 0.5


async def compare(rollouts: Rollouts, table: Table, settings: RolloutSettings) -> None:
    """Print the table of methods, for the budgets of 1, 2 and 4 futures per sibling, and the ceilings."""
    states = [table.states[seat(persona, rollouts.players).name] for persona in rollouts.personas]
    own = dataclasses.replace(settings, common_draws=False)
    peers: dict[str, Callable[[int], tuple[RolloutSettings, int]]] = {
        "turn": lambda size: (METHODS["turn"].shaped(dataclasses.replace(settings, siblings=size)), 1),
        "chain": lambda size: (METHODS["chain"].shaped(settings), size),
        "leaf": lambda size: (METHODS["leaf"].shaped(dataclasses.replace(settings, siblings=size)), 1),
    }
    print("| method | k | m | futures | tokens | Q to the horizon | less `siblings` | Q to the end |")
    print("|---|---|---|---|---|---|---|---|")
    for futures in MANY:
        shape = dataclasses.replace(settings, futures=futures)
        trees = await rollouts.trees(shape)
        budget, first = rollouts.tokens(trees), None
        apart = dataclasses.replace(own, futures=futures)
        rows = [("siblings", shape, trees), ("siblings", apart, await rollouts.trees(apart))]
        rows += [(name, dataclasses.replace(each, weigh=False), found) for name, each, found in rows]
        rows += [(name, *await rollouts.at_least(budget, sized)) for name, sized in peers.items()]
        for name, of_method, found in rows:
            table.check(found[: len(states)])
            advantages = METHODS[name].advantages(found, of_method, None)[: len(states)]
            cut, end = (correlated(states, advantages, which, of_method.siblings) for which in ("cut", "end"))
            first = first or cut
            print(
                f"| {_described(name, of_method)} | {rollouts.tokens(found):.0f} | {cut} | {cut.less(first)} | {end} |"
            )
    for which, horizon in (("cut", "horizon"), ("end", "end")):
        for common in (True, False):
            limits = [ceiling(states, which, futures, common) for futures in MANY]
            kind, (tau, sigma, _) = "common" if common else "own", limits[0]
            told = ", ".join(f"{limit:.2f}" for *_, limit in limits)
            print(f"to the {horizon}, {kind} draws: tau {tau:.3f}, sigma {sigma:.3f}, ceilings {told}")


def _described(name: str, settings: RolloutSettings) -> str:
    """The first columns of a method's row."""
    k = "" if name == "chain" else settings.siblings
    m = settings.futures if name in ("siblings", "leaf") else ""
    draws = ("common" if settings.common_draws else "own") if name in ("siblings", "leaf") else ""
    full = ", in full" if name == "siblings" and not settings.weigh else ""
    return f"`{name}` | {k} | {m} | {draws}{full}"


@contextmanager
def policy_of(source: str, persistence: float, slots: int) -> Iterator[tuple[Players, InProcessClient | None]]:
    """Who plays the policy: without a model, or a model on an engine of this process."""
    if source == SCRIPTED:
        yield (lambda persona: StochasticResponder(persona, persistence)), None
        return
    found, mesh = model_at(source), make_mesh()
    config, chat = read_chat_model(found.folder)
    engine = engine_of(config, found.load(mesh, config), chat, mesh, ServeSettings(slots=slots, context=1024))
    with client_of(engine, chat, source) as client:
        sampling = ModelSettings(temperature=1.0, top_p=1.0, max_tokens=64)
        responder = ModelResponder(client, load_prompt("responder"), sampling)
        yield (lambda persona: responder), client


async def run(options: argparse.Namespace, players: Players, client: InProcessClient | None) -> None:
    """Make what is missing of the table, and compare."""
    personas = scripted_personas("train", POOL, POOL, seed=options.seed, pairings=1)[: options.personas]
    settings = RolloutSettings(
        turns=options.turns, siblings=options.siblings, futures=1, horizon=options.horizon, share=options.share
    )
    policy = f"{options.policy} {options.persistence}" if options.policy == SCRIPTED else options.policy
    table = Table(options.table, settings, options.truth, options.seed, policy)
    if client is not None:
        await client.__aenter__()
    begun = time.monotonic()
    for number, persona in enumerate(personas, start=1):
        await table.add(seat(persona, players))
        print(f"\rtruth: {number} of {len(personas)} trees, {time.monotonic() - begun:.0f} s", end="", file=sys.stderr)
    print(file=sys.stderr)
    await compare(Rollouts(personas, players, options.seed), table, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="file of the truth, made where it is missing")
    parser.add_argument("--policy", default=SCRIPTED, help="'scripted', or a model as aloe_jax.load takes it")
    parser.add_argument("--persistence", type=float, default=0.0, help="of the scripted policy (world/stochastic.py)")
    parser.add_argument("--personas", type=int, default=24, help=f"trees, at most {POOL}")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--siblings", type=int, default=4)
    parser.add_argument(
        "--horizon", type=float, default=2.0, help="of RolloutSettings, for the trees that are compared"
    )
    parser.add_argument("--share", type=float, default=0.34, help="of RolloutSettings: turns with siblings")
    parser.add_argument("--truth", type=int, default=256, help="futures per sibling")
    parser.add_argument("--slots", type=int, default=64, help="of a model's engine")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        with policy_of(options.policy, options.persistence, options.slots) as (players, client):
            asyncio.run(run(options, players, client))
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

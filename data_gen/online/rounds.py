"""Rounds of on-policy training: roll out trees with the current policy, score them, learn from them once.

Killed anywhere, the same command gives equal rounds: trees are sampled in fixed batches in lock-step and stored whole,
their draws depend on (seed, round, persona), and an update depends on the stored trees and the checkpoint alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from aloe_jax import files
from aloe_jax.data.pipeline import micro_batch_rows, owned_rows, to_device
from aloe_jax.errors import ResumableError
from aloe_jax.models import decoder, lora
from aloe_jax.models.config import ModelConfig
from aloe_jax.parallel import hosts
from aloe_jax.run.stage import Run
from aloe_jax.train.feed import Expected, Fed, Feeding
from aloe_jax.train.loop import Training
from aloe_jax.train.metrics_log import ROLLOUT_SECONDS
from aloe_jax.train.policy_pass import by_reply, make_policy_pass
from aloe_jax.train.rounding import LOSS, loss_of_old_policy, rounded_loss
from aloe_jax.train.state import TrainState
from aloe_jax.train.stop import StopRequest
from aloe_jax.train.work import Work
from aloe_jax.tree.row import TreeRow
from aloe_jax.tree.schema import Conversation, Persona, dump, parse
from data_gen.online.alarm import judge_alarmed
from data_gen.online.hints import Hints
from data_gen.online.judging import judged
from data_gen.online.measures import judge_measures, measures
from data_gen.online.methods import METHODS, Method
from data_gen.online.packed import GivenHints, Packing, batched, gap
from data_gen.online.players import Players
from data_gen.online.policy import Policy
from data_gen.online.rewards import rewarded
from data_gen.online.rollout import Seat, roll_out, tree_name
from data_gen.online.round_files import SO_FAR, RoundFiles
from data_gen.online.round_settings import OnlineSettings
from data_gen.online.settings import RolloutSettings
from data_gen.online.spread import Spread
from data_gen.roles import Roles
from data_gen.seeds import stable_seed


@dataclass(frozen=True)
class Rounds:
    """Implements `Feed`: the batch of a step is what a round rolled out.

    The primary process has the `personas` and the `players`, schedules and keeps the files. The others decode and train
    along, and are given the trees.

    `reference` are the parameters of the model that the policy is kept close to, without adapters, as `base` describes
    it. `hints` are those of an objective that needs them.
    """

    run: Run
    settings: OnlineSettings
    personas: Sequence[Persona]
    players: Players | None
    policy: Policy
    packing: Packing
    base: ModelConfig
    reference: decoder.Params
    stop: StopRequest
    hints: Hints | None = None

    def __len__(self) -> int:
        return self.settings.rounds

    @property
    def method(self) -> Method:
        """What replies learn from."""
        return METHODS[self.settings.method]

    @property
    def shape(self) -> RolloutSettings:
        """The trees of a round, as the method needs them."""
        return self.method.shaped(self.settings.rollout)

    def open(self, training: Training, position: Mapping[str, int]) -> Feeding:
        """Rounds from the one after the last update on."""
        return _Rounds(self, training, position["next_index"])


class _Rounds:
    def __init__(self, rounds: Rounds, training: Training, done: int) -> None:
        self._rounds, self._training, self._done = rounds, training, done
        self._directory = Path(rounds.run.directory("online"))
        self._spent = hosts.broadcast_from_primary(int(RoundFiles(self._directory, done).sampled_so_far()))
        self._policy = make_policy_pass(training.model, training.compute, training.mesh)
        self._reference = make_policy_pass(rounds.base, training.compute, training.mesh)

    def position(self) -> dict[str, int]:
        return {"next_index": self._done}

    def over(self) -> bool:
        settings = self._rounds.settings
        return self._done >= settings.rounds or 0 < settings.budget <= self._spent

    def next(self, number: int, state: TrainState) -> Fed:
        began = time.monotonic()
        found = RoundFiles(self._directory, number)
        trees, rolled_out = self._trees(found, state)
        rolled = time.monotonic()
        filled = self._filled(trees, state)
        off = gap(filled.on_host, trees)
        measured = rolled_out | {
            "sampler_gap": off[0],
            "sampler_gap_max": off[1],
            **dict(zip(ROLLOUT_SECONDS, (rolled - began, time.monotonic() - rolled), strict=True)),
        }
        self._done, self._spent = number, int(rolled_out[SO_FAR])
        if (kept := self._rounds.settings.kept) and number > kept and hosts.is_primary():
            RoundFiles(self._directory, number - kept).forget()
        where = f"of round {number} in '{self._directory}'"
        expected = self._expected(filled.on_host)
        return Fed(filled.rows, np.int32(filled.used), filled.work, lambda: where, expected, measured)

    def _trees(self, found: RoundFiles, state: TrainState) -> tuple[list[Conversation], dict[str, float]]:
        """The trees of a round and what they measured, on all processes."""
        if hosts.is_primary():
            if (trees := found.trees()) is None:
                trees = self._rolled_out(found, state)
            hosts.lead(hosts.SKIP)
            measured = found.measured()
            hosts.send("\n".join([files.json_line(measured), *map(dump, trees)]).encode())
            return trees, measured
        number = found.number
        while hosts.follow():  # as long as a batch is to be rolled out
            self._rounds.stop.check(f"in round {number} of {len(self._rounds)}")
            self._rounds.policy.follow(state)
        first, *rest = hosts.receive_bytes().decode().split("\n")
        where = f"what process 0 sent of round {number}"
        return [parse(Conversation, line, where) for line in rest], files.parse_json(first, where)

    def _rolled_out(self, found: RoundFiles, state: TrainState) -> list[Conversation]:
        """The trees of a round with their rewards and advantages: those of the batches that are stored, and the rest
        sampled now."""
        rounds, number, settings = self._rounds, found.number, self._rounds.settings
        each = rounds.method.trees_per_persona(settings)
        personas = drawn(rounds.personas, settings.trees // each, rounds.run.seed, number)
        seats = [(persona, copy) for persona in personas for copy in range(1, each + 1)]
        size = settings.rollout.batch
        batches = [seats[start : start + size] for start in range(0, len(seats), size)]
        trees = {index: stored for index in range(len(batches)) if (stored := found.batch(index)) is not None}
        before = list(trees)
        for index in sorted(set(range(len(batches))) - set(trees)):
            done = f"{len(trees)} of {len(batches)} batches"
            hosts.lead(hosts.WORK)
            rounds.stop.check(f"in round {number} of {len(rounds)}, after {done}")
            with rounds.run.progress.doing(f"round {number}: rolling out, {done} done"):
                trees[index] = self._batch(batches[index], number, state)
            found.store_batch(index, trees[index])
        valued, spread, measured = self._credited(trees, found)
        if judge_alarmed(measured, settings.alarm) is not None:
            assert rounds.players is not None
            # A judge that was broken when these were stored may have been mended since.
            for index in (each for each in before if judge_alarmed(judge_measures(trees[each]), settings.alarm)):
                trees[index] = rounds.players.judge_again(partial(judged, trees[index]))
                found.store_batch(index, trees[index])
            valued, spread, measured = self._credited(trees, found)
        if (why := judge_alarmed(measured, settings.alarm)) is not None:
            raise ResumableError(f"stopped in round {number} of {len(rounds)} in '{self._directory}': {why}")
        found.finish(valued, spread.plain(), measured)
        return valued

    def _credited(
        self, trees: Mapping[int, Sequence[Conversation]], found: RoundFiles
    ) -> tuple[list[Conversation], Spread, dict[str, float]]:
        """The trees of a round's batches with rewards and advantages, the spread up to it, and what they measure."""
        shape, method = self._rounds.shape, self._rounds.method
        given = [rewarded(tree, shape) for index in sorted(trees) for tree in trees[index]]
        valued, spread, counts = method.credited(given, shape, Spread.read(found.before().spread()))
        return valued, spread, measures(valued, counts)

    def _batch(self, drawn: Sequence[tuple[Persona, int]], number: int, state: TrainState) -> list[Conversation]:
        """The trees of a batch, sampled by `state`. Every batch starts with an empty cache: what it shared with another
        one would be rounded otherwise after an interruption between the two."""
        rounds = self._rounds
        seed = stable_seed(rounds.run.seed, "online", number)

        assert rounds.players is not None
        with rounds.policy.playing(state, number - 1) as client:
            asked = rounds.policy.player(client, rounds.settings.rollout.probe_tokens)

            async def game(roles: Roles) -> list[Conversation]:
                seats = [
                    Seat(tree_name(number, persona, copy), persona, roles, tree_name(number, persona), asked)
                    for persona, copy in drawn
                ]
                return await roll_out(seats, rounds.shape, seed, number - 1)

            return rounds.players.play(client, rounds.policy.player(client), game)

    def _filled(self, trees: Sequence[Conversation], state: TrainState) -> _Filled:
        """The batch of the trees on the mesh, with the log-probabilities of the policy that sampled it, computed by the
        trainer, and of the reference; where the objective needs them, also of the policy given hints."""
        rounds, policy = self._rounds, lora.join(state.frozen, state.params)
        hinted: GivenHints = {}
        if rounds.hints is not None:

            def score(rows: Sequence[TreeRow]) -> tuple[TreeRow, np.ndarray]:
                placed, micro, used = self._placed(rows)
                return micro, hosts.on_host(self._policy(policy, placed, np.int32(used)))

            hinted = rounds.hints.log_probs(trees, rounds.packing, score)
        rows, work = rounds.packing.rows(trees, hinted)
        placed, micro, used = self._placed(rows)
        count = np.int32(used)
        reference = self._reference(rounds.reference, placed, count)
        placed = placed.replace(
            old_log_prob=self._policy(policy, placed, count),
            reference_log_prob=reference,
            reference=by_reply(reference, placed),
        )
        filled = ("old_log_prob", "reference_log_prob", "reference")
        known = {name: hosts.on_host(getattr(placed, name)) for name in filled}
        return _Filled(placed, used, work, micro.replace(**known))

    def _placed(self, rows: Sequence[TreeRow]) -> tuple[TreeRow, TreeRow, int]:
        """Rows as micro-batches on the mesh, the same on the host, and how many of them are not empty."""
        mesh, size = self._training.mesh, micro_batch_rows(self._training.settings.rows, self._training.mesh)
        micro, used = batched(rows, size, self._rounds.packing.capacity)
        own = jax.tree.map(lambda leaf: leaf[:, list(owned_rows(size, mesh))], micro)
        return to_device(own, size, mesh), micro, used

    def _expected(self, rows: TreeRow) -> Expected:
        """The loss of a step whose policy is the one that sampled; `rows` are [N, B, ...] on the host."""
        training = self._training
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows)
        loss = loss_of_old_policy(training.settings, flat)
        tolerance = rounded_loss(training.settings, flat, training.compute.dtype, training.model.layers, loss)
        return Expected(
            loss,
            max(tolerance, LOSS * max(1.0, abs(loss))),
            "the step computes other log-probabilities than the pass before it; run again with "
            "--config.compute.attention=dense or --config.compute.dtype=float32, and report it if that changes nothing",
        )


class _Filled(NamedTuple):
    """The batch of a round on the mesh, how many of its micro-batches are not empty, the work of its step, and the same
    rows on the host."""

    rows: TreeRow
    used: int
    work: Work
    on_host: TreeRow


def drawn(personas: Sequence[Persona], count: int, seed: int, number: int) -> list[Persona]:
    """The personas of round `number`, from 1: `count` of them, drawn without replacement, in the order of the list."""
    places = random.Random(stable_seed(seed, "personas of round", number)).sample(range(len(personas)), count)
    return [personas[place] for place in sorted(places)]

"""The policy as a player: an engine in this process whose parameters are replaced before every round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import jax

from aloe_jax.decode.engine import Engine
from aloe_jax.decode.relay import Follower
from aloe_jax.errors import InputError
from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.parallel import hosts
from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.in_process import InProcessClient
from aloe_jax.train.adapters import merged
from aloe_jax.train.state import TrainState
from aloe_jax.tree.template import ChatFormat
from aloe_jax.tree.trie import dialogue_ids
from data_gen.roles import Dialogue, Responder


@dataclass(frozen=True)
class Policy:
    """An engine for the model that learns, or on another process than the primary one what follows it. `model` has its
    adapters, if it has any."""

    engine: Engine | Follower
    chat: ChatFormat
    model: ModelConfig
    max_tokens: int  # of a reply
    longest: int  # tokens of a path

    @contextmanager
    def playing(self, state: TrainState, version: int) -> Iterator[InProcessClient]:
        """A client whose answers are the samples of `state`. Nothing that was computed for another version is used: the
        cache is emptied. Parameters go from the trainer's sharding to the engine's on the devices, and make room for
        the update afterwards. On several processes the others call `follow` meanwhile."""
        engine, name = self.engine, f"policy version {version}"
        assert isinstance(engine, Engine)
        engine.load(self._parameters(state))
        with InProcessClient(engine, self.chat, name, concurrency=2 * engine.slots) as client:
            yield client
        hosts.send(hosts.END)
        engine.unload()

    def follow(self, state: TrainState) -> None:
        """Decode, on another process, what the primary process decodes while it is `playing`."""
        assert isinstance(self.engine, Follower)
        self.engine.load(self._parameters(state))
        self.engine.follow()
        self.engine.unload()

    def player(self, client: InProcessClient, max_tokens: int | None = None) -> Responder:
        """The policy as the role that answers, in at most so many tokens; by default as many as a reply may have."""
        return _Player(client, self, max_tokens or self.max_tokens)

    def _parameters(self, state: TrainState) -> decoder.Params:
        return _merged(state.frozen, state.params, self.model.lora) if self.model.lora else state.params


@dataclass(frozen=True)
class _Player:
    """Implements `Responder`. Replies are sampled at temperature 1 and top-p 1, without top-k and penalties: samples of
    any other distribution are not the policy's. The prompt has the tokens that earlier replies were sampled as, as in
    training; text that is tokenised again would be another history."""

    client: InProcessClient
    policy: Policy
    max_tokens: int

    async def replies(self, dialogue: Dialogue, hint: str | None, n: int, seed: int) -> list[Answer]:
        """`n` samples of the policy; it is never given a hint."""
        assert hint is None
        prompt, policy = dialogue_ids(dialogue, self.policy.chat), self.policy
        if len(prompt) + self.max_tokens > policy.longest:
            raise InputError(
                f"config.dataset.max_path: a dialogue of {len(prompt)} tokens and a reply of {self.max_tokens} are "
                f"longer than {policy.longest}; raise it, or lower config.online.rollout.turns, max_tokens or "
                "rollout.probe_tokens"
            )
        return await self.client.sampled(
            dialogue, prompt, n=n, seed=seed, temperature=1.0, top_p=1.0, max_tokens=self.max_tokens
        )


_merged = jax.jit(merged, static_argnums=2)

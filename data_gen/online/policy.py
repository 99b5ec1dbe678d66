"""The policy as a player: an engine in this process whose parameters are replaced before every round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from aloe_jax.decode.engine import Engine
from aloe_jax.models import decoder, lora
from aloe_jax.models.config import ModelConfig
from aloe_jax.ops.precision import in_precision_of
from aloe_jax.serve.in_process import InProcessClient
from aloe_jax.train.state import TrainState
from aloe_jax.tree.template import ChatFormat
from data_gen.players.settings import ModelSettings


@dataclass(frozen=True)
class Policy:
    """An engine for the model that learns. `model` has its adapters, if it has any."""

    engine: Engine
    chat: ChatFormat
    model: ModelConfig
    max_tokens: int

    @contextmanager
    def playing(self, state: TrainState, version: int) -> Iterator[InProcessClient]:
        """A client whose answers are the samples of `state`. Nothing that was computed for another version is used: the
        cache is emptied. Parameters go from the trainer's sharding to the engine's on the devices."""
        self.engine.load(self._parameters(state))
        name = f"policy version {version}"
        with InProcessClient(self.engine, self.chat, name, concurrency=2 * self.engine.slots) as client:
            yield client

    @property
    def sampling(self) -> ModelSettings:
        """How rounds sample: at temperature 1 and top-p 1, without top-k and penalties. Samples of any other
        distribution are not the policy's, and their log-probabilities would not be either."""
        return ModelSettings(temperature=1.0, top_p=1.0, max_tokens=self.max_tokens)

    def _parameters(self, state: TrainState) -> decoder.Params:
        return _merged(state.frozen, state.params, self.model.lora) if self.model.lora else state.params


@in_precision_of(jnp.float32)
def _merge(frozen: decoder.Params, params: decoder.Params, adapters: lora.Lora) -> decoder.Params:
    return lora.merge(lora.join(frozen, params), adapters)


_merged = jax.jit(_merge, static_argnums=2)

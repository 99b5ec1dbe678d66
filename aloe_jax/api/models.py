"""A model to talk with, to score replies with and to pack rows for."""

from __future__ import annotations

import functools
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jax.sharding import Mesh

from aloe_jax.api.records import Tree, Turn, as_messages, as_trees
from aloe_jax.decode.engine import Engine
from aloe_jax.decode.requests import Completion, Request, Sampling
from aloe_jax.errors import InputError
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.params import Params
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.serve.local import engine_of
from aloe_jax.serve.settings import ServeSettings
from aloe_jax.train.forward import Compute
from aloe_jax.train.score import ReplyScore, score_trees, whole_tries
from aloe_jax.train.score import checked as finite
from aloe_jax.train.sources import model_at
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.pack import best_fit, pack, stack
from aloe_jax.tree.row import Capacity, TreeRow
from aloe_jax.tree.schema import Node
from aloe_jax.tree.template import ChatFormat, SystemHandling

__all__ = ["Model", "Reply", "ReplyScore", "TreeRow", "load"]


@dataclass(frozen=True)
class Reply:
    """A sampled reply.

    Attributes:
        text: its text.
        finish_reason: "stop", or "length" where it was cut.
        token_ids: its tokens, the one that ends the turn included unless it was cut.
        log_probs: the natural log-probability of each token at temperature 1.
        tokenizer: the hash of the tokenizer that the ids belong to.
    """

    text: str
    finish_reason: str
    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    tokenizer: str

    def node(self, id: str, parent: str | None, condition: str | None = None) -> Node:
        """The reply as a node of a tree: training and scoring take its tokens as they are."""
        return Node(
            id=id,
            parent=parent,
            role="assistant",
            text=self.text,
            condition=condition,
            token_ids=self.token_ids,
            logprobs=self.log_probs,
            tokenizer=self.tokenizer,
            flags=() if self.finish_reason == "stop" else ("truncated",),
        )


class Model:
    """A language model with its tokenizer and chat template, its parameters (f32) on all devices. `load` makes it.

    Attributes:
        source: the model that was asked for.
    """

    def __init__(
        self, source: str, config: ModelConfig, chat: ChatFormat, params: Params, mesh: Mesh, serve: ServeSettings
    ) -> None:
        self.source = source
        self._config, self._chat, self._params, self._mesh, self._serve = config, chat, params, mesh, serve

    def __repr__(self) -> str:
        return f"<aloe_jax.Model {self.source}>"

    def generate(
        self,
        conversations: Iterable[Sequence[Turn]],
        *,
        n: int = 1,
        max_tokens: int = 256,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[list[Reply]]:
        """`n` replies to each conversation, which is a list of messages ({"role": ..., "content": ...}).

        All are decoded together, and share what their beginnings have in common. Temperature 0 is greedy. Equal calls
        give equal replies. Raises InputError for a message that is none, one that the template refuses, a conversation
        without room for a reply, and a value out of its bounds.
        """
        for name, value in (("n", n), ("max_tokens", max_tokens), ("seed", seed)):
            _check_number(name, value, numbers.Integral)
        for name, share in (("temperature", temperature), ("top_p", top_p)):
            _check_number(name, share, numbers.Real)
        sampling = Sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens)
        prompts = [self._chat.prompt_ids(as_messages(one)) for one in conversations]
        requests = [Request(tuple(prompt), sampling, seed, n) for prompt in prompts]
        return [list(map(self._reply, found)) for found in self._engine.generate(requests)]

    def score(self, trees: Iterable[Tree], dtype: str = "float32") -> list[ReplyScore]:
        """The log-probability of every assistant message of `trees`, given its path, in their order.

        Each token of a tree is computed once. `trees` are records or dicts of their JSON; stored token ids are used
        where they are of this model's tokenizer. Raises InputError as `aloe score` does: for a broken tree, a path
        longer than the context, an unknown `dtype`.
        """
        found = as_trees(trees)
        tries = whole_tries(found, self._chat, self._config)
        compute = Compute(dtype=dtype)
        scores = score_trees(self._params, self._config, found, tries, compute, mesh=self._mesh)
        return list(finite(scores, self.source))

    def pack(
        self, trees: Iterable[Tree], *, tokens: int = 2048, targets: int = 2048, replies: int = 256, pairs: int = 128
    ) -> TreeRow:
        """`trees` as a batch of rows [B, ...] of numpy arrays, as training sees them: each token once, best-fit.

        The sizes are those of a row; what does not fit goes on in another one. Raises InputError for a broken tree, a
        path longer than the context, and replies that must share a row and do not fit into one.
        """
        found, capacity = as_trees(trees), Capacity(tokens, targets, replies, pairs)
        numbered = enumerate(zip(found, whole_tries(found, self._chat, self._config), strict=True))
        parts = [part for number, (tree, trie) in numbered for part in fragments(tree, trie, capacity, number)]
        plan = best_fit(np.array([part.sizes for part in parts]), capacity) or [[]]
        return stack([pack([parts[index] for index in row], capacity) for row in plan])

    @functools.cached_property
    def _engine(self) -> Engine:
        return engine_of(self._config, self._params, self._chat, self._mesh, self._serve)

    def _reply(self, completion: Completion) -> Reply:
        text = self._chat.tokenizer.decode(completion.text_ids)
        ids, log_probs = completion.token_ids, completion.log_probs
        return Reply(text, completion.finish_reason, ids, log_probs, self._chat.tokenizer.hash)


def _check_number(name: str, value: object, kind: type) -> None:
    """Raise InputError unless a value is a number of a kind."""
    if not isinstance(value, kind) or isinstance(value, bool):
        expected = "a whole number" if kind is numbers.Integral else "a number"
        raise InputError(f"{name} is {value!r}, expected {expected}")


def load(
    source: str | os.PathLike[str],
    *,
    system: SystemHandling = "keep",
    variables: Mapping[str, object] | None = None,
    slots: int = 8,
    context: int = 2048,
) -> Model:
    """The model `source`: a Hugging Face folder, a hub id, a GGUF file, `embedded:smollm2`, `random:FAMILY`, or the
    folder of a training in a run (`runs/demo/preference`).

    `system="fold_into_first_user"` is for templates that refuse a system message, `variables` are those of the
    template, such as `{"enable_thinking": False}`. `generate` decodes at most `slots`
    replies at a time (a multiple of the number of devices), each of at most `context` tokens with its conversation.
    Raises InputError, with a remedy, for anything that is not a supported model.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(f"source is {source!r}, expected the place or the name of a model")
    place, mesh = os.fspath(source), make_mesh()
    found = model_at(place)
    config, chat = read_chat_model(found.folder, system=system, variables=variables)
    serve = ServeSettings(slots=slots, context=context)
    return Model(place, config, chat, found.load(mesh, config), mesh, serve)

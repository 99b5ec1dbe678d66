"""A tiny random Llama with grouped-query attention and the fixture tokenizer, and its log-probabilities by path."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aloe_jax.hub.exporter import export_model
from aloe_jax.models import decoder
from aloe_jax.models.config import Layer, ModelConfig
from aloe_jax.models.rope import Rope
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.pack import best_fit, pack, stack
from aloe_jax.tree.row import Capacity, TreeRow
from aloe_jax.tree.schema import Conversation
from aloe_jax.tree.trie import build_trie
from helpers.tree_samples import FIXTURES, chat_format, tokenizer

CHAT = chat_format("chatml")
MODEL = ModelConfig(
    family="llama",
    vocab=-(-tokenizer().vocab_size // 8) * 8,  # padded, as real vocabularies are
    dim=64,
    layers=2,
    heads=8,
    kv_heads=4,
    head_dim=8,
    mlp_dim=96,
    pattern=(Layer(Rope(10_000.0)),),
    norm_eps=1e-5,
    context=1024,
    tied=True,
)


@functools.cache
def params(seed: int = 0, scale: float = 2.0) -> decoder.Params:
    """Random parameters, larger than a trained model's, so that differences show."""
    made = jax.jit(lambda key: decoder.init_params(MODEL, key))(jax.random.key(seed))
    return jax.tree.map(lambda leaf: leaf * scale if leaf.ndim > 2 else leaf, made)


def write_folder(folder: Path, seed: int = 0) -> Path:
    """The tiny model as a Hugging Face folder."""
    source = folder.parent / f"{folder.name}-tokenizer"
    source.mkdir(parents=True)
    for file in (FIXTURES / "tokenizer").iterdir():
        (source / file.name).write_text(file.read_text())
    (source / "config.json").write_text('{"eos_token_id": 2}')
    return export_model(params(seed), MODEL, source, folder)


def rows_of(trees: list[Conversation], capacity: Capacity) -> TreeRow:
    """Trees packed into a batch of rows [B, ...]."""
    parts = [
        part for number, tree in enumerate(trees) for part in fragments(tree, build_trie(tree, CHAT), capacity, number)
    ]
    plan = best_fit(np.array([part.sizes for part in parts]).reshape(-1, 4), capacity)
    return stack([pack([parts[index] for index in row], capacity) for row in plan])


@functools.partial(jax.jit, static_argnames="length")
def _path_log_probs(weights: Any, tokens: jax.Array, length: int) -> jax.Array:
    """log p(token t+1 | tokens up to t) of one causal sequence, by plain attention written out here."""

    def attend(layer: Any, query: Any, key: Any, value: Any, carry: Any) -> tuple[jax.Array, Any]:
        repeat = query.shape[2] // key.shape[2]
        key, value = jnp.repeat(key, repeat, axis=2), jnp.repeat(value, repeat, axis=2)
        scores = jnp.einsum("bqhk,bshk->bhqs", query, key) / jnp.sqrt(query.shape[-1])
        causal = jnp.tril(jnp.ones((length, length), bool))
        weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
        return jnp.einsum("bhqs,bshk->bqhk", weights, value), carry

    hidden, _ = decoder.hidden_states(weights, MODEL, tokens[None], jnp.arange(length)[None], attend)
    log_probs = jax.nn.log_softmax(hidden[0, :-1] @ decoder.head_weight(weights, MODEL))
    return jnp.take_along_axis(log_probs, tokens[1:, None], axis=1)[:, 0]


PADDED = (64, 128, 512)  # few compiled shapes for all paths; padding to the right does not affect a token


def token_log_probs(weights: Any, path: list[int]) -> jax.Array:
    """Log-probabilities of the tokens of `path` from the second on, computed from that path alone."""
    length = next(length for length in PADDED if length >= len(path))
    tokens = jnp.asarray(path + [0] * (length - len(path)), jnp.int32)
    return _path_log_probs(weights, tokens, length)[: len(path) - 1]


def path_log_prob(weights: Any, path: list[int], reply: int) -> jax.Array:
    """Log-probability of the last `reply` tokens of `path`, computed from that path alone."""
    return token_log_probs(weights, path)[len(path) - reply - 1 :].sum()

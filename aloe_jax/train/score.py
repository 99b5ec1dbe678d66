"""`aloe score`: the log-probability of every assistant message of conversation trees, given its path."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.load import load_params
from aloe_jax.hub.source import resolve_model
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Params
from aloe_jax.ops.attention import BLOCK
from aloe_jax.outputs import check_apart
from aloe_jax.parallel.mesh import row_shards
from aloe_jax.parallel.sharding import row_sharding
from aloe_jax.run.progress import Progress
from aloe_jax.train.forward import Compute, make_score
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.pack import best_fit, pack, stack
from aloe_jax.tree.row import Capacity, TreeRow
from aloe_jax.tree.schema import Conversation, read_trees
from aloe_jax.tree.template import ChatFormat, SystemHandling
from aloe_jax.tree.trie import Trie, build_trie

ROW_TOKENS = 2048  # length of a row, or of the longest path if that is longer
ROW_REPLIES = 128


@dataclass(frozen=True)
class ReplyScore:
    """Sum of the natural log-probabilities of a reply's tokens, end-of-turn included, and their number."""

    conversation: str
    node: str
    log_prob: float
    tokens: int


def score_file(
    model: str, trees: epath.PathLike, out: epath.PathLike, dtype: str, system: SystemHandling, progress: Progress
) -> None:
    """Score every assistant node of `trees` and write one JSON line per node to `out`, in file order.

    `system` is the handling of system messages (`ChatTemplate`). Raises InputError for a broken tree, an unknown
    `dtype`, a path longer than the model's context (naming the node) and token ids outside the model's vocabulary.
    """
    compute = Compute(dtype=dtype)
    files.output_file(out)
    check_apart(out, trees)
    conversations = list(read_trees(trees))
    folder = resolve_model(model)
    config, chat = read_chat_model(folder, system=system)
    check_apart(out, model, folder)
    tries = whole_tries(conversations, chat, config)
    with progress.stage("score"):
        params = load_params(folder, config)
        scores = score_trees(params, config, conversations, tries, compute, progress)
        files.write_lines(out, (files.json_line(vars(score)) for score in checked(scores, model)))


def whole_tries(trees: Sequence[Conversation], chat: ChatFormat, model: ModelConfig) -> list[Trie]:
    """The tries of `trees`, of which nothing is cut. Raises InputError for a path longer than the model's context
    (naming the node) and for token ids outside its vocabulary."""
    tries = [build_trie(tree, chat, model.context, "error") for tree in trees]
    for tree, trie in zip(trees, tries, strict=True):
        ids = (token for piece in trie.pieces for token in piece.tokens)
        chat.tokenizer.check_ids(ids, model.vocab, f"conversation '{tree.id}'")
    return tries


def score_trees(
    params: Params,
    model: ModelConfig,
    trees: Sequence[Conversation],
    tries: Sequence[Trie],
    compute: Compute,
    progress: Progress | None = None,
    mesh: Mesh | None = None,
) -> list[ReplyScore]:
    """Scores of all assistant nodes, in file order; each token of the trees is computed once. With the parameters on a
    `mesh` of this process, each of its shards of a batch computes a row at a time."""
    batch = 1 if mesh is None else row_shards(mesh)
    longest = max((len(trie.path_ids(reply.piece)) for trie in tries for reply in trie.replies), default=1)
    share = -(-sum(trie.tree_tokens for trie in tries) // batch)
    tokens = -(-max(longest, min(ROW_TOKENS, share)) // BLOCK) * BLOCK
    capacity = Capacity(tokens, tokens, ROW_REPLIES, 0)
    # Without preferences no two replies have to share a row, so any path that fits a row can be placed.
    bare = [tree.model_copy(update={"preferences": ()}) for tree in trees]
    parts = [
        part
        for number, (tree, trie) in enumerate(zip(bare, tries, strict=True))
        for part in fragments(tree, trie, capacity, number)
    ]
    found: dict[tuple[int, int], tuple[float, int]] = {}
    score = make_score(model, compute, mesh)
    plan = best_fit(np.array([part.sizes for part in parts]), capacity) if parts else []
    padded = [*plan, *([[]] * (-len(plan) % batch))]
    for start in range(0, len(padded), batch):
        rows = stack([pack([parts[index] for index in row], capacity) for row in padded[start : start + batch]])
        placed = rows if mesh is None else jax.device_put(rows, row_sharding(mesh))
        found.update(_by_node(rows, score(params, placed)))
        if progress is not None:
            progress.update(min(start + batch, len(plan)), len(plan), "rows")
    return [
        ReplyScore(tree.id, node.id, *found[number, index])
        for number, tree in enumerate(trees)
        for index, node in enumerate(tree.nodes)
        if node.role == "assistant"
    ]


def checked(scores: Iterable[ReplyScore], model: str) -> Iterator[ReplyScore]:
    """The scores. InputError for the first one that is no number, before it is written."""
    for score in scores:
        if not math.isfinite(score.log_prob):
            raise InputError(
                f"conversation '{score.conversation}', node '{score.node}': its log-probability under '{model}' is "
                f"{score.log_prob}, since the model's weights overflow or are damaged; use another copy of it"
            )
        yield score


def _by_node(row: TreeRow, log_probs: jax.Array) -> Iterator[tuple[tuple[int, int], tuple[float, int]]]:
    """((conversation, node), (log-probability, tokens)) of each reply of a batch of rows."""
    columns = (
        np.asarray(column).reshape(-1).tolist() for column in (row.conversation, row.node, log_probs, row.length)
    )
    for conversation, node, value, length in zip(*columns, strict=True):
        if conversation >= 0:
            yield (conversation, node), (value, length)

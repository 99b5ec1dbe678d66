"""A layout of online_cost.py. Its arguments are ANSWERS LAYOUT MODEL TREES: a file descriptor, a name, a model and a
file of trees with advantages.

Writes beside TREES the token ids of the sequences that have one advantage each, for TRL's side, then makes one update
per line of its standard input.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # seconds and memory are those of the process

import jax
import jax.numpy as jnp
import numpy as np
from preference_step_ours import row_length
from worker import resident, serve

from aloe_jax import memory
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.load import load_params
from aloe_jax.hub.source import resolve_model
from aloe_jax.models import decoder
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.train.forward import Compute
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.policy_pass import make_policy_pass
from aloe_jax.train.step import make_gradient
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.pack import best_fit, pack, stack
from aloe_jax.tree.prune import advantaged, pruned
from aloe_jax.tree.row import Capacity, TreeRow
from aloe_jax.tree.schema import Conversation, Node, read_trees
from aloe_jax.tree.template import ChatFormat
from aloe_jax.tree.trie import build_trie

# Sums over tokens, without a divergence, which would count once per sequence.
SETTINGS = ObjectiveSettings("policy_gradient", kl_weight=0.0, tokens_per_reply=1, turn_buckets=0)
UNBOUNDED = Capacity(*[sys.maxsize] * 4)


def laid_out(layout: str, tree: Conversation) -> list[Conversation]:
    """The sequences of a tree, as conversations; the tree itself is one."""
    if layout == "tree":
        return [tree]
    learned = {node.id for node in tree.nodes if node.advantage is not None}
    paths = {name: tree.path_to(name) for name in learned}
    if layout == "replies":
        return [_path(tree, path, {name: 1}) for name, path in paths.items()]
    inside = {node.id for path in paths.values() for node in path[:-1]}
    leaves = [paths[name] for name in paths if name not in inside]
    below = {name: sum(any(node.id == name for node in path) for path in leaves) for name in learned}
    return [_path(tree, path, below) for path in leaves]


def _path(tree: Conversation, path: Sequence[Node], shared: dict[str, int]) -> Conversation:
    """A path as a conversation; the replies in `shared` have their advantage over that number, others none."""
    nodes = (
        node.model_copy(update={"advantage": node.advantage / shared[node.id]})
        if node.advantage is not None and node.id in shared
        else node.model_copy(update={"advantage": None})
        for node in path
    )
    return Conversation(id=f"{tree.id}/{path[-1].id}", nodes=tuple(nodes))


def parts_of(trees: Sequence[Conversation], chat: ChatFormat) -> list[TreeRow]:
    """What is learned from in each conversation, a fragment each."""
    found = []
    for number, tree in enumerate(trees):
        (part,) = fragments(tree, build_trie(tree, chat), UNBOUNDED, number)
        found.append(pruned(part, advantaged(part)))
    return found


def rows_of(parts: Sequence[TreeRow], tokens: int) -> TreeRow:
    """Rows of that many tokens [N, 1, ...], a micro-batch each."""
    sizes = np.array([part.sizes for part in parts], np.int64)
    capacity = Capacity(tokens, *(max(1, int(sizes[:, axis].sum())) for axis in (1, 2, 3)))
    rows = best_fit(sizes, capacity)
    needs = [sizes[row].sum(0) for row in rows]
    capacity = Capacity(tokens, *(max(1, int(max(need[axis] for need in needs))) for axis in (1, 2, 3)))
    return stack([stack([pack([parts[index] for index in row], capacity)]) for row in rows])


def samples(trees: Sequence[Conversation], chat: ChatFormat) -> Iterator[dict[str, list[int]]]:
    """The token ids of each sequence, and which of them are learned from."""
    for tree in trees:
        trie, index = build_trie(tree, chat), {node.id: place for place, node in enumerate(tree.nodes)}
        spans = {span.node: span.piece for span in trie.replies}
        last = trie.path(spans[index[tree.nodes[-1].id]])
        learned = {spans[index[node.id]] for node in tree.nodes if node.advantage is not None}
        mask = [int(piece in learned) for piece in last for _ in trie.pieces[piece].tokens]
        yield {"ids": trie.path_ids(last[-1]), "mask": mask}


def figures(grads: decoder.Params, weight: jax.Array) -> list[tuple[float, float]]:
    """The length of each gradient, times the weight that it was divided by, and its projection on a random
    direction."""
    found = []
    for number, leaf in enumerate(jax.tree.leaves(grads)):
        along = jax.random.normal(jax.random.key(number), leaf.shape)
        found.append((float(jnp.linalg.norm(leaf.ravel()) * weight), float((leaf * along).sum() * weight)))
    return found


def main() -> None:
    descriptor, layout, name, path = int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
    if name == "twin":
        from data_gen.world.twin import twin_model

        name = str(twin_model())
    folder, mesh = resolve_model(name), make_mesh(devices=jax.devices()[:1])
    model, chat = read_chat_model(folder)
    params = load_params(folder, model, decoder.shardings(model, mesh))
    trees = list(read_trees(path))
    sequences = [one for tree in trees for one in laid_out(layout, tree)]
    parts, whole = parts_of(sequences, chat), parts_of(trees, chat)
    rows = rows_of(parts, row_length(max(part.sizes[0] for part in whole)))
    # TRL's samples have one advantage each: with advantages of leaves the leaves, else every reply that has one.
    if layout == ("leaves" if path.stem == "leaf" else "replies"):
        path.with_suffix(".ids").write_text(json.dumps(list(samples(sequences, chat))))

    compute, used = Compute(), jnp.asarray(rows.tokens.shape[0])
    score = make_policy_pass(model, compute)
    gradient = jax.jit(make_gradient(model, SETTINGS, compute))
    rows = jax.tree.map(jnp.asarray, rows)

    def update(question: object) -> dict[str, object]:
        memory.release()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is resident now
        before, began = resident("VmRSS"), time.process_time()
        known = rows.replace(old_log_prob=score(params, rows, used))
        sums, grads = jax.block_until_ready(gradient(params, {}, known, used))
        spent, peak = time.process_time() - began, resident("VmHWM")
        return {"cpu_seconds": spent, "peak_bytes": peak - before, "gradient": figures(grads, sums["loss"][1])}

    counts = {"sequences": len(sequences), "tokens": sum(part.sizes[0] for part in parts), "rows": len(rows.tokens)}
    serve(descriptor, counts, update)


if __name__ == "__main__":
    main()

"""The aloe_jax side of preference_step.py. Its arguments are ANSWERS FOLDER REMAT: a file descriptor, a folder and a
value of `config.compute.remat`.

Writes what the other side needs to FOLDER (the perturbed policy, the ten pairs as text and as token ids), then runs one
step per line of its standard input.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from ten_turns import conversation

from aloe_jax import memory
from aloe_jax.hub.exporter import export_model
from aloe_jax.hub.load import load_model
from aloe_jax.hub.source import resolve_model
from aloe_jax.models.decoder import Params
from aloe_jax.ops.attention import block_size
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.train.forward import Compute, make_score
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.settings import PreferenceSettings
from aloe_jax.train.state import create_state
from aloe_jax.train.step import make_step
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.pack import pack, stack
from aloe_jax.tree.row import Capacity, TreeRow
from aloe_jax.tree.schema import Conversation
from aloe_jax.tree.template import ChatFormat
from aloe_jax.tree.trie import Trie, build_trie

MODEL = "embedded:smollm2"
NOISE = 0.02  # of the policy's weights, as a share of each tensor's standard deviation
MATMUL = 2048  # size of the matrix product that a step is compared with
MATMUL_SECONDS = 2.0  # how long its rate is measured, before and after each step
# TRL's defaults, so that both sides do the same update.
TRAINING = PreferenceSettings(
    objective="dpo",
    beta=0.1,
    turn_buckets=0,
    entropy=False,
    learning_rate=1e-6,
    schedule="constant",
    warmup=0.0,
    clip_norm=1.0,
    b1=0.9,
    b2=0.999,
    weight_decay=0.0,
)


def perturbed(params: Params) -> Params:
    """`params` with seeded noise on every tensor."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    noisy = [
        leaf + NOISE * leaf.std() * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)


class Pair(TypedDict):
    """Prompt, chosen and rejected of a preference by name, as text and as token ids."""

    text: dict[str, str]
    ids: dict[str, list[int]]


def pairs(tree: Conversation, trie: Trie, chat: ChatFormat) -> list[Pair]:
    """Each preference as token ids and as the text that they encode."""
    piece_of = {tree.nodes[reply.node].id: reply.piece for reply in trie.replies}
    records: list[Pair] = []
    for preference in tree.preferences:
        chosen, rejected = piece_of[preference.chosen], piece_of[preference.rejected]
        ids = {
            "prompt": trie.path_ids(trie.pieces[chosen].parent),
            "chosen": list(trie.pieces[chosen].tokens),
            "rejected": list(trie.pieces[rejected].tokens),
        }
        text = {name: chat.tokenizer.decode(tokens, skip_special=False) for name, tokens in ids.items()}
        records.append({"text": text, "ids": ids})
    return records


def one_row(tree: Conversation, trie: Trie) -> TreeRow:
    """The conversation as a batch of one row, no larger than it needs to be."""
    unbounded = Capacity(*[sys.maxsize] * 4)
    (fragment,) = fragments(tree, trie, unbounded, 0)
    tokens, *rest = fragment.sizes
    row = pack([fragment], Capacity(row_length(tokens), *rest))
    return jax.tree.map(jnp.asarray, stack([row]))


def row_length(tokens: int) -> int:
    """The shortest row for that many tokens which attention can cut into its blocks."""
    while True:
        try:
            block_size(tokens)
            return tokens
        except ValueError:
            tokens += 1


def unmasked_pairs(row: TreeRow) -> float:
    """How many query-key pairs the tree mask leaves: key j is seen from j to the end of its subtree."""
    end = np.asarray(row.subtree_end, np.int64)
    return float((end - np.arange(end.shape[-1])).sum())


def matmul_rate() -> float:
    """FLOP/s of products of two 2048 x 2048 matrices, the mean over two seconds: long enough to be slowed by other work
    on the machine as a step is."""
    matrix = jnp.ones((MATMUL, MATMUL))
    _matmul(matrix).block_until_ready()  # the first one compiles
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < MATMUL_SECONDS:
        _matmul(matrix).block_until_ready()
        count += 1
    return count * 2 * MATMUL**3 / (time.perf_counter() - began)


_matmul = jax.jit(lambda matrix: matrix @ matrix)


def main() -> None:
    descriptor, folder, remat = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    source = resolve_model(MODEL)
    chat, tree = ChatFormat.load(source), conversation()
    trie = build_trie(tree, chat)
    model, reference = load_model(source)
    policy = perturbed(reference)
    export_model(policy, model, source, folder / "policy")
    (folder / "pairs.json").write_text(json.dumps({"reference": str(source), "pairs": pairs(tree, trie, chat)}))

    row, compute = one_row(tree, trie), Compute(remat=remat)
    score = make_score(model, compute)
    optimizer = make_optimizer(TRAINING, 1)
    state = create_state(policy, model, optimizer, make_mesh(devices=jax.devices()[:1]))
    once, used = jax.tree.map(lambda leaf: leaf[None], row), jnp.asarray(1)
    # As the training loop does it: compiled ahead, and what the compiler took given back.
    jitted: Any = make_step(model, TRAINING, compute, optimizer)
    step = jitted.lower(state, once, used).compile()
    # The reference's forward pass, and the policy's with a backward pass of twice its cost.
    useful = 4 * model.matmul_flops(trie.tree_tokens, unmasked_pairs(row), float(row.weight.size))
    # Replies stand in file order: chosen and rejected of the first turn, of the second, ...
    log_probs = np.asarray(score(policy, row))[0].tolist()
    del policy, reference
    memory.release()
    with os.fdopen(descriptor, "w", buffering=1) as answers:
        print(json.dumps({"tokens": trie.tree_tokens}), file=answers)
        for _ in sys.stdin:
            # As in a run, the reference model is in memory for its own pass only. Loading is timed on neither side.
            _, reference = load_model(source)
            # Read back from disk what was swapped out for the other side.
            jax.block_until_ready((jax.tree.map(jnp.sum, state), score(reference, row)))
            rate = matmul_rate()
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
            began, began_cpu = time.perf_counter(), time.process_time()
            known = jax.block_until_ready(row.replace(reference=score(reference, row)))
            del reference
            memory.release()
            state, metrics = step(state, jax.tree.map(lambda leaf: leaf[None], known), used)
            jax.block_until_ready((state, metrics))
            seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
            usage = resource.getrusage(resource.RUSAGE_SELF)
            answer = {
                "seconds": seconds,
                "efficiency": useful / seconds / ((rate + matmul_rate()) / 2),
                "cpu_seconds": cpu_seconds,
                "loss": float(metrics["loss"]),
                "grad_norm": float(metrics["grad_norm"]),
                "log_probs": log_probs,
                "peak_bytes": usage.ru_maxrss * 1024,
                "swapped_pages": usage.ru_majflt - faults,
            }
            memory.release()  # the other side may need it
            print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()

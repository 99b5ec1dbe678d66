"""Shares of blocks that the TPU attention kernels compute on packed ten-turn trees, and their temporaries in HBM.

    uv run python benchmarks/attention_blocks.py                            # compiled for v5e
    uv run python benchmarks/attention_blocks.py --topology=v5p:2x2x1

The trees are those of ten_turns.py with their turns shuffled and the continued reply drawn at random, tokenised by
SmolLM2 and packed as for training. The temporaries are the compiler's figure for forward and backward of one layer with
the heads of Llama-3-8B, one row per chip, in bf16; `libtpu` compiles for the topology without its chips. No time is
measured: nothing runs on a TPU here.
"""

from __future__ import annotations

import os

os.environ |= {
    "JAX_PLATFORMS": "cpu",  # what computes here; libtpu only compiles
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # beside other processes that have it open
    "TPU_SKIP_MDS_QUERY": "1",  # there is no metadata server
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}

import argparse
import functools
import random
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec
from rich.console import Console
from rich.table import Table
from ten_turns import TURNS

from aloe_jax.hub.source import resolve_model
from aloe_jax.ops.block_table import running_blocks
from aloe_jax.ops.tpu_attention import pallas
from aloe_jax.parallel.mesh import ROWS, make_mesh
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.pack import best_fit, pack, stack
from aloe_jax.tree.row import Capacity, TreeRow
from aloe_jax.tree.schema import Conversation, Node, Preference
from aloe_jax.tree.template import ChatFormat
from aloe_jax.tree.trie import build_trie

LENGTHS = (2048, 8192)  # of packed rows
MEMORY_LENGTHS = (*LENGTHS, 32768)
BLOCKS = (512, 256)
TREES = 200
HEADS, KEY_HEADS, WIDTH = 32, 8, 128  # Llama-3-8B


def conversation(seed: int) -> Conversation:
    """The ten turns in a random order, each followed by the next from one of its two replies."""
    rng = random.Random(seed)
    nodes: list[Node] = []
    preferences = []
    parent = None
    for turn, (user, chosen, rejected) in enumerate(rng.sample(TURNS, len(TURNS))):
        names = f"user{turn}", f"chosen{turn}", f"rejected{turn}"
        nodes.append(Node(id=names[0], parent=parent, role="user", text=user))
        nodes.append(Node(id=names[1], parent=names[0], role="assistant", text=chosen))
        nodes.append(Node(id=names[2], parent=names[0], role="assistant", text=rejected))
        preferences.append(Preference(chosen=names[1], rejected=names[2]))
        parent = rng.choice(names[1:])
    return Conversation(id=f"shuffled{seed}", nodes=tuple(nodes), preferences=tuple(preferences))


def packed(length: int, chat: ChatFormat) -> TreeRow:
    """The trees in rows of `length` tokens, with room for all else."""
    capacity = Capacity(length, length, length, length)
    trees = [conversation(seed) for seed in range(TREES)]
    pieces = [
        row for index, tree in enumerate(trees) for row in fragments(tree, build_trie(tree, chat), capacity, index)
    ]
    plan = best_fit(np.array([piece.sizes for piece in pieces]), capacity)
    return stack([pack([pieces[index] for index in members], capacity) for members in plan])


def shares(table: Table, length: int, chat: ChatFormat) -> None:
    """Add a line per block size: rows, filled share, and of all T x T pairs the unmasked ones and those in blocks that
    run."""
    rows = packed(length, chat)
    reach = rows.subtree_end - np.arange(length)  # queries that attend to each key; padding attends to itself
    for block in BLOCKS:
        running = np.asarray(running_blocks(rows.subtree_end, rows.positions, None, block))
        number, blocks, _ = running.shape
        causal = running.sum() / (number * blocks * (blocks + 1) / 2)
        seen = reach.sum() / (number * length**2)
        share = (f"{part:.1%}" for part in (np.mean(reach > 1), seen, running.mean(), causal))
        table.add_row(f"{length:,}", f"{number}", f"{block}", *share)


@dataclass(frozen=True)
class Memory:
    """Bytes per chip."""

    inputs: int  # query, key, value and the marks
    temporaries: int


def memory(length: int, topology: str) -> Memory:
    """The memory of one layer's attention, forward and backward, with one row of `length` tokens per chip."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    mesh = make_mesh(devices=devices)
    rows = PartitionSpec(ROWS)
    layer = functools.partial(pallas, window=None, soft_cap=None, scale=WIDTH**-0.5)
    sharded = jax.shard_map(layer, mesh=mesh, in_specs=(rows,) * 5, out_specs=rows, check_vma=False)

    def step(query: jax.Array, key: jax.Array, value: jax.Array, end: jax.Array, positions: jax.Array) -> jax.Array:
        out, pull = jax.vjp(lambda *qkv: sharded(*qkv, end, positions), query, key, value)
        return pull(out)  # any gradient of the output will do

    vectors = [((len(devices), length, heads, WIDTH), jnp.bfloat16) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    shapes = (*vectors, *[((len(devices), length), jnp.int32)] * 2)
    arguments = [jax.ShapeDtypeStruct(*shape, sharding=NamedSharding(mesh, rows)) for shape in shapes]
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # names the chip to Mosaic; JAX 0.12 asks for it
        figures = jax.jit(step).lower(*arguments).compile().memory_analysis()
    return Memory(figures.argument_size_in_bytes, figures.temp_size_in_bytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="v5e:2x2", help="as in `aloe plan`")
    arguments = parser.parse_args()
    console = Console()
    chat = ChatFormat.load(resolve_model("embedded:smollm2"))
    blocks = Table("row", "rows", "block", "filled", "pairs seen", "in running blocks", "of the causal blocks")
    for length in LENGTHS:
        shares(blocks, length, chat)
    console.print(blocks)
    held = Table("row", "q, k, v", "temporaries", "a [T, T] mask", "f32 scores", title="MiB a chip")
    for length in MEMORY_LENGTHS:
        figures = memory(length, arguments.topology)
        sizes = (figures.inputs, figures.temporaries, length**2, 4 * HEADS * length**2)
        held.add_row(f"{length:,}", *(f"{size / 2**20:,.1f}" for size in sizes))
    console.print(held)


if __name__ == "__main__":
    main()

"""The one table of how everything is sharded: logical axis names -> mesh axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from aloe_jax.errors import InputError
from aloe_jax.parallel.mesh import ROWS


class _Axes(NamedTuple):
    """The mesh axis of a logical axis in training, and in decoding. There weights are whole over `fsdp`, where every
    step would gather all of them; the rows of requests, and the pages of the cache that go with them, are spread over
    `replica` and `fsdp` (`ROWS`), as the rows of training are."""

    training: str | None
    decoding: str | None


RULES: dict[str, _Axes] = {
    "layers": _Axes(None, None),
    "vocab": _Axes("tensor", "tensor"),
    "embed": _Axes("fsdp", None),
    "heads": _Axes("tensor", "tensor"),
    "kv_heads": _Axes("tensor", "tensor"),
    "head_dim": _Axes(None, None),
    "mlp": _Axes("tensor", "tensor"),
    "norm": _Axes(None, None),
    "rank": _Axes(None, None),
}
# A tensor of at most so many bytes is replicated where its axes do not divide; a larger one is an error.
REPLICATED_BYTES = 1 << 20


def partition_spec(
    name: str, shape: tuple[int, ...], axes: tuple[str, ...], mesh: Mesh, itemsize: int = 4, decoding: bool = False
) -> PartitionSpec:
    """The layout of a tensor on the mesh, in training or in decoding.

    Raises InputError for a tensor above `REPLICATED_BYTES` of which an axis does not divide by its mesh axis.
    """
    spec: list[str | None] = []
    for size, axis in zip(shape, axes, strict=True):
        mesh_axis = RULES[axis].decoding if decoding else RULES[axis].training
        ways = mesh.shape[mesh_axis] if mesh_axis else 1
        if size % ways == 0:
            spec.append(mesh_axis if ways > 1 else None)
        elif math.prod(shape) * itemsize <= REPLICATED_BYTES:
            spec.append(None)
        else:
            section = "config.decode.mesh" if decoding else "config.mesh"
            raise InputError(
                f"{section}.{mesh_axis}: {ways} does not divide axis '{axis}' of {name} ({size} in {shape}); "
                f"choose a divisor of {size}"
            )
    return PartitionSpec(*spec)


def param_shardings(abstract: Any, axes: Any, mesh: Mesh, decoding: bool = False) -> Any:
    """The sharding of each parameter, in training or in decoding. `abstract` is a tree of `jax.ShapeDtypeStruct`,
    `axes` its logical axes."""

    def leaf(path: tuple[Any, ...], value: jax.ShapeDtypeStruct, names: tuple[str, ...]) -> NamedSharding:
        name = ".".join(part.key for part in path)
        return NamedSharding(mesh, partition_spec(name, value.shape, names, mesh, value.dtype.itemsize, decoding))

    return jax.tree_util.tree_map_with_path(leaf, abstract, axes)


def placed(abstract: Any, shardings: Any) -> Any:
    """A tree of `jax.ShapeDtypeStruct` with the shardings of its mirror."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), abstract, shardings
    )


def row_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
    """The sharding of rows: over replica and fsdp; `leading` axes before the row axis stay whole."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * leading, ROWS))


def pages_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of the KV cache's pages [N, G, P, K]: with the rows that use them, and over key heads like the
    weights that write them. (The axes behind stay whole; named as well, they would give the same layout another spec
    than programs return it with, and each program would be compiled twice.)"""
    return NamedSharding(mesh, PartitionSpec(ROWS, RULES["kv_heads"].decoding))


def constraint(mesh: Mesh | None, spec: PartitionSpec) -> Callable[[Array], Array]:
    """A function that pins the layout of an array inside a program; it does nothing without several devices."""
    if mesh is None or mesh.size == 1:
        return lambda array: array
    return lambda array: jax.lax.with_sharding_constraint(array, NamedSharding(mesh, spec))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of scalars and other small values: whole on every chip."""
    return NamedSharding(mesh, PartitionSpec())


def bytes_per_chip(tree: Any) -> float:
    """Bytes per chip of an abstract tree whose leaves have shardings."""
    return float(sum(_bytes_per_chip(leaf) for leaf in jax.tree.leaves(tree)))


def _bytes_per_chip(leaf: jax.ShapeDtypeStruct) -> int:
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def table(parts: Mapping[str, object], listed: Sequence[str]) -> str:
    """The sharding of abstract trees as text: one line per tensor of the `listed` parts with its name, shape, mesh axes
    (- for an axis that is not sharded) and MiB per chip, a mark where it is replicated, and one sum per part."""
    lines = []
    for part in listed:
        for path, leaf in jax.tree_util.tree_flatten_with_path(parts[part])[0]:
            name, spec = ".".join(str(key.key) for key in path), leaf.sharding.spec
            axes = [str(axis or "-") for axis in (*spec, *(None,) * (len(leaf.shape) - len(spec)))]
            whole = leaf.sharding.mesh.size > 1 and leaf.sharding.is_fully_replicated
            size, mark = _bytes_per_chip(leaf) / 2**20, "  whole on every chip" if whole else ""
            shape, where = " x ".join(map(str, leaf.shape)), " x ".join(axes)
            lines.append(f"{name:<28} {shape:<22} {where:<28} {size:10.2f}{mark}")
    head = f"{'':<28} {'shape':<22} {'mesh axes':<28} {'MiB per chip':>10}"
    sums = [f"{part:<80} {bytes_per_chip(tree) / 2**20:10.2f}" for part, tree in parts.items() if jax.tree.leaves(tree)]
    return "\n".join([head, *lines, *sums])

"""The KV cache: pages of keys and values of earlier tokens, one pair of arrays per layer.

Axes: N pages, G key heads, P tokens of a page, K head width, B rows, T new tokens of a row, W pages of a row.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as Spec
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from aloe_jax.decode.pages import SCRATCH
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Attend, LayerValues
from aloe_jax.ops.attention import AUTO
from aloe_jax.ops.paged_attention import IMPLEMENTATIONS, chosen
from aloe_jax.parallel.mesh import ROWS


class Pages(NamedTuple):
    """One layer's keys and values. Their sharding is in `parallel/sharding.py`: pages go with the rows that use them,
    heads with the weights that write them."""

    key: Float[Array, "N G P K"]
    value: Float[Array, "N G P K"]


def empty_pages(model: ModelConfig, pages: int, size: int, dtype: DTypeLike) -> tuple[Pages, ...]:
    """`pages` pages of `size` tokens for every layer."""
    shape = (pages, model.kv_heads, size, model.head_dim)
    return tuple(Pages(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)) for _ in range(model.layers))


def attend_pages(
    tables: Int[Array, "B W"], start: Int[Array, B], count: Int[Array, B], scale: float, mesh: Mesh | None
) -> Attend:
    """Attention of `count[b]` of T new tokens of each row, from position `start[b]` on, over the row's pages
    `tables[b]` and what they hold up to each token's own position, within the layer's window if it has one.

    The carry is the layer's `Pages`; the new keys and values are written to them first. A row that starts below 0 is
    idle. On a mesh a row and its pages are on the same devices, and `tables` has the numbers of that share's pages.
    """

    attention = IMPLEMENTATIONS[chosen(AUTO, mesh)]

    def local(
        layer: LayerValues,
        tables: Array,
        start: Array,
        count: Array,
        query: Array,
        key: Array,
        value: Array,
        pages: Pages,
    ) -> tuple[Array, Pages]:
        size = pages.key.shape[2]
        position = start[:, None] + jnp.arange(key.shape[1])
        written = (jnp.arange(key.shape[1]) < count[:, None]) & (start[:, None] >= 0)
        number = jnp.take_along_axis(tables, jnp.maximum(position, 0) // size, axis=1, mode="clip")
        number, offset = jnp.where(written, number, SCRATCH), position % size
        pages = Pages(_write(pages.key, number, offset, key), _write(pages.value, number, offset, value))
        values = {"window": layer.window, "soft_cap": layer.soft_cap}
        return attention(query, pages.key, pages.value, tables, start, scale=scale, **values), pages

    def attend(layer: LayerValues, query: Array, key: Array, value: Array, pages: Pages) -> tuple[Array, Pages]:
        if mesh is None:
            return local(layer, tables, start, count, query, key, value, pages)
        rows, heads, stored = Spec(ROWS), Spec(ROWS, None, "tensor"), Spec(ROWS, "tensor")
        whole = jax.tree.map(lambda _: Spec(), layer)
        return jax.shard_map(
            local,
            mesh=mesh,
            in_specs=(whole, rows, rows, rows, heads, heads, heads, Pages(stored, stored)),
            out_specs=(heads, Pages(stored, stored)),
            check_vma=False,
        )(layer, tables, start, count, query, key, value, pages)

    return attend


def copy_pages(
    pages: tuple[Pages, ...], source: Int[Array, N], target: Int[Array, N], mesh: Mesh | None
) -> tuple[Pages, ...]:
    """The cache with each page of `source` at the page of `target` as well; on a mesh equally many per share of the
    rows, with the numbers of that share's pages."""

    def local(pages: tuple[Pages, ...], source: Array, target: Array) -> tuple[Pages, ...]:
        return jax.tree.map(lambda stored: stored.at[target].set(stored[source]), pages)

    if mesh is None:
        return local(pages, source, target)
    stored = jax.tree.map(lambda _: Spec(ROWS, "tensor"), pages)
    rows = Spec(ROWS)
    return jax.shard_map(local, mesh=mesh, in_specs=(stored, rows, rows), out_specs=stored, check_vma=False)(
        pages, source, target
    )


def _write(
    stored: Float[Array, "N G P K"], number: Int[Array, "B T"], offset: Int[Array, "B T"], new: Float[Array, "B T G K"]
) -> Float[Array, "N G P K"]:
    return stored.at[number, :, offset].set(new.astype(stored.dtype))

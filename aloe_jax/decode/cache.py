"""The KV cache: pages of keys and values of earlier tokens, one pair of arrays per layer.

Axes: N pages, G key heads, P tokens of a page, K head width, B rows, T new tokens of a row, W pages of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as Spec
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from aloe_jax.decode.pages import SCRATCH
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Attend, LayerValues
from aloe_jax.ops.paged_attention import paged_attention
from aloe_jax.parallel.mesh import ROWS

_STORED = Spec(ROWS, "tensor")  # of pages


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

    def local(pages: Pages, tables: Array, start: Array, count: Array, key: Array, value: Array) -> Pages:
        size = pages.key.shape[2]
        position = start[:, None] + jnp.arange(key.shape[1])
        written = (jnp.arange(key.shape[1]) < count[:, None]) & (start[:, None] >= 0)
        number = jnp.take_along_axis(tables, jnp.maximum(position, 0) // size, axis=1, mode="clip")
        number, offset = jnp.where(written, number, SCRATCH), position % size
        return Pages(_write(pages.key, number, offset, key), _write(pages.value, number, offset, value))

    rows, heads, stored = Spec(ROWS), Spec(ROWS, None, "tensor"), Pages(_STORED, _STORED)
    write = _on_shares(local, mesh, (stored, rows, rows, rows, heads, heads), stored)

    def attend(layer: LayerValues, query: Array, key: Array, value: Array, pages: Pages) -> tuple[Array, Pages]:
        pages = write(pages, tables, start, count, key, value)
        out = paged_attention(
            query, *pages, tables, start, scale=scale, window=layer.window, soft_cap=layer.soft_cap, mesh=mesh
        )
        return out, pages

    return attend


def copy_pages(
    pages: tuple[Pages, ...], source: Int[Array, N], target: Int[Array, N], mesh: Mesh | None
) -> tuple[Pages, ...]:
    """The cache with each page of `source` at the page of `target` as well; on a mesh equally many per share of the
    rows, with the numbers of that share's pages."""

    def local(pages: tuple[Pages, ...], source: Array, target: Array) -> tuple[Pages, ...]:
        return jax.tree.map(lambda stored: stored.at[target].set(stored[source]), pages)

    stored, rows = jax.tree.map(lambda _: _STORED, pages), Spec(ROWS)
    return _on_shares(local, mesh, (stored, rows, rows), stored)(pages, source, target)


def _on_shares(local: Callable[..., Any], mesh: Mesh | None, arguments: Any, results: Any) -> Callable[..., Any]:
    """A function of one share's arrays as a function of those of all shares."""
    if mesh is None:
        return local
    return jax.shard_map(local, mesh=mesh, in_specs=arguments, out_specs=results, check_vma=False)


def _write(
    stored: Float[Array, "N G P K"], number: Int[Array, "B T"], offset: Int[Array, "B T"], new: Float[Array, "B T G K"]
) -> Float[Array, "N G P K"]:
    """The pages with new keys or values in them. The heads are indexed too: if each update spanned all of them, XLA for
    TPUs would lay the pages out with heads beside each other, and copy all pages before and after the attention."""
    heads = jnp.arange(stored.shape[1])
    return stored.at[number[:, :, None], heads, offset[:, :, None]].set(new.astype(stored.dtype))

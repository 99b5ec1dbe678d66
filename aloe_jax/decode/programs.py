"""The compiled programs of the engine, which `aloe plan` compiles for TPUs as well.

`prefill` runs chunks of prompts, `burst` decodes rows for a few steps, `copy` copies pages. All three are made of the
same few parts: the embedding, a layer, the head with the drawing of a token. On accelerators, and over several
devices, a burst is one program. On one CPU each part is a program, and the host calls them layer by layer: XLA compiles
a single layer in a second and thirty of them at once in ten, and a call costs nothing beside a layer's products there.

Axes: B rows, T tokens of a chunk, W pages of a row, V vocabulary, M words of 32 tokens' bits, N steps of a burst, E
end-of-turn tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, UInt32

from aloe_jax.decode.cache import Pages, attend_pages, copy_pages
from aloe_jax.decode.sampling import Sampled, sample
from aloe_jax.models import apart
from aloe_jax.models.apart import LayerInput, Layers
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Options, Params
from aloe_jax.ops.precision import in_precision_of
from aloe_jax.parallel.mesh import ROWS
from aloe_jax.parallel.sharding import constraint, pages_sharding

BURST = 8  # maximum of decode steps between two looks at the results

Cache = tuple[Pages, ...]  # of each layer


class Chunks(NamedTuple):
    """Chunks of prompts to run: `length[b]` of the T tokens from position `start[b]` on of a row with the pages
    `tables[b]`. A later chunk of a sequence may stand beside an earlier one: keys are written before any is read."""

    tokens: Int[Array, "B T"]
    start: Int[Array, B]
    length: Int[Array, B]
    tables: Int[Array, "B W"]


class Rows(NamedTuple):
    """Sequences that decode, from their last token on."""

    token: Int[Array, B]  # the next token to run through the model
    position: Int[Array, B]
    left: Int[Array, B]  # tokens that may be sampled in this burst; 0 = idle
    key: UInt32[Array, "B 2"]
    temperature: Float[Array, B]
    top_p: Float[Array, B]
    top_k: Int[Array, B]
    tables: Int[Array, "B W"]


class Drawn(NamedTuple):
    """The results of steps [N, B, ...]: whether each row was going, and its sampled token if so."""

    going: Bool[Array, "N B"]
    sampled: Sampled


@dataclass(frozen=True)
class Setup:
    """What the programs depend on besides their arguments. `ends` are the tokens that end a turn, `vocab` is the
    tokenizer's vocabulary, beyond which nothing is drawn."""

    model: ModelConfig
    dtype: str
    ends: tuple[int, ...]
    vocab: int | None = None
    mesh: Mesh | None = None

    @property
    def options(self) -> Options:
        return Options(jnp.dtype(self.dtype), constrain=constraint(self.mesh, PartitionSpec(ROWS)))


def embed(outer: Params, tokens: Int[Array, "B T"], *, setup: Setup) -> Float[Array, "B T D"]:
    """The states before the first layer."""
    return apart.embedded(outer, setup.model, tokens, setup.options)


def layer(
    part: LayerInput,
    x: Float[Array, "B T D"],
    pages: Pages,
    start: Int[Array, B],
    count: Int[Array, B],
    tables: Int[Array, "B W"],
    *,
    setup: Setup,
) -> tuple[Float[Array, "B T D"], Pages]:
    """The states after a layer, and its pages with the new keys and values."""
    attend = attend_pages(tables, start, count, setup.model.scale, setup.mesh)
    positions = jnp.maximum(start, 0)[:, None] + jnp.arange(x.shape[1])
    return apart.layer_states(part, setup.model, x, positions, attend, pages, setup.options)


def draw(
    outer: Params,
    x: Float[Array, "B 1 D"],
    rows: Rows,
    allowed: UInt32[Array, "B M"],
    want_top: Bool[Array, ""],
    *,
    setup: Setup,
) -> tuple[Rows, Drawn]:
    """The rows after a step, and what they drew from the `allowed` tokens."""
    logits = apart.head_logits(outer, setup.model, x[:, 0])
    keys = jax.vmap(jax.random.fold_in)(jax.random.wrap_key_data(rows.key), rows.position)
    sampled = sample(logits, keys, rows.temperature, rows.top_p, rows.top_k, setup.vocab, allowed, want_top)
    going = rows.left > 0
    ended = jnp.any(sampled.token[:, None] == jnp.asarray(setup.ends, jnp.int32), axis=1)
    rows = rows._replace(
        token=jnp.where(going, sampled.token, rows.token),
        position=rows.position + going,
        left=jnp.where(going & ~ended, rows.left - 1, 0),
    )
    return rows, Drawn(going, sampled)


def begin(outer: Params, rows: Rows, *, setup: Setup) -> tuple[Float[Array, "B 1 D"], Int[Array, B], Int[Array, B]]:
    """The states of the rows' next tokens, and where they start: idle rows below 0; each has one token."""
    start = jnp.where(rows.left > 0, rows.position, -1)
    return embed(outer, rows.token[:, None], setup=setup), start, jnp.ones_like(start)


class Parts(NamedTuple):
    """The parts of the programs, compiled by themselves or only when they are part of a larger program."""

    embed: Callable[..., Array]
    begin: Callable[..., tuple[Array, Array, Array]]
    layer: Callable[..., tuple[Array, Pages]]
    draw: Callable[..., tuple[Rows, Drawn]]


def _run_layers(
    parts: Parts, params: Layers, x: Array, cache: Cache, start: Array, count: Array, tables: Array
) -> tuple[Array, Cache]:
    found = []
    for each, pages in zip(params.layers, cache, strict=True):
        x, pages = parts.layer(each, x, pages, start, count, tables)
        found.append(pages)
    return x, tuple(found)


def _prefill(parts: Parts, params: Layers, cache: Cache, chunks: Chunks) -> Cache:
    """The cache after the chunks were run."""
    x = parts.embed(params.outer, chunks.tokens)
    return _run_layers(parts, params, x, cache, chunks.start, chunks.length, chunks.tables)[1]


def _step(
    parts: Parts, params: Layers, cache: Cache, rows: Rows, allowed: Array, want_top: Array
) -> tuple[Cache, Rows, Drawn]:
    x, start, count = parts.begin(params.outer, rows)
    x, cache = _run_layers(parts, params, x, cache, start, count, rows.tables)
    rows, drawn = parts.draw(params.outer, x, rows, allowed, want_top)
    return cache, rows, drawn


def _burst_on_device(
    parts: Parts, params: Layers, cache: Cache, rows: Rows, allowed: Array, want_top: Array, steps: Array
) -> tuple[Cache, Drawn]:
    """A burst as one program, which ends when no row is left. Of `BURST` places only the first `steps` are filled:
    their number is a value and not a shape."""
    step = functools.partial(_step, parts, params, allowed=allowed, want_top=want_top)
    shapes = jax.eval_shape(lambda: step(cache=cache, rows=rows)[2])
    found = jax.tree.map(lambda leaf: jnp.zeros((BURST, *leaf.shape), leaf.dtype), shapes)

    def more(carry: tuple[Array, Cache, Rows, Drawn]) -> Array:
        return (carry[0] < steps) & jnp.any(carry[2].left > 0)

    def body(carry: tuple[Array, Cache, Rows, Drawn]) -> tuple[Array, Cache, Rows, Drawn]:
        number, cache, rows, found = carry
        cache, rows, drawn = step(cache=cache, rows=rows)
        return number + 1, cache, rows, jax.tree.map(lambda places, leaf: places.at[number].set(leaf), found, drawn)

    _, cache, _, found = jax.lax.while_loop(more, body, (jnp.int32(0), cache, rows, found))
    return cache, found


def _burst_by_parts(
    parts: Parts, params: Layers, cache: Cache, rows: Rows, allowed: Array, want_top: Array, steps: int
) -> tuple[Cache, Drawn]:
    """The same burst, part by part from the host."""
    found = []
    for _ in range(int(steps)):
        cache, rows, drawn = _step(parts, params, cache, rows, allowed, want_top)
        found.append(drawn)
    # On the host: every number of steps would be a program of its own.
    return cache, jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(found))


class Programs(NamedTuple):
    """`prefill(params, cache, chunks) -> cache`, `burst(params, cache, rows, allowed, want_top, steps) -> (cache,
    drawn)`, `copy(cache, source, target) -> cache`; the cache is donated. `compiled()` is the number of programs that
    were compiled."""

    prefill: Callable[[Layers, Cache, Chunks], Cache]
    burst: Callable[..., tuple[Cache, Drawn]]
    copy: Callable[[Cache, Array, Array], Cache]
    compiled: Callable[[], int]


@functools.lru_cache(maxsize=16)
def programs(setup: Setup, whole: bool) -> Programs:
    """The programs of a setup, as one program each (`whole`) or part by part. Engines of one setup share them."""

    def part(function: Callable[..., Any]) -> Callable[..., Any]:
        return in_precision_of(setup.dtype)(functools.partial(function, setup=setup))

    # The cache comes back as it was given, or a call with it would count as another program.
    kept = setup.mesh and pages_sharding(setup.mesh)
    copy = jax.jit(functools.partial(copy_pages, mesh=setup.mesh), donate_argnums=0, out_shardings=kept)
    if whole:
        parts = Parts(part(embed), part(begin), part(layer), part(draw))
        prefill = jax.jit(functools.partial(_prefill, parts), donate_argnums=1, out_shardings=kept)
        burst = jax.jit(functools.partial(_burst_on_device, parts), donate_argnums=1, out_shardings=(kept, None))
        compiled = (prefill, burst, copy)
        return Programs(prefill, burst, copy, functools.partial(_count, compiled))
    jitted = Parts(
        jax.jit(part(embed)), jax.jit(part(begin)), jax.jit(part(layer), donate_argnums=2), jax.jit(part(draw))
    )
    return Programs(
        functools.partial(_prefill, jitted),
        functools.partial(_burst_by_parts, jitted),
        copy,
        functools.partial(_count, (*jitted, copy)),
    )


def _count(jitted: tuple[Any, ...]) -> int:
    return sum(function._cache_size() for function in jitted)

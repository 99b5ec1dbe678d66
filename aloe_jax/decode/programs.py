"""The compiled programs of the engine, which `aloe plan` compiles for TPUs as well.

`prefill` runs chunks of prompts, `score` does and computes the log-probabilities of their tokens, `burst` decodes rows
for a few steps, `copy` copies pages. They are made of the same few parts: the embedding, a layer, the head with the
drawing of a token. A burst of rows with sampling options is another program than one without. On accelerators, and
over several devices, a burst is one program. On one CPU each part is a program, and the host calls them layer by layer:
XLA compiles a single layer in a second and thirty of them at once in ten, and a call costs nothing beside a layer's
products there.

Axes: B rows, T tokens of a chunk, W pages of a row, V vocabulary, M words of 32 tokens' bits, N steps of a burst, E
end-of-turn tokens.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, UInt32

from aloe_jax.decode.adjust import Adjustments, Tally, counted, moves, tally
from aloe_jax.decode.cache import Pages, attend_pages, copy_pages
from aloe_jax.decode.plans import MOST_CHUNKS
from aloe_jax.decode.sampling import Sampled, most_probable, sample
from aloe_jax.models import apart
from aloe_jax.models.apart import LayerInput, Layers
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Options, Params
from aloe_jax.ops.precision import in_precision_of
from aloe_jax.parallel.mesh import ROWS, row_shards
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


class Scores(NamedTuple):
    """Natural log-probabilities of the tokens after those of chunks, and the most probable tokens at their places."""

    log_prob: Float[Array, "B T"]
    top_ids: Int[Array, "B T N"]
    top_log_probs: Float[Array, "B T N"]


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
    adjustments: Adjustments | None = None,
    found: Tally | None = None,
    *,
    setup: Setup,
) -> tuple[Rows, Tally | None, Drawn]:
    """The rows after a step, their tally, and what they drew from the `allowed` tokens. `adjustments` and the tally are
    given where some row has options."""
    logits = apart.head_logits(outer, setup.model, x[:, 0])
    keys = jax.vmap(jax.random.fold_in)(jax.random.wrap_key_data(rows.key), rows.position)
    going, ends, options = rows.left > 0, jnp.asarray(setup.ends, jnp.int32), {}
    if adjustments is not None and found is not None:
        options = {"moved": moves(logits, adjustments, found, rows.position), "min_p": adjustments.min_p}
        ends = adjustments.ends
    sampled = sample(logits, keys, rows.temperature, rows.top_p, rows.top_k, setup.vocab, allowed, want_top, **options)
    ended = jnp.any(sampled.token[:, None] == ends, axis=1)
    found = found and counted(found, sampled.token, going)
    rows = rows._replace(
        token=jnp.where(going, sampled.token, rows.token),
        position=rows.position + going,
        left=jnp.where(going & ~ended, rows.left - 1, 0),
    )
    return rows, found, Drawn(going, sampled)


def begin(outer: Params, rows: Rows, *, setup: Setup) -> tuple[Float[Array, "B 1 D"], Int[Array, B], Int[Array, B]]:
    """The states of the rows' next tokens, and where they start: idle rows below 0; each has one token."""
    start = jnp.where(rows.left > 0, rows.position, -1)
    return embed(outer, rows.token[:, None], setup=setup), start, jnp.ones_like(start)


def tallied(adjustments: Adjustments, position: Int[Array, B], *, setup: Setup) -> Tally:
    """The tokens that rows have at the beginning of a burst."""
    return tally(adjustments, position, setup.model.vocab)


def scored(
    outer: Params, x: Float[Array, "B T D"], targets: Int[Array, "B T"], want_top: Bool[Array, ""], *, setup: Setup
) -> Scores:
    """The scores of `targets` by the states before them. The head takes so many states at once that it takes no more
    than for `MOST_CHUNKS` rows per share, of whole chunks if there are few: all logits would not fit."""
    rows, length, width = x.shape
    shares = 1 if setup.mesh is None else row_shards(setup.mesh)
    together = math.gcd(length, max(MOST_CHUNKS * shares // rows, 1))

    def piece(part: tuple[Array, Array]) -> Scores:
        states, targets = part
        logits = apart.head_logits(outer, setup.model, states.reshape(-1, width))
        log_probs = jax.nn.log_softmax(logits, axis=-1)
        log_prob = jnp.take_along_axis(log_probs, targets.reshape(-1, 1), axis=-1)
        if setup.vocab is not None:
            log_probs = log_probs.at[:, setup.vocab :].set(-jnp.inf)
        found = Scores(log_prob[:, 0], *most_probable(log_probs, want_top))
        return jax.tree.map(lambda leaf: leaf.reshape(*targets.shape, *leaf.shape[1:]), found)

    cut = lambda array: array.reshape(rows, -1, together, *array.shape[2:]).swapaxes(0, 1)  # noqa: E731
    pieces = jax.lax.map(piece, (cut(x), cut(targets)))
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1).reshape(rows, length, *leaf.shape[3:]), pieces)


class Parts(NamedTuple):
    """The parts of the programs, compiled by themselves or only when they are part of a larger program."""

    embed: Callable[..., Array]
    begin: Callable[..., tuple[Array, Array, Array]]
    layer: Callable[..., tuple[Array, Pages]]
    draw: Callable[..., tuple[Rows, Tally | None, Drawn]]
    tallied: Callable[..., Tally]
    scored: Callable[..., Scores]


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
    return _run_chunks(parts, params, cache, chunks)[1]


def _score(
    parts: Parts, params: Layers, cache: Cache, chunks: Chunks, targets: Array, want_top: Array
) -> tuple[Cache, Scores]:
    """The cache after the chunks were run, and the scores of the tokens after theirs."""
    x, cache = _run_chunks(parts, params, cache, chunks)
    return cache, parts.scored(params.outer, x, targets, want_top)


def _run_chunks(parts: Parts, params: Layers, cache: Cache, chunks: Chunks) -> tuple[Array, Cache]:
    x = parts.embed(params.outer, chunks.tokens)
    return _run_layers(parts, params, x, cache, chunks.start, chunks.length, chunks.tables)


def _step(
    parts: Parts,
    params: Layers,
    cache: Cache,
    rows: Rows,
    found: Tally | None,
    allowed: Array,
    want_top: Array,
    adjustments: Adjustments | None,
) -> tuple[Cache, Rows, Tally | None, Drawn]:
    x, start, count = parts.begin(params.outer, rows)
    x, cache = _run_layers(parts, params, x, cache, start, count, rows.tables)
    return cache, *parts.draw(params.outer, x, rows, allowed, want_top, adjustments, found)


def _burst_on_device(
    parts: Parts,
    params: Layers,
    cache: Cache,
    rows: Rows,
    allowed: Array,
    want_top: Array,
    steps: Array,
    adjustments: Adjustments | None = None,
) -> tuple[Cache, Drawn]:
    """A burst as one program, which ends when no row is left. Of `BURST` places only the first `steps` are filled:
    their number is a value and not a shape."""
    step = functools.partial(_step, parts, params, allowed=allowed, want_top=want_top, adjustments=adjustments)
    count = adjustments and parts.tallied(adjustments, rows.position)
    shapes = jax.eval_shape(lambda: step(cache, rows, count)[3])
    found = jax.tree.map(lambda leaf: jnp.zeros((BURST, *leaf.shape), leaf.dtype), shapes)

    def more(carry: tuple[Array, Cache, Rows, Tally | None, Drawn]) -> Array:
        return (carry[0] < steps) & jnp.any(carry[2].left > 0)

    def body(
        carry: tuple[Array, Cache, Rows, Tally | None, Drawn],
    ) -> tuple[Array, Cache, Rows, Tally | None, Drawn]:
        number, cache, rows, count, found = carry
        cache, rows, count, drawn = step(cache, rows, count)
        found = jax.tree.map(lambda places, leaf: places.at[number].set(leaf), found, drawn)
        return number + 1, cache, rows, count, found

    _, cache, _, _, found = jax.lax.while_loop(more, body, (jnp.int32(0), cache, rows, count, found))
    return cache, found


def _burst_by_parts(
    parts: Parts,
    params: Layers,
    cache: Cache,
    rows: Rows,
    allowed: Array,
    want_top: Array,
    steps: int,
    adjustments: Adjustments | None = None,
) -> tuple[Cache, Drawn]:
    """The same burst, part by part from the host."""
    count = adjustments and parts.tallied(adjustments, rows.position)
    found = []
    for _ in range(int(steps)):
        cache, rows, count, drawn = _step(parts, params, cache, rows, count, allowed, want_top, adjustments)
        found.append(drawn)
    # On the host: every number of steps would be a program of its own.
    return cache, jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(found))


class Programs(NamedTuple):
    """`prefill(params, cache, chunks) -> cache`, `score(params, cache, chunks, targets, want_top) -> (cache, scores)`,
    `burst(params, cache, rows, allowed, want_top, steps, adjustments) -> (cache, drawn)`, `copy(cache, source, target)
    -> cache`; the cache is donated. `compiled()` is the number of programs that were compiled."""

    prefill: Callable[[Layers, Cache, Chunks], Cache]
    score: Callable[..., tuple[Cache, Scores]]
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
        parts = Parts(part(embed), part(begin), part(layer), part(draw), part(tallied), part(scored))
        prefill = jax.jit(functools.partial(_prefill, parts), donate_argnums=1, out_shardings=kept)
        score = jax.jit(functools.partial(_score, parts), donate_argnums=1, out_shardings=(kept, None))
        burst = jax.jit(functools.partial(_burst_on_device, parts), donate_argnums=1, out_shardings=(kept, None))
        compiled = (prefill, score, burst, copy)
        return Programs(prefill, score, burst, copy, functools.partial(_count, compiled))
    jitted = Parts(
        jax.jit(part(embed)),
        jax.jit(part(begin)),
        jax.jit(part(layer), donate_argnums=2),
        jax.jit(part(draw)),
        jax.jit(part(tallied)),
        jax.jit(part(scored)),
    )
    return Programs(
        functools.partial(_prefill, jitted),
        functools.partial(_score, jitted),
        functools.partial(_burst_by_parts, jitted),
        copy,
        functools.partial(_count, (*jitted, copy)),
    )


def _count(jitted: tuple[Any, ...]) -> int:
    return sum(function._cache_size() for function in jitted)

"""What the devices hold and run: parameters, pages and the compiled programs.

On several hosts every process has one, over the mesh of all devices, and all run the same plans (`decode/plans.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from aloe_jax.decode.adjust import Adjustments
from aloe_jax.decode.cache import Pages, empty_pages
from aloe_jax.decode.plans import Burst, Plan, Prefill, Shape, make_shape
from aloe_jax.decode.programs import Chunks, Drawn, Rows, Scores, Setup, programs
from aloe_jax.decode.sampling import ALL
from aloe_jax.errors import InputError
from aloe_jax.models import apart, decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.ops.attention import on_tpu, platform_of
from aloe_jax.parallel.mesh import ROWS, row_shards
from aloe_jax.parallel.sharding import pages_sharding, replicated

Result = TypeVar("Result", Drawn, Scores)


class Executor:
    """Runs plans for a model whose cache has the sizes of `shape`.

    `end_of_turn` are the tokens that end a reply; `vocab` is the size of the tokenizer's vocabulary, beyond which an
    output head is only padded. The parameters may be sharded in any way over the devices of `mesh`. `whole` makes a
    burst one program; by default it is one on accelerators and over several devices.

    Raises InputError if the mesh does not fit the model.
    """

    def __init__(
        self,
        model: ModelConfig,
        params: decoder.Params,
        shape: Shape,
        *,
        end_of_turn: frozenset[int],
        vocab: int | None = None,
        mesh: Mesh | None = None,
        dtype: str = "float32",
        whole: bool | None = None,
    ) -> None:
        check_mesh(model, mesh)
        self.shape, self.model = shape, model
        self.mesh = None if mesh is None or mesh.size == 1 else mesh
        setup = Setup(model, dtype, tuple(sorted(end_of_turn)), vocab, self.mesh)
        cpu = platform_of(mesh) == "cpu"
        # Devices of one CPU share its threads: programs with collectives that overlap could block each other.
        self._one_at_a_time = cpu and self.mesh is not None
        self._whole = (not cpu or self._one_at_a_time) if whole is None else whole
        self._programs = programs(setup, self._whole)
        self._unconstrained: dict[int, jax.Array] = {}  # by the number of rows
        self.end_of_turn = end_of_turn
        self._owners = _share_owners(self.mesh)
        self.decoded = dict.fromkeys(self._owners, 0)  # tokens drawn, by the process whose devices drew them
        # All arrays are placed alike, or each program would be compiled for every way in which they are.
        self._device = SingleDeviceSharding(jax.devices()[0] if mesh is None else mesh.devices.flat[0])
        self._making = _making(model, dtype, self.mesh, self._device)
        self.load(params)
        self._gather = jax.jit(lambda tree: tree, out_shardings=self.mesh and replicated(self.mesh))

    def load(self, params: decoder.Params) -> None:
        """Replace the parameters, which stay on the devices on their way into the layout of decoding, and empty the
        cache: NaN that diverged parameters left in a page would not stay behind a mask, since 0 x NaN is NaN."""
        self.unload()  # so that there are never two
        outer, layers = self._making.outer(params), []
        for number in range(self.model.layers):
            layers.append(self._making.layer(params["layers"], np.int32(number)))
            self._wait(layers)
        self._params = apart.Layers(outer, tuple(layers))
        self._cache = self._making.pages(self.shape.shares * self.shape.pages, self.shape.page)

    def unload(self) -> None:
        """Free the memory of parameters and cache until others are loaded."""
        for name in ("_params", "_cache"):
            vars(self).pop(name, None)

    @property
    def compiled(self) -> int:
        """The number of programs compiled so far, by all engines of this setup."""
        return self._programs.compiled()

    @property
    def most_compiled(self) -> int:
        """The number of programs that there can be; those for sampling options and for scored prompts are compiled when
        a request has some."""
        rows, chunks = len(self.shape.row_buckets), len(self.shape.chunk_buckets)
        return 2 * rows + 2 * chunks + 1 if self._whole else 5 * rows + 3 * chunks + 1

    @property
    def memory(self) -> str:
        """What parameters and cache take, over all devices, as text."""
        params, pages = (
            sum(leaf.nbytes for leaf in jax.tree.leaves(held)) / 2**30 for held in (self._params, self._cache)
        )
        rows, context = self.shape.rows * self.shape.shares, self.shape.context
        return f"{params:.2f} GiB of parameters, {pages:.2f} GiB of pages for {rows} sequences of {context:,} tokens"

    def run(self, plan: Plan) -> Drawn | Scores | None:
        """Run a plan. The results are on the host: of a burst [N, B, ...], of a prefill with targets [B, T, ...]."""
        if isinstance(plan, Burst):
            return self._burst(plan)
        if isinstance(plan, Prefill):
            return self._prefill(plan)
        self._cache = self._programs.copy(self._cache, self._rows(plan.source), self._rows(plan.target))
        self._wait(self._cache)
        return None

    def close(self) -> None:
        """Free all memory on the devices."""
        self.unload()
        vars(self).pop("_unconstrained", None)

    def _prefill(self, plan: Prefill) -> Scores | None:
        chunks = Chunks(*(self._rows(getattr(plan, name)) for name in Chunks._fields))
        if not len(plan.targets):
            self._cache = self._programs.prefill(self._params, self._cache, chunks)
            self._wait(self._cache)
            return None
        targets, want_top = self._rows(plan.targets), self._everywhere(plan.want_top)
        self._cache, scores = self._programs.score(self._params, self._cache, chunks, targets, want_top)
        self._wait(self._cache)
        return self._on_host(scores)

    def _burst(self, plan: Burst) -> Drawn:
        rows = Rows(*(self._rows(getattr(plan, name)) for name in Rows._fields))
        steps, number = int(plan.steps), len(plan.token)
        allowed = self._rows(plan.allowed) if len(plan.allowed) else self._all_allowed(number)
        adjustments = None
        if len(plan.seen):
            adjustments = Adjustments(*(self._rows(getattr(plan, name)) for name in Adjustments._fields))
        self._cache, drawn = self._programs.burst(
            self._params, self._cache, rows, allowed, self._everywhere(plan.want_top), plan.steps, adjustments
        )
        self._wait(self._cache)
        drawn = jax.tree.map(lambda leaf: leaf[:steps], self._on_host(drawn))
        by_share = drawn.going.reshape(steps, len(self._owners), -1).sum(axis=(0, 2))
        for owner, count in zip(self._owners, by_share.tolist(), strict=True):
            self.decoded[owner] += count
        return drawn

    def _on_host(self, tree: Result) -> Result:
        return jax.device_get(self._gather(tree) if self.mesh else tree)

    def _wait(self, results: Any) -> None:
        if self._one_at_a_time:
            jax.block_until_ready(results)

    def _rows(self, array: np.ndarray) -> jax.Array:
        """An array on the devices, its first axis spread as rows are."""
        return self._placed(array, PartitionSpec(ROWS))

    def _everywhere(self, array: np.ndarray) -> jax.Array:
        return self._placed(array, PartitionSpec())

    def _placed(self, array: np.ndarray, spec: PartitionSpec) -> jax.Array:
        if self.mesh is None:
            return jax.device_put(array, self._device)
        place = NamedSharding(self.mesh, spec)
        return jax.make_array_from_callback(array.shape, place, lambda index: array[index])

    def _all_allowed(self, rows: int) -> jax.Array:
        if rows not in self._unconstrained:
            words = np.full((rows, words_of(self.model)), ALL, np.uint32)
            self._unconstrained[rows] = self._rows(words)
        return self._unconstrained[rows]


class _Making(NamedTuple):
    """What makes the arrays of an executor: `outer(params)` and `layer(stacked, number)` the parts of its parameters,
    `pages(pages, size)` the empty cache."""

    outer: Callable[[decoder.Params], decoder.Params]
    layer: Callable[[decoder.Params, np.int32], apart.LayerInput]
    pages: Callable[[int, int], tuple[Pages, ...]]


@functools.lru_cache(maxsize=16)
def _making(model: ModelConfig, dtype: str, mesh: Mesh | None, device: SingleDeviceSharding) -> _Making:
    """Compiled once for all executors of such a model, and however often parameters are replaced."""
    places = apart.apart_shardings(model, mesh) if mesh else apart.Layers(device, (device,))
    outer = jax.jit(functools.partial(apart.outer, dtype=dtype), out_shardings=places.outer)
    layer = jax.jit(
        lambda stacked, number: apart.layer_input(stacked, model, dtype, number), out_shardings=places.layers[0]
    )
    pages = jax.jit(
        lambda pages, size: empty_pages(model, pages, size, jnp.dtype(dtype)),
        static_argnums=(0, 1),
        out_shardings=pages_sharding(mesh) if mesh else device,
    )
    return _Making(outer, layer, pages)


def words_of(model: ModelConfig) -> int:
    """The number of words of 32 tokens' bits that the model's vocabulary takes."""
    return -(-model.vocab // 32)


def shape_for(slots: int, context: int, mesh: Mesh | None, pages: int | None = None) -> Shape:
    """The sizes of an engine on `mesh`. Pages and chunks of TPUs fit the tiles of their attention kernel."""
    page, chunk = (128, 128) if on_tpu(mesh) else (64, 16)
    return make_shape(slots=slots, context=context, page=page, chunk=chunk, shares=shares_of(mesh), pages=pages)


def shares_of(mesh: Mesh | None) -> int:
    """The number of shares that rows and pages are spread over."""
    return 1 if mesh is None else row_shards(mesh)


def check_mesh(model: ModelConfig, mesh: Mesh | None) -> None:
    """InputError if the key heads do not divide over the mesh's `tensor` axis."""
    ways = 1 if mesh is None else mesh.shape["tensor"]
    if model.kv_heads % ways:
        fit = [size for size in range(1, model.kv_heads + 1) if model.kv_heads % size == 0]
        raise InputError(
            f"config.decode.mesh.tensor: {ways} does not divide the model's {model.kv_heads} key heads; choose one of "
            f"{', '.join(map(str, fit))}, and give the other devices to config.decode.mesh.fsdp"
        )


def _share_owners(mesh: Mesh | None) -> list[int]:
    """The process whose devices decode each share; the first one's, where a share is on several."""
    if mesh is None:
        return [jax.process_index()]
    return [devices[0].process_index for devices in mesh.devices.reshape(row_shards(mesh), -1)]

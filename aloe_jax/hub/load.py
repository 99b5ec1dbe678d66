"""Parameters from a Hugging Face folder, read straight to the shards of each device.

A large parameter is allocated on its devices and filled piece by piece in place, while the next pieces are read. So a
process reads no byte that its devices do not hold, reads none twice, and has only a few pieces in host memory.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec

from aloe_jax.hub import blocks, config_file, families, tensors
from aloe_jax.hub.blocks import Piece, Stored
from aloe_jax.hub.byte_ranges import Index
from aloe_jax.hub.safetensors_file import FileTensor
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.params import Params, get_leaf, set_leaf

Item = TypeVar("Item")
Result = TypeVar("Result")

PIECE_BYTES = 16 << 20  # bytes per read for all devices of the process
READERS = 8  # threads; a store serves many requests at once, each of them slowly


def load_model(
    folder: epath.PathLike, shardings: Params | None = None, dtype: str = "float32"
) -> tuple[ModelConfig, Params]:
    """The config and parameters of a Hugging Face folder. Raises InputError as `load_params` does."""
    config, _ = config_file.read_config(folder)
    return config, load_params(folder, config, shardings, dtype)


def load_params(
    folder: epath.PathLike, config: ModelConfig, shardings: Params | None = None, dtype: str = "float32"
) -> Params:
    """The parameters of the model in `folder`, local or `gs://`, as jax arrays.

    `shardings` has the structure of the parameters with one `NamedSharding` per leaf; each process then reads only the
    shards of its devices, and every process of the mesh must call this. None puts everything on the default device.
    `dtype` is float32, bfloat16 or float16.

    Raises InputError for tensors that are missing, extra, misshapen or truncated, and for an unknown `dtype`.
    """
    wanted = tensors.as_dtype(dtype)
    stored = tensors.checked(tensors.read_safetensors(folder), config, str(folder))
    leaves: dict[tuple[str, ...], _Leaf] = {}
    for weight in families.weights(config):
        found = [stored[name] for name in families.tensor_names(weight, config)]
        layers = len(found) if weight.path[0] == "layers" else None
        target = None if shardings is None else get_leaf(shardings, weight.path)
        leaves[weight.path] = _Leaf(blocks.stored(weight, layers), found, target, wanted)
    work = [(leaf, piece) for leaf in leaves.values() for piece in leaf.pieces]
    for (leaf, piece), arrays in _ahead(work, lambda item: item[0].read(item[1])):
        leaf.fill(piece, arrays)
    params: Params = {}
    for path, leaf in leaves.items():
        set_leaf(params, path, leaf.value)
    return params


def _ahead(work: Iterable[Item], read: Callable[[Item], Result]) -> Iterator[tuple[Item, Result]]:
    """Each item with the result of `read`, in order; other threads read the next few meanwhile."""
    waiting: collections.deque[tuple[Item, Future[Result]]] = collections.deque()
    with ThreadPoolExecutor(READERS) as pool:
        for item in work:
            waiting.append((item, pool.submit(read, item)))
            if len(waiting) == READERS:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


class _Leaf:
    """One parameter that is filled by `pieces`. `target` None is the default device."""

    def __init__(
        self, stored: Stored, found: Sequence[FileTensor], target: NamedSharding | None, dtype: np.dtype
    ) -> None:
        self._stored, self._tensors, self._target = stored, found, target
        self._shape = stored.to_param(stored.shape)
        whole = (slice(None),) * len(self._shape)
        places = {None: whole} if target is None else target.addressable_devices_indices_map(self._shape)
        self._shards = {device: stored.index(index or whole) for device, index in places.items()}
        shard_shape = [part.stop - part.start for part in next(iter(self._shards.values()))]
        self.pieces = list(blocks.pieces(shard_shape, _local_shards(self._shape, target) * dtype.itemsize, PIECE_BYTES))
        # With several pieces bfloat16 is transferred as it is stored and widened on the device. All other types are
        # converted on the host: small float16 numbers are denormal, and not every device keeps those.
        widened = dtype == np.float32 and all(tensor.dtype == ml_dtypes.bfloat16 for tensor in found)
        self._transfer_dtype = np.dtype(ml_dtypes.bfloat16) if widened and len(self.pieces) > 1 else dtype
        self._dtype = dtype
        self.value: jax.Array | None = None

    def read(self, piece: Piece) -> list[tuple[Index, np.ndarray]]:
        """The blocks of a piece that this process needs, each with its index."""
        wanted = blocks.merged(piece.of(shard) for shard in self._shards.values())
        return [(block, self._read_block(block)) for block in wanted]

    def _read_block(self, block: Index) -> np.ndarray:
        layers = range(block[0].start, block[0].stop)
        read = (self._tensors[layer].read_block(*self._stored.in_tensor(block)) for layer in layers)
        found = [array.astype(self._transfer_dtype, copy=False) for array in read]
        return found[0][None] if len(found) == 1 else np.stack(found)

    def fill(self, piece: Piece, arrays: list[tuple[Index, np.ndarray]]) -> None:
        """Copy a piece to its place on every device."""
        views = {
            device: self._stored.view(blocks.cut(piece.of(shard), arrays)) for device, shard in self._shards.items()
        }
        placed = [jax.device_put(view, device) for device, view in views.items()]
        if self._target is None:
            (array,) = placed
        else:
            local = self._target.shard_shape(self._shape)
            sizes = zip(self._stored.to_param(piece.size), self._shape, local, strict=True)
            shape = tuple(size * (whole // shard) for size, whole, shard in sizes)
            array = jax.make_array_from_single_device_arrays(shape, self._target, placed)
        if len(self.pieces) == 1:
            self.value = array
            return
        if self.value is None:
            self.value = _empty(self._target)(self._shape, self._dtype)
        self.value.block_until_ready()  # of the piece before: at most one is in flight
        self.value = _filler(self._target)(self.value, array, self._stored.to_param(piece.start))


def _local_shards(shape: tuple[int, ...], target: NamedSharding | None) -> int:
    """The maximum number of different shards in a process, the same on all, so that all fill the same pieces."""
    if target is None:
        return 1
    devices = collections.Counter(device.process_index for device in target.device_set)
    different = {str(index) for index in target.devices_indices_map(shape).values()}
    return min(len(different), max(devices.values()))


@functools.cache
def _empty(target: NamedSharding | None) -> Callable[[tuple[int, ...], np.dtype], jax.Array]:
    return jax.jit(jnp.zeros, static_argnums=(0, 1), out_shardings=target)


@functools.cache
def _filler(target: NamedSharding | None) -> Callable[[jax.Array, jax.Array, tuple[int, ...]], jax.Array]:
    """A function that copies a piece of every shard to the same place of each, in the parameter's own memory."""
    device = jax.devices()[0] if target is None else target.mesh.devices.flat[0]

    def fill(shard: jax.Array, piece: jax.Array, start: tuple[jax.Array, ...]) -> jax.Array:
        piece = piece.astype(shard.dtype)
        if shard.dtype != jnp.bfloat16 or device.platform != "cpu":
            return jax.lax.dynamic_update_slice(shard, piece, start)
        # XLA's CPU backend copies bfloat16 six times slower than uint16; on a TPU the bitcast would cost memory.
        bits, piece = (jax.lax.bitcast_convert_type(array, jnp.uint16) for array in (shard, piece))
        return jax.lax.bitcast_convert_type(jax.lax.dynamic_update_slice(bits, piece, start), shard.dtype)

    if target is not None:
        specs = target.spec, target.spec, PartitionSpec()
        fill = jax.shard_map(fill, mesh=target.mesh, in_specs=specs, out_specs=target.spec)
    return jax.jit(fill, donate_argnums=0)

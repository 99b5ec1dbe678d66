"""Tensors in safetensors files: mapped for reading, checked against a weight table, written in shards.

Reading maps the files into memory, so a transposed and sliced view of a tensor costs only the pages it touches. That is
what lets a host read nothing but the slices its devices hold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub import families
from aloe_jax.models.config import ModelConfig

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
# One shard is in memory while it is written.
MAX_SHARD_BYTES = 2_000_000_000

# safetensors' names of the floating-point types, to ours; other types are not weights of a supported model
STORED_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}


@dataclass(frozen=True)
class Tensor:
    """A tensor that is not read yet. `dtype` is None where it is not a floating-point type we know."""

    shape: tuple[int, ...]
    dtype: np.dtype | None
    read: Callable[[], np.ndarray]


def as_dtype(name: str) -> np.dtype:
    """The numpy type of `float32`, `bfloat16` or `float16`; InputError for any other name."""
    known = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
    if name not in known:
        raise InputError(f"dtype is '{name}'; expected one of {', '.join(known)}")
    return np.dtype(known[name])


def read_safetensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a Hugging Face folder by name, single file or sharded.

    Raises InputError for a folder without safetensors, an index that names files outside the folder or tensors that its
    files do not hold, and for a truncated or foreign file.
    """
    if (folder / INDEX).exists():
        return _read_sharded(folder)
    if (folder / WEIGHTS).exists():
        return _read_file(folder / WEIGHTS)
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pickles:
        raise InputError(
            f"{folder}: {pickles[0]} is a pickle, which can run code when it is opened; "
            f"convert it to safetensors first (transformers: `save_pretrained`)"
        )
    raise InputError(
        f"{folder}: neither {WEIGHTS} nor {INDEX} is there; expected a Hugging Face folder with safetensors"
    )


def _read_sharded(folder: Path) -> dict[str, Tensor]:
    index = files.read_json(folder / INDEX)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise InputError(f"{folder / INDEX}: field weight_map must map tensor names to file names")
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or "\\" in shard or shard == "..":
            raise InputError(f"{folder / INDEX}: weight_map names '{shard}'; expected a file in the folder itself")
        tensors.update(_read_file(folder / shard))
    for name in weight_map:
        if name not in tensors:
            raise InputError(f"{folder / INDEX}: tensor '{name}' is not in '{weight_map[name]}'; download it again")
    return tensors


def _read_file(path: Path) -> dict[str, Tensor]:
    """Tensors of one file. The library checks the header and that it covers the file; we map what it describes."""
    if not path.exists():
        raise InputError(f"{path} is missing; download the model again")
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a complete safetensors file ({error}); download it again") from None
    data = np.memmap(path, dtype=np.uint8, mode="r")
    begin = 8 + int(data[:8].view("<u8")[0])
    header = json.loads(data[8:begin].tobytes())
    header.pop("__metadata__", None)
    return {name: _mapped(data[begin:], entry) for name, entry in header.items()}


def _mapped(data: np.ndarray, entry: dict) -> Tensor:
    shape = tuple(entry["shape"])
    dtype = STORED_DTYPES.get(entry["dtype"])
    first, last = entry["data_offsets"]
    return Tensor(shape, dtype, lambda: data[first:last].view(dtype).reshape(shape))


def checked(tensors: Mapping[str, Tensor], config: ModelConfig, where: str) -> dict[str, Tensor]:
    """The tensors that `config`'s weight table names, in its order.

    Raises InputError naming the first tensor that is missing, misshapen, not floating-point, or not in the table. A
    stored copy of what the model computes itself (a tied head, rotary frequencies) is left out silently.
    """
    result: dict[str, Tensor] = {}
    for weight in families.weights(config):
        for name in families.tensor_names(weight, config):
            if name not in tensors:
                raise InputError(f"{where}: tensor '{name}' is missing; config.json and the weights do not match")
            tensor = tensors[name]
            if tensor.shape != weight.shape:
                raise InputError(
                    f"{where}: tensor '{name}' has shape {list(tensor.shape)}; "
                    f"config.json asks for {list(weight.shape)}"
                )
            if tensor.dtype is None:
                raise InputError(f"{where}: tensor '{name}' is not floating-point; import an unquantised model")
            result[name] = tensor
    for name in tensors:
        derived = name.endswith("rotary_emb.inv_freq") or (config.tied and name == "lm_head.weight")
        if name not in result and not derived:
            raise InputError(f"{where}: tensor '{name}' does not belong to {config.family} as config.json describes it")
    return result


def write_safetensors(
    folder: Path, tensors: Mapping[str, Tensor], dtype: np.dtype | None, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write `model.safetensors`, or numbered shards and their index where it would exceed `max_shard_bytes`.

    `dtype` None keeps the type of each tensor. Raises ResumableError where the disk refuses.
    """
    shards = _plan(tensors, dtype, max_shard_bytes)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = WEIGHTS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        arrays = {name: np.ascontiguousarray(tensors[name].read(), dtype=dtype) for name in names}
        _save(arrays, folder / file)
        weight_map.update(dict.fromkeys(names, file))
    if len(shards) > 1:
        total = sum(_bytes(tensor, dtype) for tensor in tensors.values())
        files.write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _save(arrays: dict[str, np.ndarray], path: Path) -> None:
    try:
        save_file(arrays, path, metadata={"format": "pt"})  # transformers asks for the format's name
    except SafetensorError as error:  # what the library makes of a full disk
        raise files.failed_write(path, OSError(str(error))) from error
    path.chmod(0o644)  # the library writes files that only their owner reads


def _bytes(tensor: Tensor, dtype: np.dtype | None) -> int:
    stored = dtype or tensor.dtype
    assert stored is not None, "checked() refuses tensors without a type"
    return math.prod(tensor.shape) * stored.itemsize


def _plan(tensors: Mapping[str, Tensor], dtype: np.dtype | None, limit: int) -> list[list[str]]:
    """Names by shard, in order; a tensor larger than the limit is a shard of its own."""
    shards: list[list[str]] = [[]]
    used = 0
    for name, tensor in tensors.items():
        size = _bytes(tensor, dtype)
        if shards[-1] and used + size > limit:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    return shards


def common_dtype(tensors: Iterable[Tensor]) -> np.dtype:
    """The widest type among the tensors: what `config.json` states for a folder of mixed types."""
    dtypes = {tensor.dtype for tensor in tensors if tensor.dtype is not None}
    return np.dtype(np.float32) if len(dtypes) != 1 else dtypes.pop()

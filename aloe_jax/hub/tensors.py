"""Reads the tensors of a Hugging Face folder, checks them against a weight table, and writes them in shards."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import ml_dtypes
import numpy as np
from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub import families, safetensors_file
from aloe_jax.hub.byte_ranges import is_store
from aloe_jax.hub.safetensors_file import FileTensor, Tensor
from aloe_jax.models.config import ModelConfig

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
# The ends of the tensors' names that GPTQ, AWQ, bitsandbytes, HQQ and fp8 store beside or in place of weights.
QUANTISED = (
    *(".qweight", ".qzeros", ".scales", ".g_idx", ".absmax", ".quant_map", ".SCB", ".W_q"),
    *(".weight_scale", ".weight_scale_inv", ".weight_packed", ".input_scale"),
)
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
COMPARED_BYTES = 16 << 20  # at a time
MAX_SHARD_BYTES = 2_000_000_000
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

AnyTensor = TypeVar("AnyTensor", bound=Tensor)


def as_dtype(name: str) -> np.dtype:
    """The numpy type of `float32`, `bfloat16` or `float16`. Raises InputError for other names."""
    known = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
    if name not in known:
        raise InputError(f"dtype is '{name}'; expected one of {', '.join(known)}")
    return np.dtype(known[name])


def shard_bytes(text: str) -> int:
    """The number of bytes of a size such as `500MB` or `2GiB`. Raises InputError for anything else."""
    found = re.fullmatch(r"([0-9]+) ?([KMG]?I?B|)", text.strip().upper())
    if found is None or found[2] not in UNITS or int(found[1]) < 1:
        raise InputError(f"--max-shard-size is '{text}'; expected a size such as 500MB or 2GiB")
    return int(found[1]) * UNITS[found[2]]


def read_safetensors(folder: epath.PathLike) -> dict[str, FileTensor]:
    """The tensors of a Hugging Face folder by name, from a single file or shards. Only headers are read.

    Raises InputError for a folder without safetensors, an index that names files outside the folder or tensors that its
    files do not contain, and a truncated or foreign file.
    """
    path = epath.Path(folder)
    if (path / INDEX).exists():
        return _read_unmistakable(path) if (path / WEIGHTS).exists() else _read_sharded(path)
    if (path / WEIGHTS).exists():
        return safetensors_file.read_file(path / WEIGHTS)
    pickles = sorted(found.name for found in path.iterdir() if found.suffix in PICKLES)
    if pickles:
        raise InputError(f"{folder}: {pickled(pickles[0])}")
    raise InputError(
        f"{folder}: neither {WEIGHTS} nor {INDEX} is there{_other_weights(path)}; expected a Hugging Face folder with "
        "safetensors"
    )


def _other_weights(folder: epath.Path) -> str:
    """What is there of weights instead, as a part of a sentence."""
    names = sorted(found.name for found in folder.iterdir() if found.suffix in (".safetensors", ".gguf"))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f", but {', '.join(names[:3])}{more} (shards need their index: download it too)" if names else ""


def pickled(name: str) -> str:
    """The sentence about a pickle: why it is refused, and the remedy."""
    return (
        f"{name} is a pickle, which can run code when it is opened; "
        f"convert it to safetensors first (transformers: `save_pretrained`)"
    )


def _read_unmistakable(folder: epath.Path) -> dict[str, FileTensor]:
    """The tensors of a folder with a single file and an index. Raises InputError if the index names other files: one of
    the two is left from another model."""
    remedy = f"remove {INDEX} if {WEIGHTS} is the whole model, else remove {WEIGHTS}"
    try:
        found = _read_sharded(folder)
    except InputError as error:
        raise InputError(f"{error}; or {remedy}") from None
    if set(_weight_map(folder).values()) != {WEIGHTS}:
        raise InputError(f"{folder}: {INDEX} names other files than {WEIGHTS}, which is there as well; {remedy}")
    return found


def _read_sharded(folder: epath.Path) -> dict[str, FileTensor]:
    weight_map = _weight_map(folder)
    shards: dict[str, dict[str, FileTensor]] = {}
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or "\\" in shard or shard == "..":
            raise InputError(f"{folder / INDEX}: weight_map names '{shard}'; expected a file in the folder itself")
        if not (folder / shard).exists():
            raise InputError(f"{folder / shard} is missing; download the model again")
        shards[shard] = safetensors_file.read_file(folder / shard)
    for name, shard in weight_map.items():
        if name not in shards[shard]:
            raise InputError(f"{folder / INDEX}: tensor '{name}' is not in '{shard}'; download it again")
    unlisted = {name: tensor for shard in shards.values() for name, tensor in shard.items()}
    return unlisted | {name: shards[shard][name] for name, shard in weight_map.items()}


def _weight_map(folder: epath.Path) -> dict[str, str]:
    index = files.read_json(folder / INDEX)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise InputError(f"{folder / INDEX}: field weight_map must map tensor names to file names")
    return weight_map


def checked(tensors: Mapping[str, AnyTensor], config: ModelConfig, where: str) -> dict[str, AnyTensor]:
    """The tensors of `config`'s weight table, in its order.

    Raises InputError naming the first tensor that is missing, misshapen, not floating-point, or not in the table, and
    when one is read that holds NaN or infinity. A stored copy of derived values (a tied head, which `untied` has
    compared, rotary frequencies) is left out silently.
    """
    if quantised := next((name for name in tensors if name.endswith(QUANTISED)), None):
        raise InputError(
            f"{where}: tensor '{quantised}' is part of a quantised model, whose weights are not read; use the model "
            "that it was made from"
        )
    result: dict[str, AnyTensor] = {}
    for weight in families.weights(config):
        for name in families.tensor_names(weight, config):
            if name not in tensors:
                raise InputError(f"{where}: tensor '{name}' is missing; {_stored_as(name, tensors)}")
            tensor = tensors[name]
            if tensor.shape != weight.shape and 0 in tensor.shape:
                raise InputError(
                    f"{where}: tensor '{name}' is empty (shape {list(tensor.shape)}): it was saved while the weights "
                    "lay in parts on several devices (ZeRO-3, FSDP); save the gathered model"
                )
            if tensor.shape != weight.shape:
                raise InputError(
                    f"{where}: tensor '{name}' has shape {list(tensor.shape)}; "
                    f"config.json asks for {list(weight.shape)}"
                )
            if tensor.dtype is None:
                raise InputError(f"{where}: tensor '{name}' is not floating-point; import an unquantised model")
            result[name] = _finite(tensor, f"{where}: tensor '{name}'")
    for name in tensors:
        derived = name.endswith("rotary_emb.inv_freq") or (config.tied and name == HEAD)
        if name not in result and not derived:
            raise InputError(f"{where}: tensor '{name}' does not belong to {config.family} as config.json describes it")
    return result


def _stored_as(name: str, tensors: Mapping[str, object]) -> str:
    """What to do about a missing tensor: the weights of a wrapped model have other names."""
    if name == HEAD:
        return (
            "set tie_word_embeddings to true in config.json if the embedding is the head as well, else the folder is "
            "not complete"
        )
    bare = name.removeprefix("model.")
    for stored in tensors:
        if stored.endswith((f".{name}", f".{bare}")) or stored == bare:
            return (
                f"'{stored}' is there: a wrapped model or a part of one was saved (torch.compile, DDP, PEFT, a model "
                "with images); save the language model itself, or rename the tensors"
            )
        if stored == f"{name.removesuffix('.weight')}.base_layer.weight":
            return (
                f"'{stored}' is there: adapters were not merged; merge them (peft: `merge_and_unload`) and save again"
            )
    return "config.json and the weights do not match"


def _finite(tensor: AnyTensor, where: str) -> AnyTensor:
    """The tensor with a check of all that is read of it."""

    def checking(read: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        @functools.wraps(read)
        def checked_read(*args: object) -> np.ndarray:
            array = read(*args)
            if not is_finite(array):
                raise InputError(f"{where} holds NaN or infinity; the model is damaged, download or train it again")
            return array

        return checked_read

    if isinstance(tensor, FileTensor):
        return dataclasses.replace(tensor, read=checking(tensor.read), read_block=checking(tensor.read_block))
    return dataclasses.replace(tensor, read=checking(tensor.read))


def is_finite(array: np.ndarray) -> bool:
    """Whether no number is NaN or infinite: in two-byte types by the bits of the exponent, which is ten times faster
    than their own functions."""
    if array.dtype.itemsize != 2:
        return bool(np.isfinite(array).all())
    exponent = np.uint16(0x7F80 if array.dtype == ml_dtypes.bfloat16 else 0x7C00)
    return not bool(((np.ascontiguousarray(array).view(np.uint16) & exponent) == exponent).any())


def untied(folder: epath.PathLike) -> bool:
    """Whether the folder stores an output head that differs from the embedding, so that they cannot be tied whatever
    config.json says, as in transformers. False for a folder without readable weights."""
    path = epath.Path(folder)
    return _untied(path, tuple(map(_stamp, sorted(path.glob("*.safetensors")))))


def _stamp(path: epath.Path) -> tuple[str, int, int]:
    """Name, size and time of the last change, of a local file in nanoseconds."""
    found = path.stat()
    return path.name, found.length, found.mtime if is_store(path) else os.stat(path).st_mtime_ns


@functools.lru_cache
def _untied(folder: epath.Path, stamp: tuple[tuple[str, int, int], ...]) -> bool:
    """`untied`, computed once for files of the same names, sizes and times of change."""
    try:
        found = read_safetensors(folder)
    except InputError:
        return False  # whoever reads the weights raises it
    if HEAD not in found or EMBEDDING not in found:
        return False
    head, embedding = found[HEAD], found[EMBEDDING]
    if head.shape != embedding.shape or head.dtype is None or embedding.dtype is None or len(head.shape) != 2:
        return True
    rows, width = head.shape
    step = max(1, COMPARED_BYTES // max(1, 8 * width))
    for row in range(0, rows, step):
        block = slice(row, min(rows, row + step)), slice(0, width)
        if not np.array_equal(head.read_block(head.shape, block), embedding.read_block(head.shape, block)):
            return True
    return False


def write_safetensors(
    folder: Path, tensors: Mapping[str, Tensor], dtype: np.dtype | None, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write `model.safetensors`, or numbered shards and their index if it would exceed `max_shard_bytes`.

    Tensors are read in the order of `in_file_order`, one in memory at a time. `dtype` None keeps the type of each.
    Raises OSError for a failed write.
    """
    shards = _plan(in_file_order(tensors, dtype), dtype, max_shard_bytes)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = WEIGHTS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        safetensors_file.write_file(folder / file, shard, dtype)
        weight_map.update(dict.fromkeys(shard, file))
    if len(shards) > 1:
        total = sum(safetensors_file.stored_bytes(tensor, dtype) for tensor in tensors.values())
        files.write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def in_file_order(tensors: Mapping[str, AnyTensor], dtype: np.dtype | None) -> dict[str, AnyTensor]:
    """The tensors in the order of the files: wide types first, which keeps every tensor aligned."""
    width = lambda name: -safetensors_file.stored_dtype(tensors[name], dtype).itemsize  # noqa: E731
    return {name: tensors[name] for name in sorted(tensors, key=width)}


def _plan(tensors: Mapping[str, Tensor], dtype: np.dtype | None, limit: int) -> list[dict[str, Tensor]]:
    """The tensors of each shard, in order; a tensor larger than the limit is a shard of its own."""
    shards: list[dict[str, Tensor]] = [{}]
    used = 0
    for name, tensor in tensors.items():
        size = safetensors_file.stored_bytes(tensor, dtype)
        if shards[-1] and used + size > limit:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += size
    return shards


def common_dtype(tensors: Iterable[Tensor]) -> np.dtype:
    """The common type of the tensors, float32 if they differ: the one that `config.json` states."""
    dtypes = {tensor.dtype for tensor in tensors if tensor.dtype is not None}
    return np.dtype(np.float32) if len(dtypes) != 1 else dtypes.pop()

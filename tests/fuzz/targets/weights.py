"""Files of weights: safetensors with their index, and GGUF."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fuzz import case, mutators
from fuzz.case import Case, Result, command
from helpers import gguf_models, hub_files

LAYOUTS = tuple(gguf_models.CONFIGS)
INDEX = "model.safetensors.index.json"
LENGTHS = (0, 1, 7, 2**20, 2**31, 2**40, 2**63, 2**64 - 1)
# GGUF keys of the tiny models and values that a hostile or an odd converter may write.
ODD: tuple[Any, ...] = (
    None,
    0,
    1,
    3,
    2**31,
    2**32 - 1,
    -1,
    1.5,
    "",
    "x",
    "gpt2",
    "llama",
    "t5",
    True,
    ["a"],
    [0],
    [1.0],
)
KEYS = (
    "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.layer_norm_rms_epsilon", "rope.freq_base", "attention.key_length",
    "attention.value_length", "vocab_size", "rope.dimension_count", "rope.scaling.type", "rope.scaling.factor",
    "attention.sliding_window", "expert_count", "attention.scale", "unknown.key", "attention.causal",
    "rope.freq_base_swa", "attention.sliding_window_pattern", "final_logit_softcapping", "attn_logit_softcapping",
)  # fmt: skip
TOKENIZER_KEYS = (
    "model", "pre", "tokens", "token_type", "merges", "eos_token_id", "bos_token_id", "unknown_token_id",
    "padding_token_id", "add_bos_token", "add_space_prefix", "scores", "eot_token_id",
)  # fmt: skip


@functools.cache
def _made() -> Path:
    root = Path(tempfile.mkdtemp(prefix="aloe-fuzz-weights-"))
    hub_files.write_tiny(root / "one")
    hub_files.write_tiny(root / "two", shards=2)
    for layout in gguf_models.CONFIGS:
        _write_gguf(root / f"{layout}.gguf", layout, {})
    return root


def _write_gguf(path: Path, layout: str, metadata: dict[str, Any]) -> None:
    model = gguf_models.config(layout)
    hub_files.write_gguf(path, model, {}, gguf_models.tensors(model), **metadata)


def weights(rng: random.Random, folder: Path) -> Case:
    """`aloe import` of a folder with changed weights: refused, or exactly the tensors that the format's library
    reads."""
    base = rng.choice(("one", "two"))
    shutil.copytree(_made() / base, folder / "model")
    files = sorted((folder / "model").glob("*.safetensors"))
    path, refuses = rng.choice(files), False
    kind = rng.choice(("header", "header", "header", "length", "bytes", "value", "index", "file"))
    if kind == "index" and base == "two":
        index = json.loads((folder / "model" / INDEX).read_text())
        index, told = mutators.mutate_json(rng, index)
        (folder / "model" / INDEX).write_text(mutators.json_text(index), errors="surrogatepass")
    elif kind == "value":
        tensors = load_file(path)
        name = rng.choice(list(tensors))
        bad = rng.choice((np.nan, np.inf, -np.inf))
        tensors[name].flat[rng.randrange(tensors[name].size)] = bad
        save_file(tensors, path, metadata={"format": "pt"})
        told, refuses = f"{bad} in {name}", True
    elif kind == "length":
        data = path.read_bytes()
        length = rng.choice(LENGTHS)
        path.write_bytes(struct.pack("<Q", length) + data[8:])
        told, refuses = f"header of {length} bytes", True
    elif kind == "bytes":
        data, told = mutators.mutate_bytes(rng, path.read_bytes())
        path.write_bytes(data)
    elif kind == "file":
        told = _odd_file(rng, path)
    else:
        told = _mutate_header(rng, path)
    call = ("import", "model", "--out=out")
    return Case(
        command(*call), "aloe " + " ".join(call), told, writes=("out",), check=lambda result: _same_tensors(folder),
        refuses=refuses,
    )  # fmt: skip


def _mutate_header(rng: random.Random, path: Path) -> str:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, told = mutators.mutate_json(rng, json.loads(data[8 : 8 + length]))
    text = mutators.json_text(header).encode("utf-8", "surrogatepass")
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    return f"header: {told}"


def _odd_file(rng: random.Random, path: Path) -> str:
    data = path.read_bytes()
    path.unlink()
    kind = rng.choice(("fifo", "folder", "link", "missing", "twice"))
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("nowhere")
    elif kind == "twice":
        path.write_bytes(data)
        path.with_name("model-00009-of-00009.safetensors").write_bytes(data)
    return f"{path.name} is {kind}"


def _same_tensors(folder: Path) -> str | None:
    """How the output's tensors differ from the source's, as the format's own library reads both."""
    try:
        source: dict[str, np.ndarray] = {}
        for path in sorted((folder / "model").glob("*.safetensors")):
            source |= load_file(path)
    except (SafetensorError, ValueError) as error:
        return f"taken, while the library of safetensors says: {error}"
    out: dict[str, np.ndarray] = {}
    for path in sorted((folder / "out").glob("*.safetensors")):
        out |= load_file(path)
    for name, tensor in out.items():
        if name not in source or tensor.dtype != source[name].dtype or tensor.tobytes() != source[name].tobytes():
            return f"tensor {name} is not that of the source"
        if not np.isfinite(tensor.astype(np.float64)).all():
            return f"tensor {name} holds values that are not finite"
    return None


def gguf(rng: random.Random, folder: Path) -> Case:
    """`aloe import` of a GGUF file of any layout with changed metadata or bytes."""
    os.environ["ALOE_CACHE"] = str(folder / "cache")
    kind, layout = rng.choice(("key", "key", "tokenizer", "bytes", "bytes", "count", "neutral")), rng.choice(LAYOUTS)
    path, key = folder / "model.gguf", ""
    if kind in ("key", "tokenizer", "neutral"):
        key = f"{layout}.{rng.choice(KEYS)}" if kind == "key" else f"tokenizer.ggml.{rng.choice(TOKENIZER_KEYS)}"
        value = rng.choice(ODD)
        if kind == "neutral":
            key, value = f"general.{rng.choice(('name', 'description', 'url'))}", "Some words."
        try:
            _write_gguf(path, layout, {key: value})
            told = f"{key} = {value!r}"
        except Exception:  # the library writes no such value
            shutil.copy(_made() / f"{layout}.gguf", path)
            key, told = "", "nothing"
    else:
        data = (_made() / f"{layout}.gguf").read_bytes()
        head = 6_000 if rng.random() < 0.8 else len(data)  # most of it is weights
        if kind == "count":
            place = rng.choice((4, 8, 16, rng.randrange(24, head)))
            number = struct.pack("<Q", rng.choice(LENGTHS))
            path.write_bytes(data[:place] + number + data[place + 8 :])
            told = f"{number!r} at {place}"
        else:
            changed, told = mutators.mutate_bytes(rng, data[:head])
            path.write_bytes(changed + data[head:])
    call = ("import", "model.gguf", "--out=out")
    whole = kind in ("key", "tokenizer", "neutral") and not (layout == "llama" and "head_count" in key)
    return Case(
        command(*call), "aloe " + " ".join(call), f"{layout}: {told}", writes=("out",), changes=("cache",),
        check=lambda result: (_other_weights(folder, layout, key) if whole else None) or _read_back(folder),
    )  # fmt: skip


def _other_weights(folder: Path, layout: str, key: str) -> str | None:
    """How an imported folder differs from the file's own weights, and from its config without the changed `key`."""
    right, out = gguf_models.tensors(gguf_models.config(layout)), load_file(folder / "out/model.safetensors")
    if set(out) != set(right) or any(not np.array_equal(out[name], right[name]) for name in right):
        return "other weights than those of the file"
    clean = case.aloe(("import", str(_made() / f"{layout}.gguf"), "--out=clean"))
    configs = [json.loads((folder / name / "config.json").read_text()) for name in ("clean", "out")]
    if clean.code or (configs[0] != configs[1] and not key.startswith((layout, "tokenizer"))):
        return "another config than without the key"
    return None


def _read_back(folder: Path) -> str | None:
    """What is wrong with an imported folder."""
    if litter := [path.name for path in (folder / "cache").rglob("*") if "partial" in path.name]:
        return f"left in the cache: {litter}"
    result: Result = case.aloe(("inspect", "out", "--json=found.json"))
    if "holds the text of" in result.err:  # a letter of the sample has become a special token
        return None
    return f"imported, but inspect says {result.err}" if result.code else None

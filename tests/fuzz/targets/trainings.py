"""Checkpoints of a training: damaged, they are refused, or the export has the weights that were trained."""

from __future__ import annotations

import functools
import json
import random
import shutil
import tempfile
from pathlib import Path

import jax.numpy as jnp
from etils import epath
from safetensors.numpy import load_file

from aloe_jax.hub.exporter import export_model
from aloe_jax.run.manifest import MANIFEST, Manifest
from aloe_jax.train.checkpoints import Checkpoints
from aloe_jax.train.state import TrainState
from fuzz import mutators
from fuzz.case import Case, command
from helpers import tiny

STEPS = (2, 4)  # of the checkpoints that are kept
DIGESTS = "digests.json"


@functools.cache
def _made() -> Path:
    """A folder with the start model `base`, the training `sft` with a checkpoint per step, each of other parameters,
    and the exports of them."""
    root = Path(tempfile.mkdtemp(prefix="aloe-fuzz-trained-"))
    base = tiny.write_folder(root / "base")
    with Checkpoints(root / "sft/checkpoints", keep=len(STEPS), asynchronous=False) as checkpoints:
        for step in STEPS:
            params = tiny.params(step)
            export_model(params, tiny.MODEL, base, root / str(step))
            state = TrainState(jnp.asarray(step, jnp.int32), params, {"moment": params}, {})
            checkpoints.save(state, {"next_index": step})
    config = {"model": {"source": str(base)}, "sft": {"objective": "sft"}, "lora": {}}
    Manifest("sft", status="finished", config=config).write(epath.Path(root / "sft"))
    return root


def checkpoint(rng: random.Random, folder: Path) -> Case:
    """`aloe export` of a training whose newest checkpoint is damaged."""
    shutil.copytree(_made() / "sft", folder / "run/sft")
    newest, told = folder / f"run/sft/checkpoints/{STEPS[-1]}", "the folder is gone"
    if away := rng.random() < 0.05:
        shutil.rmtree(newest)
    elif rng.random() < 0.15:
        told = _mutated_json(rng, rng.choice((newest / DIGESTS, folder / "run/sft" / MANIFEST)))
    else:
        told = _damaged(rng, newest)
    call = ("export", "run/sft", "--out=out")
    wanted = _made() / str(STEPS[-2 if away else -1])
    return Case(
        command(*call), "aloe " + " ".join(call), told, writes=("out",), check=lambda result: _other(folder, wanted)
    )


def _mutated_json(rng: random.Random, path: Path) -> str:
    value, told = mutators.mutate_json(rng, json.loads(path.read_text()))
    path.write_text(mutators.json_text(value), errors="surrogatepass")
    return f"{path.name}: {told}"


def _damaged(rng: random.Random, newest: Path) -> str:
    """Change a file of a checkpoint; returns the change in words."""
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    large = [path for path in files if path.stat().st_size > 1000]
    path, other = rng.choice((rng.choice(files), rng.choice(large))), rng.choice(files)
    older = newest.with_name(str(STEPS[0]))
    kind = rng.choice(("bytes", "bytes", "bytes", "gone", "renamed", "swapped", "older", "more", "part", "folder"))
    told = f"{path.relative_to(newest)}: {kind}"
    if kind == "bytes":
        data, change = mutators.mutate_bytes(rng, path.read_bytes())
        path.write_bytes(data)
        return f"{told} {change}"
    if kind == "gone":
        path.unlink()
    elif kind == "renamed":
        path.rename(path.with_name(path.name + rng.choice(("~", ".bak", "0"))))
    elif kind == "swapped":
        data = path.read_bytes(), other.read_bytes()
        path.write_bytes(data[1])
        other.write_bytes(data[0])
        told += f" with {other.relative_to(newest)}"
    elif kind == "older":
        found = [each for each in sorted(older.rglob("*")) if each.is_file()]
        path.write_bytes(rng.choice(found).read_bytes())
    elif kind == "more":
        path.with_name(f"{path.name}.orig").write_bytes(other.read_bytes())
    elif kind == "part":
        part = rng.choice(("params", "optimizer", "data"))
        shutil.rmtree(newest / part)
        if rng.random() < 0.5:
            shutil.copytree(older / part, newest / part)
        told = f"{part}: gone or that of the older checkpoint"
    else:
        path.unlink()
        path.mkdir()
    return told


def _other(folder: Path, wanted: Path) -> str | None:
    """How an export differs from the weights that were trained."""
    out, right = (load_file(path / "model.safetensors") for path in (folder / "out", wanted))
    if set(out) != set(right):
        return f"the tensors {sorted(set(out) ^ set(right))}"
    wrong = [name for name in right if out[name].tobytes() != right[name].tobytes()]
    return f"other values in {wrong}" if wrong else None

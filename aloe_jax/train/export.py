"""`aloe export`: what a training stage ended with, or any importable model, as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from aloe_jax import files
from aloe_jax.hub.config_file import read_config
from aloe_jax.hub.exporter import export_model
from aloe_jax.hub.load import load_params
from aloe_jax.hub.source import resolve_model
from aloe_jax.hub.tensors import common_dtype, read_safetensors
from aloe_jax.models import decoder
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.parallel.sharding import param_shardings
from aloe_jax.run.stage import MANIFEST
from aloe_jax.train.checkpoints import Checkpoints


def export_source(source: str, out: Path, dtype: str | None, overwrite: bool = False) -> Path:
    """Write `source` through our own parameters to `out`; returns `out`.

    `source` is the folder of a training stage (or its `checkpoints`), or what `resolve_model` takes. `dtype` None keeps
    the stored type; a checkpoint's is float32. Raises InputError for a source without checkpoint or model, and as
    `export_model` does.
    """
    mesh = make_mesh()
    stage = Path(source).parent if Path(source).name == "checkpoints" else Path(source)
    trained = (stage / "checkpoints").is_dir()
    base = files.read_json(stage / MANIFEST)["config"]["model"]["source"] if trained else source
    folder = resolve_model(base)
    model, _ = read_config(folder)
    shardings = param_shardings(decoder.abstract_params(model), decoder.logical_axes(model), mesh)
    if trained:
        with Checkpoints(stage / "checkpoints") as checkpoints:
            params = checkpoints.restore_params(model, shardings)
    else:
        stored = dtype or common_dtype(read_safetensors(folder).values()).name
        params = load_params(folder, model, shardings, stored)
    return export_model(params, model, folder, out, dtype, overwrite=overwrite)

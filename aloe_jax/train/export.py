"""`aloe export` and the stage `export`: a training's result, or any importable model, as a Hugging Face folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax
from etils import epath

from aloe_jax.bucket.places import stored_at
from aloe_jax.errors import InputError
from aloe_jax.hub.adapter import export_adapter
from aloe_jax.hub.card import CARD_FILE
from aloe_jax.hub.config_file import read_config
from aloe_jax.hub.exporter import export_model
from aloe_jax.hub.folders import check_new
from aloe_jax.hub.load import load_params
from aloe_jax.hub.source import resolve_model
from aloe_jax.hub.tensors import MAX_SHARD_BYTES, as_dtype, checked, common_dtype, read_safetensors
from aloe_jax.models import decoder
from aloe_jax.models.lora import LoraSettings
from aloe_jax.outputs import check_apart
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.run.manifest import Values, read_manifest
from aloe_jax.run.model import model_config, model_inputs, model_places
from aloe_jax.run.progress import Line, quiet
from aloe_jax.run.stage import Run, Stage
from aloe_jax.settings import setting
from aloe_jax.train.export_card import stage_card
from aloe_jax.train.joint_adapter import joint_adapter
from aloe_jax.train.names import CHAIN
from aloe_jax.train.sources import ModelSource, start_folder, stored


@dataclass(frozen=True)
class ExportSettings:
    """`config.export`: what is written as a Hugging Face folder, and how."""

    model: str = setting("preference", "the training whose result is exported", choices=CHAIN)
    adapter: bool = setting(False, "export only the adapters of config.lora, for `peft`, not the merged model")
    dtype: str = setting("bfloat16", "type of the exported tensors: float32, bfloat16 or float16")


def export_source(
    source: str,
    out: Path,
    dtype: str | None,
    overwrite: bool = False,
    adapter: bool = False,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    line: Line = quiet,
    step: int | None = None,
    unfinished: bool = False,
) -> Path:
    """Write the model `source` as a Hugging Face folder to `out`; returns `out`.

    `source` is the folder of a training stage (or its `checkpoints`), or anything that `resolve_model` takes. `dtype`
    None keeps the stored type of every tensor, which is float32 in a checkpoint. With `adapter` the folder holds the
    adapters alone, for `peft` to load on top of the run's start model; without, they are merged. `step` is the
    checkpoint of a training, by default its newest. Raises InputError for a source without checkpoint or model, for a
    training that has not finished unless `unfinished`, for an `out` that is, contains or lies in the source or the
    run's start model, for an `adapter` of a training without adapters, and as `export_model` does.
    """
    check_new(out, overwrite)
    check_apart(out, source)
    mesh = make_mesh(devices=jax.local_devices())
    path = Path(source)  # run directories are local
    stage = epath.Path(path.parent if path.name == "checkpoints" else path)
    trained = stored_at(stage / "checkpoints").is_dir()
    base = stored(read_manifest(stage), stage, "model", "source") if trained else source
    if trained:
        step = _chosen_step(stage, source, step, unfinished)
    elif step is not None or unfinished:
        given = "--unfinished" if step is None else f"--step={step}"
        raise InputError(f"{given}: '{source}' is no training stage of a run; give DIR/sft or DIR/preference")
    folder = start_folder(stage) if trained else resolve_model(base)
    check_apart(out, folder, base)
    model, _ = read_config(folder)
    if not trained:
        if adapter:
            raise InputError(f"--adapter: '{source}' is no training stage of a run; give DIR/sft or DIR/preference")
        found = checked(read_safetensors(folder), model, str(folder))
        dtypes = {name: tensor.dtype for name, tensor in found.items() if tensor.dtype is not None}
        # Tensors of several types are loaded as float32, which holds the others exactly. A value beyond the range of
        # float16 is noticed where it is written.
        loaded = dtype if dtype and dtype != "float16" else common_dtype(found.values()).name
        loaded = "float32" if loaded == "float64" else loaded  # JAX holds no f64; refused where it is written as such
        params = load_params(folder, model, decoder.shardings(model, mesh), loaded)
        return export_model(params, model, folder, out, dtype, None, overwrite, max_shard_bytes, dtypes)
    assert step is not None
    if adapter:
        grown, adapters = joint_adapter(model, stage, mesh, line, step)
        assert grown.lora
        card = stage_card(stage, folder, step, grown.lora.rank)
        return export_adapter(adapters, grown, base, folder, out, card, overwrite)
    params = ModelSource(folder, stage, step).load(mesh, model, line)
    return export_model(params, model, folder, out, dtype, stage_card(stage, folder, step), overwrite, max_shard_bytes)


def _chosen_step(stage: epath.Path, source: str, step: int | None, unfinished: bool) -> int:
    """The step of the checkpoint to export: the newest, or the one asked for. InputError for one that is not there and,
    unless `unfinished`, for a training that has not finished."""
    from aloe_jax.train.checkpoints import checkpoint_steps

    there = checkpoint_steps(stage / "checkpoints")
    if not there:
        raise InputError(f"there is no checkpoint in '{stage / 'checkpoints'}'; train first")
    if step is not None and step not in there:
        known = ", ".join(map(str, there))
        raise InputError(
            f"--step={step}: '{source}' has checkpoints of steps {known}; name one of them "
            f"(config.{stage.name}.keep and keep_every keep more of a training)"
        )
    if not (unfinished or read_manifest(stage).finished):
        raise InputError(
            f"the training in '{source}' has not finished (its newest checkpoint is of step {there[-1]}); run it to "
            "its end, or give --unfinished to export the weights as they are"
        )
    return there[-1] if step is None else step


def _check(run: Run) -> None:
    settings = run.section("export", ExportSettings)
    as_dtype(settings.dtype)
    if settings.adapter and not run.section("lora", LoraSettings).maps:
        raise InputError("config.export.adapter: there are no adapters, config.lora.maps is empty; set either")


def _work(run: Run) -> Values:
    settings, out = run.section("export", ExportSettings), Path(str(run.directory("export")))
    stage = str(run.directory(settings.model))
    line = run.progress.line
    with run.progress.doing(f"writing the model {settings.model}"):
        export_source(stage, out, settings.dtype, overwrite=True, adapter=settings.adapter, line=line)
    return {"parameters": decoder.parameter_count(model_config(run))}


def _needs(run: Run) -> tuple[str, ...]:
    return (run.section("export", ExportSettings).model,)


EXPORT = Stage(
    "export",
    _needs,
    ("model", "lora", "export"),
    _work,
    model_inputs,
    (CARD_FILE,),
    _check,
    places=model_places,
)

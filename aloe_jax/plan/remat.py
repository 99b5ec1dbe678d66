"""What `config.compute.remat=auto` becomes: a preset of `tuning.REMATS` where `config.tuning` has `auto`, else full.

It is decided before a run starts, since the flags that libtpu reads once follow it. This file therefore uses no device:
a model's size is computed from its config.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from etils import epath

from aloe_jax.bucket.places import in_bucket
from aloe_jax.bucket.reading import readable
from aloe_jax.errors import InputError
from aloe_jax.hub.config_file import read_config
from aloe_jax.hub.families import model_config
from aloe_jax.hub.source import resolve_model
from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.plan.tuning import AUTO, remat_for
from aloe_jax.run.manifest import MANIFEST, find_manifest
from aloe_jax.run.settings import ModelSettings
from aloe_jax.train.forward import FULL, Compute
from aloe_jax.train.names import CHAIN


@dataclass(frozen=True)
class Decided:
    """The settings of an experiment by section, without `auto` in `config.compute.remat`, and a line on what it became;
    empty where there was nothing to choose."""

    settings: Mapping[str, object]
    line: str = ""


def decide_remat(settings: Mapping[str, object], chip: str | None, before: str = "") -> Decided:
    """Settings with a value for `config.compute.remat=auto` on a chip of that name (None: no TPU). `before` is what an
    interrupted training of the run computes with, which stays, so that a resume repeats its bits.

    InputError for a source or sizes that make no model.
    """
    compute, tuning = settings.get("compute"), settings.get("tuning", ())
    if not isinstance(compute, Compute) or compute.remat != AUTO:
        return Decided(settings)
    value, why = FULL, ""
    if before:
        value, why = before, "as the interrupted training of this run has it"
    elif isinstance(tuning, (tuple, list)) and AUTO in tuning and chip is not None:
        size = parameters_of(sized_model(settings))
        preset = remat_for(chip, size)
        reason = f"{preset.what} ({preset.source})" if preset else "no preset, `aloe plan --search` tries values"
        value, why = preset.value if preset else FULL, f"{chip}, {size / 1e9:.1f} billion parameters: {reason}"
    line = f"config.compute.remat=auto: {value}, {why}" if why else ""
    return Decided({**settings, "compute": replace(compute, remat=value)}, line)


def interrupted_remat(workdir: str) -> str:
    """What the training of a run directory, also one in a bucket, computes with that has begun and not finished; empty
    if there is none. InputError for a broken manifest."""
    where = epath.Path(workdir)
    if in_bucket(workdir):
        try:
            where = epath.Path(readable(workdir, lambda name: name.endswith(f"/{MANIFEST}")))
        except InputError:  # there is no run yet; what else is wrong, the run says
            return ""
    for stage in CHAIN:
        found = find_manifest(where / stage)
        if found is not None and not found.finished and found.free:
            compute = found.free[-1].get("compute")
            value = compute.get("remat") if isinstance(compute, Mapping) else None
            if value in decoder.REMAT:
                return str(value)
    return ""


def sized_model(settings: Mapping[str, object]) -> ModelConfig:
    """The model of `config.model`, by its sizes where the config has them, so that nothing is downloaded. InputError
    for a source or sizes that make no model."""
    found = settings.get("model")
    assert isinstance(found, ModelSettings)
    if found.sizes:
        return model_config(dict(found.sizes), "config.model.sizes")
    return read_config(resolve_model(found.source))[0]


def parameters_of(model: ModelConfig) -> float:
    """The number of parameters in matrices, two operations each: all but norms, biases and adapters."""
    linear = model.matmul_flops(1, 0, 0) / 2
    return linear + model.vocab * model.dim * (1 if model.tied else 2)

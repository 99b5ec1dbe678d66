"""Model families by architecture (`config.json`) or by name (`ModelConfig.family`)."""

from __future__ import annotations

from aloe_jax.errors import InputError
from aloe_jax.models.config import HfConfig, ModelConfig, Weight
from aloe_jax.models.families import FAMILIES
from aloe_jax.models.families._refused import REASONS


def model_config(config: HfConfig, where: str) -> ModelConfig:
    """The ModelConfig of a Hugging Face `config.json`'s content; `where` names the source in errors.

    Raises InputError for an architecture that no family claims and for options a family does not support.
    """
    stated = config.get("architectures")
    architectures = stated if isinstance(stated, (list, tuple)) else []
    for family in FAMILIES.values():
        if family.ARCHITECTURE in architectures:
            try:
                return family.from_hf(config)
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
    known = ", ".join(family.ARCHITECTURE for family in FAMILIES.values())
    found = ", ".join(map(str, architectures)) or "none"
    if reason := next((REASONS[str(name)] for name in architectures if str(name) in REASONS), None):
        raise InputError(f"{where}: config.json names architecture {found}, which is not supported: {reason}")
    raise InputError(f"{where}: config.json names architecture {found}; supported are {known}")


def hf_config(config: ModelConfig, dtype: str) -> dict[str, object]:
    """The `config.json` content of `config`, without token ids; `dtype` is the stored type of the tensors."""
    return FAMILIES[config.family].to_hf(config, dtype)


def weights(config: ModelConfig) -> list[Weight]:
    """The weight table of `config`: every tensor once, names of a layer with `{}` for its number."""
    return FAMILIES[config.family].weights(config)


def tensor_names(weight: Weight, config: ModelConfig) -> list[str]:
    """The Hugging Face tensor names of one row of the table: one, or one per layer."""
    if weight.path[0] != "layers":
        return [weight.name]
    return [weight.name.format(layer) for layer in range(config.layers)]

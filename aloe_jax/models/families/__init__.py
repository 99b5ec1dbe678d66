"""The model families, one file each; a file here is all that a new one needs (docs/add_a_family.md)."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, cast

from aloe_jax.models.config import HfConfig, ModelConfig, Weight
from aloe_jax.models.families._table import Table


class Family(Protocol):
    """The content of a family's module."""

    ARCHITECTURE: str  # the class name in Hugging Face's `config.json`
    TABLE: Table  # what becomes of every field of `config.json`
    TINY: dict[str, object]  # `config.json` of a model of a few thousand parameters with the oddities of the family

    def from_hf(self, config: HfConfig) -> ModelConfig: ...

    def to_hf(self, model: ModelConfig, dtype: str) -> dict[str, object]: ...

    def weights(self, model: ModelConfig) -> list[Weight]:
        """Every tensor once."""
        ...


# name (ModelConfig.family) -> module
FAMILIES: dict[str, Family] = {
    module.name: cast(Family, importlib.import_module(f"{__name__}.{module.name}"))
    for module in pkgutil.iter_modules(__path__)
    if not module.name.startswith("_")
}

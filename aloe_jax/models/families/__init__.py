"""The model families, one file each; a file here is all that a new one needs (docs/add_a_family.md).

A family's module has
- `ARCHITECTURE`, the class name in Hugging Face's `config.json`;
- `from_hf(config)` and `to_hf(model, dtype)`, the config mapping both ways;
- `weights(model)`, every tensor once;
- `TINY`, fields of a `config.json` for a model of a few thousand parameters that shows what is odd about the family.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

# name (ModelConfig.family) -> module
FAMILIES: dict[str, ModuleType] = {
    module.name: importlib.import_module(f"{__name__}.{module.name}")
    for module in pkgutil.iter_modules(__path__)
    if not module.name.startswith("_")
}

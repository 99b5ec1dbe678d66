"""What a model card may say of the model that another one was made from: hub id, licence and languages, if known."""

from __future__ import annotations

import re
from pathlib import Path

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub.card import CARD_FILE, Origin, read_metadata
from aloe_jax.hub.source import EMBEDDED, HUB_ID, RANDOM

KEPT = ("license", "license_name", "license_link", "language")  # what a derived model takes over
IN_HUB_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)/snapshots/")


# The embedded models have no card of their own.
EMBEDDED_ORIGINS = {
    "smollm2": Origin(
        "SmolLM2-135M-Instruct",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "its weights dequantised from a GGUF file of type Q4_1",
        {"license": "apache-2.0", "language": ["en"]},
    )
}


def origin_of(source: str, folder: epath.Path) -> Origin:
    """The model `source` (as `resolve_model` takes it), whose files are in `folder`. A local folder has no hub id
    unless it lies in the hub's cache: its own card names at most the model that it was made from."""
    if source.startswith(EMBEDDED) and (name := source.removeprefix(EMBEDDED)) in EMBEDDED_ORIGINS:
        return EMBEDDED_ORIGINS[name]
    if source.startswith(RANDOM):
        return Origin(source.replace(":", "-"), note="random weights")
    local, cached = Path(source).expanduser().exists(), IN_HUB_CACHE.search(f"{source}/")
    hub_id = None
    if cached:
        hub_id = f"{cached[1]}/{cached[2]}"
    elif not local and HUB_ID.fullmatch(source):
        hub_id = source
    name = (hub_id or source).rstrip("/").split("/")[-1]
    return Origin(name, hub_id, "", _kept(folder / CARD_FILE))


def _kept(path: epath.Path) -> dict[str, object]:
    """The entries of `KEPT` on a model's own card: texts, or lists of texts. Nothing for a card that cannot be read."""
    if not files.ordinary(path):
        return {}
    try:
        found = read_metadata(files.read_text(path))
    except (InputError, ValueError):
        return {}
    entries = {name: found.get(name) for name in KEPT}
    return {
        name: value
        for name, value in entries.items()
        if value and all(isinstance(one, str) for one in (value if isinstance(value, list) else [value]))
    }

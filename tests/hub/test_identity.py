"""The identity of a model folder."""

from __future__ import annotations

import os

from etils import epath

from aloe_jax.hub import identity
from helpers import hub_files


def _hash(folder):
    identity.model_hash.cache_clear()
    return identity.model_hash(epath.Path(folder))


def test_every_deciding_file_counts(tmp_path):
    folder = hub_files.write_tiny(tmp_path / "m")
    hashes = {_hash(folder)}
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"):
        with open(folder / name, "ab") as file:
            file.write(b" ")
        hashes.add(_hash(folder))
    assert len(hashes) == 5
    (folder / "README.md").write_text("a card")
    assert _hash(folder) in hashes


def test_weights_in_a_store_are_not_fetched(tmp_path, monkeypatch):
    """They count by size and time of change; all other files are read."""
    monkeypatch.setattr(identity, "is_store", lambda path: True)
    folder = hub_files.write_tiny(tmp_path / "m")
    weights = folder / "model.safetensors"
    size = weights.stat().st_size
    os.utime(weights, (1000, 1000))
    first = _hash(folder)
    weights.write_bytes(bytes(size))
    os.utime(weights, (1000, 1000))
    assert _hash(folder) == first
    os.utime(weights, (2000, 2000))
    second = _hash(folder)
    (folder / "chat_template.jinja").write_text("other")
    assert len({first, second, _hash(folder)}) == 3

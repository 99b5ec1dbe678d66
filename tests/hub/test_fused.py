"""Tensors that hold several parameters (Phi-3): in, out, and the adapters of a part of one."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from aloe_jax.hub.adapter import export_adapter
from aloe_jax.hub.exporter import export_model
from aloe_jax.hub.load import load_model, load_params
from aloe_jax.models import decoder, lora
from aloe_jax.models.families import phi3
from aloe_jax.parallel.mesh import make_mesh
from helpers.family_samples import write_folder

CONFIG = phi3.TINY | {"vocab_size": 416}
QKV, GATE_UP = "self_attn.qkv_proj", "mlp.gate_up_proj"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("fused") / "model", "phi3", CONFIG)


def test_rows_of_a_fused_tensor_by_hand(folder):
    """qkv_proj has 32 rows of queries (4 heads of 8), 16 of keys and 16 of values; gate_up_proj 48 and 48."""
    stored = load_file(folder / "model.safetensors")
    _, params = load_model(folder)
    qkv, gate_up = (stored[f"model.layers.1.{name}.weight"] for name in (QKV, GATE_UP))
    layer = jax.tree.map(lambda leaf: np.asarray(leaf[1]), params["layers"])
    np.testing.assert_array_equal(layer["query"][:, 3, 7], qkv[31])
    np.testing.assert_array_equal(layer["key"][:, 1, 0], qkv[32 + 8])
    np.testing.assert_array_equal(layer["value"][:, 0, 0], qkv[48])
    np.testing.assert_array_equal(layer["up"][:, 0], gate_up[48])


def test_in_and_out_keeps_every_byte_on_any_mesh(folder, tmp_path):
    config, params = load_model(folder)
    mesh = make_mesh(fsdp=4, tensor=2)
    sharded = load_params(folder, config, decoder.shardings(config, mesh))
    jax.tree.map(np.testing.assert_array_equal, sharded, params)
    export_model(sharded, config, folder, tmp_path / "out")
    before, after = (load_file(place / "model.safetensors") for place in (folder, tmp_path / "out"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[name], tensor)


def test_adapters_of_parts_add_up_to_the_merged_tensor(folder, tmp_path):
    """Of queries and values of qkv_proj (ranks 2 + 2), of the gate alone (2) and of the MLP's last map (2)."""
    config, params = load_model(folder)
    maps = ("query", "value", "gate", "down")
    grown = decoder.ModelConfig(**{**vars(config), "lora": lora.Lora(maps, rank=2, alpha=6.0)})
    draw = np.random.default_rng(0)
    shapes, _ = lora.split(decoder.abstract_params(grown))
    adapters = jax.tree.map(lambda leaf: draw.standard_normal(leaf.shape, np.float32), shapes)
    export_adapter(adapters, grown, "base", folder, tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert sorted(settings["target_modules"]) == ["down_proj", "gate_up_proj", "qkv_proj"]
    assert (settings["r"], settings["lora_alpha"]) == (2, 6.0)
    assert (settings["rank_pattern"], settings["alpha_pattern"]) == ({"qkv_proj": 4}, {"qkv_proj": 12.0})

    export_model(lora.merge(lora.join(params, adapters), grown.lora), config, folder, tmp_path / "merged")
    base, merged = (load_file(place / "model.safetensors") for place in (folder, tmp_path / "merged"))
    found = load_file(tmp_path / "adapter/adapter_model.safetensors")
    assert len(found) == 2 * 3 * config.layers
    for layer in range(config.layers):
        for name, rank in ((QKV, 4), (GATE_UP, 2), ("mlp.down_proj", 2)):
            module = f"model.layers.{layer}.{name}"
            down, up = (found[f"base_model.model.{module}.lora_{part}.weight"] for part in "AB")
            assert down.shape[0] == up.shape[1] == rank
            added = base[f"{module}.weight"] + 6.0 / 2 * up @ down
            np.testing.assert_allclose(added, merged[f"{module}.weight"], atol=1e-4)
    assert not up_rows_of_keys(found).any()


def up_rows_of_keys(found):
    return found[f"base_model.model.model.layers.0.{QKV}.lora_B.weight"][32:48]

"""The four GGUF layouts through `aloe import`: tensors as Hugging Face had them, log-probabilities as llama.cpp's."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import AutoConfig

from aloe_jax.hub import importer, load
from aloe_jax.models import decoder
from aloe_jax.ops import attention
from helpers import gguf_models, hub_files

KIND = gguf.GGMLQuantizationType
GOLDEN = Path(__file__).parents[2] / "fixtures" / "hub" / "gguf_log_probs.json"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))


def _imported(folder, model, kinds, **options):
    """The folder that a GGUF file of `model` becomes, and the file."""
    file = hub_files.write_gguf(folder / "f.gguf", model, kinds, **options)
    return importer.import_model(str(file), folder / "out"), file


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("layout", gguf_models.CONFIGS)
def test_tensors_are_hugging_faces(tmp_path, layout, tied):
    """Every tensor equal bit for bit: names, row order and norms are put back."""
    model = gguf_models.config(layout, tie_word_embeddings=tied)
    expected = gguf_models.tensors(model)
    out, _ = _imported(tmp_path, model, {}, tensors=expected)
    found = load_file(out / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert load.load_model(out)[0] == model
    assert AutoConfig.from_pretrained(out).architectures == gguf_models.CONFIGS[layout]["architectures"]


MATRICES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@pytest.mark.parametrize("kind", [KIND.F16, KIND.BF16, KIND.Q8_0, KIND.Q4_0, KIND.Q4_1, KIND.Q5_0, KIND.Q5_1])
@pytest.mark.parametrize("layout", gguf_models.CONFIGS)
def test_stored_types(tmp_path, layout, kind):
    """Blocks run along rows, so a moved row keeps its values: they are those of the row quantised on its own."""
    model = gguf_models.config(layout)
    original = gguf_models.tensors(model)
    out, _ = _imported(tmp_path, model, dict.fromkeys(MATRICES, kind), tensors=original)
    found = load_file(out / "model.safetensors")
    for part in MATRICES.values():
        name = f"model.layers.1.{part}.weight"
        expected = gguf.dequantize(gguf.quantize(original[name], kind), kind)
        np.testing.assert_array_equal(found[name].astype(np.float32), expected, err_msg=name)
    halves = {KIND.F16: "float16", KIND.BF16: "bfloat16"}
    assert found["model.layers.1.mlp.up_proj.weight"].dtype.name == halves.get(kind, "float32")


@pytest.mark.parametrize("kind", [KIND.Q2_K, KIND.Q3_K, KIND.Q4_K, KIND.Q5_K, KIND.Q6_K])
def test_k_quants(tmp_path, kind):
    """Super-blocks have 256 values. What `gguf` reads from the file under llama.cpp's name is what the folder holds."""
    model = gguf_models.config("qwen3", hidden_size=256, intermediate_size=256)
    out, file = _imported(tmp_path, model, dict.fromkeys(("attn_q", "ffn_down", "token_embd"), kind))
    found = load_file(out / "model.safetensors")
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    for ours, theirs in {
        "model.embed_tokens": "token_embd",
        "model.layers.2.self_attn.q_proj": "blk.2.attn_q",
        "model.layers.0.mlp.down_proj": "blk.0.ffn_down",
    }.items():
        blocks = stored[f"{theirs}.weight"]
        assert blocks.tensor_type == kind
        expected = gguf.dequantize(blocks.data, kind)
        assert np.isfinite(expected).all()
        assert len(np.unique(expected)) > 1000
        np.testing.assert_array_equal(found[f"{ours}.weight"], expected, err_msg=ours)


def _log_probs(folder):
    """Our next-token log-probabilities [T, V] for the golden tokens, f32, as f64."""
    config, params = load.load_model(folder)
    tokens = jnp.array([gguf_models.TOKENS])
    length = tokens.shape[1]
    positions, end = jnp.arange(length)[None], jnp.full((1, length), length)

    def attend(layer, query, key, value, carry):
        window, soft_cap = layer.window, layer.soft_cap
        return attention.dense(query, key, value, end, positions, window, soft_cap, scale=config.scale), carry

    @jax.jit
    def forward(params):
        states, _ = decoder.hidden_states(params, config, tokens, positions, attend)
        return jax.nn.log_softmax(states[0] @ decoder.head_weight(params, config))

    return np.asarray(forward(params), np.float64)


@pytest.mark.parametrize("layout", gguf_models.CONFIGS)
def test_log_probs_are_llama_cpps(tmp_path, layout):
    """llama.cpp reads the same file itself, so that a wrong name, row order or constant would show.

    Log-probabilities are given to 5 decimals and logits are below 16, f32: 2e-5 measured, 1e-4 allowed. Its GELU is a
    table in f16, off by 2^-11 of an activation in each of Gemma's four layers: 1.4e-3 measured, 4 x 2^-10 allowed.
    """
    model = gguf_models.config(layout)
    out, _ = _imported(tmp_path, model, {}, tensors=gguf_models.tensors(model))
    found = _log_probs(out)
    allowed = 4 * 2**-10 if layout == "gemma3" else 1e-4
    for row in json.loads(GOLDEN.read_text())[layout]:
        np.testing.assert_allclose(found[row["position"], row["tokens"]], row["log_probs"], atol=allowed, rtol=0)


@pytest.mark.torch
@pytest.mark.parametrize("layout", gguf_models.CONFIGS)
def test_transformers_opens_the_folder(tmp_path, layout):
    """The same logits as a model that transformers makes from the original config and tensors: equal weights and, the
    same code running, equal sums; 1e-5 allows for another order of threads."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    model, original = gguf_models.config(layout), gguf_models.CONFIGS[layout]
    weights = gguf_models.tensors(model)
    out, _ = _imported(tmp_path, model, {}, tensors=weights)
    opened, report = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values()), report
    kind = {"gemma3": "gemma3_text"}.get(layout, layout)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **original)).eval()
    left = made.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()}, strict=False)
    assert left.missing_keys == (["lm_head.weight"] if model.tied else [])
    tokens = torch.tensor([gguf_models.TOKENS])
    with torch.inference_mode():
        np.testing.assert_allclose(opened(tokens).logits.numpy(), made(tokens).logits.numpy(), atol=1e-5, rtol=0)

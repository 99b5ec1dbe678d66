"""GGUF metadata to config.json: every layout, defaults of missing keys, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.hub import families
from aloe_jax.hub.gguf.config import hf_config
from aloe_jax.hub.gguf.file import GGUFFile
from helpers import gguf_models, hub_files


def _config(folder, layout, changes=None, **metadata):
    """The config.json content read from a file of a layout whose only tensors are the rotary factors."""
    model = gguf_models.config(layout, **(changes or {}))
    metadata = {f"{layout}.{key}": value for key, value in metadata.items()}
    return hf_config(GGUFFile(hub_files.write_gguf(folder / "f.gguf", model, {}, tensors={}, **metadata)))


@pytest.mark.parametrize("layout", gguf_models.CONFIGS)
def test_every_field_comes_back(tmp_path, layout):
    found = _config(tmp_path, layout)
    assert families.model_config(found, "f.gguf") == gguf_models.config(layout, tie_word_embeddings=True)


def test_constants_lose_their_f32_noise(tmp_path):
    found = _config(tmp_path, "llama")
    assert (found["rms_norm_eps"], found["rope_theta"], found["rope_scaling"]["factor"]) == (1e-5, 10_000.0, 8.0)


def test_left_out_keys_have_llama_cpps_defaults(tmp_path):
    left_out = ("attention.key_length", "attention.head_count_kv", "rope.freq_base", "attention.value_length")
    found = _config(tmp_path, "qwen3", **dict.fromkeys(left_out))
    assert (found["head_dim"], found["num_key_value_heads"], found["rope_theta"]) == (16, 4, 10_000.0)


@pytest.mark.parametrize(
    ("metadata", "factor"),
    [
        ({"rope.scaling.type": None}, 4.0),
        ({"rope.scaling.type": None, "rope.scaling.factor": None, "rope.scale_linear": 2.0}, 2.0),
        ({"rope.scaling.factor": 1.0}, None),
        ({"rope.scaling.factor": 0.0}, None),
        ({"rope.scaling.type": "none"}, None),
        ({"rope.scaling.type": None, "rope.scaling.factor": None}, None),
    ],
)
def test_linear_scaling_in_all_spellings(tmp_path, metadata, factor):
    expected = None if factor is None else {"rope_type": "linear", "factor": factor}
    assert _config(tmp_path, "qwen2", **metadata)["rope_scaling"] == expected


def test_gemma3_local_layers(tmp_path):
    """Five local layers per global one if the file does not state the pattern; one by one if it lists them; none
    without a window."""
    eight = {"num_hidden_layers": 8}
    name = "attention.sliding_window_pattern"

    def local(**metadata):
        return [kind == "sliding_attention" for kind in _config(tmp_path, "gemma3", eight, **metadata)["layer_types"]]

    assert local() == [True, True, False] * 2 + [True, True]
    assert local(**{name: None}) == [True] * 5 + [False] + [True] * 2
    assert local(**{name: [False, True] * 4}) == [False, True] * 4
    assert not any(local(**{"attention.sliding_window": None}))
    with pytest.raises(InputError, match="sliding_window_pattern has 2 entries for 8 layers"):
        local(**{name: [False, True]})


def test_gemma3_values_that_files_leave_out(tmp_path):
    found = _config(tmp_path, "gemma3", **{"rope.freq_base_swa": None})
    assert (found["rope_local_base_freq"], found["query_pre_attn_scalar"]) == (10_000.0, 32)
    largest = _config(tmp_path, "gemma3", **{"block_count": 62})
    assert largest["query_pre_attn_scalar"] == 16  # 64 / 4 heads: the 27B model, not 32 = head_dim


@pytest.mark.parametrize(("name", "value"), [("final_logit_softcapping", 30.0), ("attn_logit_softcapping", 50.0)])
def test_gemma3_soft_caps(tmp_path, name, value):
    assert _config(tmp_path, "gemma3")[name] is None
    assert _config(tmp_path, "gemma3", **{name: value})[name] == value


@pytest.mark.parametrize(
    ("layout", "metadata", "sentence"),
    [
        ("llama", {"rope.scaling.type": "yarn"}, "llama.rope.scaling.type is yarn; only none and linear are supported"),
        ("llama", {"rope.dimension_count": 8}, "llama.rope.dimension_count is 8; only 32"),
        ("llama", {"expert_count": 8}, "llama.expert_count is 8"),
        ("qwen3", {"attention.causal": False}, "qwen3.attention.causal is False"),
        ("qwen2", {"attention.sliding_window": 9}, "qwen2.attention.sliding_window is 9; only 0"),
        ("qwen3", {"attention.value_length": 64}, "qwen3.attention.value_length is 64; only 32"),
        ("gemma3", {"attention.key_length": 0}, "key_length' is 0; expected a positive integer"),
        ("llama", {"attention.key_length": [16, 8]}, r"key_length' is \[16, 8\]; expected a positive integer"),
        ("gemma3", {"rope.freq_base": "much"}, "gemma3.rope.freq_base' is 'much'; expected a number"),
        ("llama", {"rope.freq_base": 0.0}, "llama.rope.freq_base' is 0; expected a number above 0"),
        ("llama", {"rope.freq_base": -1.5}, "llama.rope.freq_base' is -1.5; expected a number above 0"),
        ("gemma3", {"rope.freq_base_swa": 0.0}, "gemma3.rope.freq_base_swa' is 0; expected a number above 0"),
        ("qwen3", {"attention.layer_norm_rms_epsilon": 0.0}, "rms_epsilon' is 0; expected a number above 0"),
        ("qwen2", {"embedding_length": None}, "metadata key 'qwen2.embedding_length' is missing"),
        ("gemma3", {"attention.layer_norm_rms_epsilon": None}, "'gemma3.attention.layer_norm_rms_epsilon' is missing"),
    ],
)
def test_refused(tmp_path, layout, metadata, sentence):
    with pytest.raises(InputError, match=sentence):
        _config(tmp_path, layout, **metadata)


def _rotary(folder, factors, **metadata):
    model = gguf_models.config("llama", rope_scaling=None)
    extra = {"rope_freqs.weight": np.array(factors, np.float32)}
    return hf_config(GGUFFile(hub_files.write_gguf(folder / "f.gguf", model, {}, tensors={}, extra=extra, **metadata)))


@pytest.mark.filterwarnings("error")
def test_rotary_factors_that_config_json_cannot_state(tmp_path):
    """Other shapes of scaling, a wrong length, and a second scaling beside the factors."""
    known = hub_files.llama3_factors(10_000.0, 32, **gguf_models.CONFIGS["llama"]["rope_scaling"])
    assert _rotary(tmp_path, known)["rope_scaling"]["factor"] == 8.0
    assert _rotary(tmp_path, np.ones(16))["rope_scaling"] is None
    sentence = r"config.json cannot state the rotary factors in tensor 'rope_freqs.weight'.*Hugging Face folder"
    for factors in (np.full(16, 3.0), known * 1.01, known[:8], np.full(16, np.nan)):
        with pytest.raises(InputError, match=sentence):
            _rotary(tmp_path, factors)
    for changed in ({"llama.rope.scaling.factor": 2.0}, {"llama.rope.freq_base": 1.0}, {"llama.rope.freq_base": 1e38}):
        with pytest.raises(InputError, match=sentence):
            _rotary(tmp_path, known, **changed)

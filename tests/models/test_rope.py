"""Rotary embeddings of long contexts and of a part of a head, by hand."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.hub.families import model_config
from aloe_jax.models import decoder
from aloe_jax.models.families import olmo3, phi3
from aloe_jax.models.families._refused import REASONS
from aloe_jax.models.rope import LongRopeScaling, Rope, YarnScaling, rotary
from helpers import tiny_models
from helpers.aloe_command import ROOT

LONGROPE = phi3.TINY | {"vocab_size": 30} | tiny_models.VARIANTS["phi3"]["longrope"]


def test_yarn_by_hand():
    """Base e^4, four pairs: frequencies 1, e^-1, e^-2, e^-3. In 2 pi e^3 tokens pair i turns e^(3 - i) times. With
    beta_fast e^3 and beta_slow e the ramp goes from pair 0 to pair 2: shares 0, 1/2, 1, 1 of the factor 1/4."""
    original = round(2 * math.pi * math.e**3)
    scaling = YarnScaling(math.e**4, 4.0, 1.5, math.e**3 * 0.999, math.e * 1.001, original)
    shares = np.array([1, (1 + 1 / 4) / 2, 1 / 4, 1 / 4])
    rope = Rope(math.e**4, scaling)
    np.testing.assert_allclose(rope.frequencies(8), np.exp(-np.arange(4)) * shares)
    assert rope.amplitude == 1.5


def test_the_usual_amplitude_of_yarn():
    """Section 3.4 of its paper: 0.1 ln 8 + 1, what OLMo 3's config.json states."""
    scaling = {key: value for key, value in olmo3.TINY["rope_scaling"].items() if key != "attention_factor"}
    model = olmo3.from_hf(olmo3.TINY | {"vocab_size": 30, "rope_scaling": scaling})
    assert model == olmo3.from_hf(olmo3.TINY | {"vocab_size": 30})
    assert [layer.rope.amplitude for layer in model.pattern] == pytest.approx([1, 1, 1, 1.2079441541679836])
    assert [layer.window for layer in model.pattern] == [11, 11, 11, None]


def test_longrope_by_hand():
    """A stretch of 4096 to 131072 tokens gives Phi-4-mini's amplitude: sqrt(1 + ln 32 / ln 4096) = sqrt(17 / 12)."""
    rope = Rope(100.0, LongRopeScaling((1.0, 2.0), (3.0, 4.0), 4096, 131_072))
    np.testing.assert_allclose(rope.frequencies(4), [1.0, 0.1 / 2.0])
    assert rope.amplitude == pytest.approx(math.sqrt(17 / 12))
    assert Rope(100.0, LongRopeScaling((1.0,), (3.0,), 4096, 4096)).amplitude == 1.0


def test_a_model_with_longrope_has_the_context_of_its_pretraining():
    """Paths beyond it would need the other factors; the export keeps the context that was stated."""
    model = phi3.from_hf(LONGROPE)
    assert model.context == 256
    written = phi3.to_hf(model, "float32")
    assert (written["max_position_embeddings"], written["original_max_position_embeddings"]) == (1024, 256)
    assert written["rope_scaling"] == {**LONGROPE["rope_scaling"], "type": "longrope"}


def test_a_part_of_a_head_rotates():
    """Of six dimensions the first four: pairs (0, 2) and (1, 3), by 90 degrees and not at all, twice as large."""
    x = jnp.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).reshape(1, 1, 1, 6)
    turned = rotary(x, jnp.array([[1]]), jnp.array([math.pi / 2, 0.0]), jnp.float32(2.0))
    np.testing.assert_allclose(turned.reshape(-1), [-6.0, 4.0, 2.0, 8.0, 5.0, 6.0], atol=1e-6)


def test_amplitudes_are_values_of_layers_where_one_has_some():
    assert decoder.scan_input(phi3.from_hf(phi3.TINY | {"vocab_size": 30}), {}).values.amplitude is None
    scan = decoder.scan_input(olmo3.from_hf(olmo3.TINY | {"vocab_size": 30}), {})
    np.testing.assert_allclose(scan.values.amplitude, [1, 1, 1, 1.2079442], rtol=1e-6)


@pytest.mark.parametrize(
    ("family", "change", "sentence"),
    [
        (phi3, {"partial_rotary_factor": 0.4}, r"partial_rotary_factor is 0.4; expected a share of the head_dim 8"),
        (phi3, {"partial_rotary_factor": 1.5}, r"partial_rotary_factor is 1.5; expected a share"),
        (phi3, {"partial_rotary_factor": 1.0} | {"rope_scaling": LONGROPE["rope_scaling"]}, r"short_factor has 2 num"),
        (phi3, LONGROPE | {"rope_scaling": {"type": "longrope", "short_factor": [0, 1]}}, r"short_factor is \[0, 1\]"),
        (phi3, {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, r"longrope and su are supported"),
        (phi3, {"lm_head_bias": True}, "lm_head_bias is True"),
        (olmo3, {"rope_theta": 1.0}, "rope_theta is 1.0; expected more than 1 for YaRN"),
        (olmo3, {"rope_scaling": olmo3.TINY["rope_scaling"] | {"mscale": 2.0}}, "mscale is 2.0"),
        (olmo3, {"rope_parameters": {"rope_type": "yarn"}}, "expected an object for each of full_attention"),
    ],
)
def test_what_is_not_computed_is_refused(family, change, sentence):
    with pytest.raises(InputError, match=sentence):
        family.from_hf(family.TINY | {"vocab_size": 30} | change)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("Gemma3nForConditionalGeneration", "an embedding per layer"),
        ("Gemma4ForConditionalGeneration", "an embedding per layer"),
        ("Qwen3MoeForCausalLM", "mixture of experts"),
        ("Qwen3_5ForConditionalGeneration", "a running state"),
        ("OlmoHybridForCausalLM", "a running state"),
        ("Phi4MMForCausalLM", "images or sound"),
    ],
)
def test_models_of_today_that_are_refused_say_why(architecture, reason):
    with pytest.raises(InputError, match=f"architecture {architecture}, which is not supported: .*{reason}"):
        model_config({"architectures": [architecture]}, "folder")


def test_the_installed_transformers_has_the_refused_classes():
    """A misspelt name would refuse nothing. Two are of code that comes with the model; no name is supported."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as IMAGES

    own = {"Phi4FlashForCausalLM", "Phi4MMForCausalLM", "Phi3VForCausalLM", "PhiMoEForCausalLM"}
    assert REASONS.keys() - own <= {*CAUSAL.values(), *IMAGES.values()}
    guide = (ROOT / "docs/guide.md").read_text()
    for name in ("Gemma 3n", "Gemma 4", "Qwen3 MoE", "Qwen3.5", "OLMo Hybrid", "Phi-4-multimodal"):
        assert name in guide

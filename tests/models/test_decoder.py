"""The decoder: parameter counts, norms and rotary embeddings by hand, configs that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.models import decoder
from aloe_jax.models.families import llama
from aloe_jax.models.norms import layer_norm, rms_norm
from aloe_jax.models.rope import Llama3Scaling, Rope, rotary
from helpers.tiny import MODEL, params


def test_parameters_are_counted():
    """A layer has 64 x 8 x (8 + 4 + 4 + 8) attention weights, 3 x 64 x 96 of the MLP and two norms of 64; the
    rest are the embedding and the last norm."""
    layer = 64 * 8 * 24 + 3 * 64 * 96 + 2 * 64
    assert decoder.parameter_count(MODEL) == 2 * layer + MODEL.vocab * 64 + 64


def test_layers_are_initialised_apart():
    query = params()["layers"]["query"]
    assert float(jnp.abs(query[0] - query[1]).max()) > 0.1


def test_rotary_keeps_distances():
    """The product of a rotated query and key depends only on the distance of their positions."""
    query, key = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))

    def product(at, other):
        turn = lambda x, position: rotary(x, jnp.array([[position]]), jnp.asarray(Rope(10_000.0).frequencies(8)))  # noqa: E731
        return float(jnp.sum(turn(query, at) * turn(key, other)))

    assert product(5, 2) == pytest.approx(product(105, 102), abs=1e-4)
    assert product(5, 2) != pytest.approx(product(5, 4), abs=1e-3)


def test_rms_norm_by_hand():
    """Mean square of (3, 4) is 12.5; 3 / sqrt(12.5) = 0.848528, 4 / sqrt(12.5) = 1.131371, times the scale."""
    got = rms_norm(jnp.array([3.0, 4.0]), jnp.array([1.0, 2.0]), 0.0)
    np.testing.assert_allclose(got, [0.848528, 2.262742], atol=1e-6)


def test_rms_norm_over_two_axes_and_with_an_offset():
    """Over the heads of a token at once; Gemma scales by 1 + weight."""
    x = jnp.array([[[3.0, 4.0], [0.0, 0.0]]])  # mean square over four: 6.25
    np.testing.assert_allclose(rms_norm(x, jnp.ones((2, 2)), 0.0, axes=2), x / 2.5, atol=1e-6)
    np.testing.assert_allclose(rms_norm(x, jnp.zeros((2, 2)), 0.0, 2, offset=1.0), x / 2.5, atol=1e-6)


def test_layer_norm_by_hand():
    """Of (1, 3) the mean is 2 and the standard deviation 1."""
    np.testing.assert_allclose(layer_norm(jnp.array([1.0, 3.0]), 0.0), [-1.0, 1.0], atol=1e-6)


def test_llama3_scaling_by_hand():
    """Wavelengths below 32 / 4 = 8 are kept, those above 32 / 1 become 8 times longer, and 16 in between keeps a third:
    (32 / 16 - 1) / (4 - 1)."""
    wavelengths = np.array([4.0, 16.0, 64.0])
    scaled = Llama3Scaling(8.0, 1.0, 4.0, 32)(2 * np.pi / wavelengths)
    np.testing.assert_allclose(2 * np.pi / scaled, [4.0, 16.0 / (1 / 3 + 2 / 3 / 8), 512.0])


CONFIG = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 100,
    "intermediate_size": 96, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0,
}  # fmt: skip


def test_llama_config_round_trip():
    model = llama.from_hf(CONFIG)
    assert (model.head_dim, model.kv_heads, model.pattern[0].rope.theta, model.tied) == (8, 4, 500_000.0, False)
    assert llama.from_hf(llama.to_hf(model, "float32")) == model
    # transformers 5 writes the base frequency into rope_parameters
    nested = {key: value for key, value in CONFIG.items() if key != "rope_theta"}
    nested["rope_parameters"] = {"rope_type": "default", "rope_theta": 500_000.0}
    assert llama.from_hf(nested) == model


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rope_scaling": {"rope_type": "yarn", "factor": 8.0}}, "rope type is 'yarn'; default, linear and llama3"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "'rope low_freq_factor' is missing"),
        ({"hidden_size": "64"}, "hidden_size is '64'; expected a number above 0"),
        ({"vocab_size": 10.5}, "vocab_size is 10.5; expected a whole number"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"num_key_value_heads": 3}, "num_attention_heads 8 is not a multiple of num_key_value_heads 3"),
    ],
)
def test_unsupported_configs_are_refused(change, reason):
    with pytest.raises(InputError, match=reason):
        llama.from_hf(CONFIG | change)


def test_missing_field_is_named():
    with pytest.raises(InputError, match="field 'vocab_size' is missing"):
        llama.from_hf({key: value for key, value in CONFIG.items() if key != "vocab_size"})

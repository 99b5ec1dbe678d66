import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.models import decoder, llama
from tiny import MODEL, params


def test_parameters_are_counted():
    assert sum(leaf.size for leaf in jax.tree.leaves(decoder.abstract_params(MODEL))) == MODEL.parameters


def test_layers_are_initialised_apart():
    query = params()["layers"]["query"]
    assert float(jnp.abs(query[0] - query[1]).max()) > 0.1


def test_rotary_keeps_distances():
    """The product of a rotated query and key depends on the distance of their positions alone."""
    query, key = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))

    def product(at, other):
        turn = lambda x, position: decoder.rotary(x, jnp.array([[position]]), 10_000.0)  # noqa: E731
        return float(jnp.sum(turn(query, at) * turn(key, other)))

    assert product(5, 2) == pytest.approx(product(105, 102), abs=1e-4)
    assert product(5, 2) != pytest.approx(product(5, 4), abs=1e-3)


def test_rms_norm_by_hand():
    """Mean square of (3, 4) is 12.5; 3 / sqrt(12.5) = 0.848528, 4 / sqrt(12.5) = 1.131371, times the scale."""
    got = decoder.rms_norm(jnp.array([3.0, 4.0]), jnp.array([1.0, 2.0]), 0.0)
    np.testing.assert_allclose(got, [0.848528, 2.262742], atol=1e-6)


CONFIG = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 100,
    "intermediate_size": 96, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0,
}  # fmt: skip


def test_llama_config_round_trip():
    model = llama.from_hf(CONFIG)
    assert (model.head_dim, model.kv_heads, model.rope_theta, model.tied) == (8, 4, 500_000.0, False)
    assert llama.from_hf(llama.to_hf(model, "float32")) == model
    # transformers 5 writes the base frequency into rope_parameters
    nested = {key: value for key, value in CONFIG.items() if key != "rope_theta"}
    nested["rope_parameters"] = {"rope_type": "default", "rope_theta": 500_000.0}
    assert llama.from_hf(nested) == model


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope type is 'llama3'"),
        ({"attention_bias": True}, "attention_bias is True"),
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

"""Adapters: their output, merging, and the errors of a wrong config."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.models import decoder, lora
from aloe_jax.models.lora import LoraSettings
from aloe_jax.ops.attention import dense
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.train.adapters import with_adapters
from helpers import tiny

SECTION = LoraSettings(maps=".*", rank=4, alpha=8.0)
UNTIED = dataclasses.replace(tiny.MODEL, tied=False)
MODEL = with_adapters(UNTIED, SECTION)
TOKENS = jnp.arange(20)[None]


@pytest.fixture(scope="module")
def params():
    """Random parameters with random adapters, B included."""
    made = jax.jit(lambda key: decoder.init_params(MODEL, key))(jax.random.key(0))
    draw = lambda path, leaf: jax.random.normal(jax.random.key(len(path)), leaf.shape) * 0.1  # noqa: E731
    return jax.tree.map_with_path(lambda path, leaf: draw(path, leaf) if path[-1].key.endswith(lora.B) else leaf, made)


@functools.partial(jax.jit, static_argnames="model")
def logits(params, model, dropout=None):
    ends, positions = jnp.full((1, 20), 20), jnp.arange(20)[None]

    def attend(layer, query, key, value, carry):
        return dense(query, key, value, ends, positions, None, None, scale=model.scale), carry

    options = decoder.Options(dropout=dropout)
    hidden, _ = decoder.hidden_states(params, model, TOKENS, positions, attend, options=options)
    return hidden[0] @ decoder.head_weight(params, model)


def test_every_map_has_an_adapter_and_base_leaves_are_the_same(params):
    adapters, base = lora.split(params)
    assert {name.partition("_lora")[0] for name in adapters["layers"]} == {
        "query", "key", "value", "output", "gate", "up", "down",
    }  # fmt: skip
    assert set(adapters) == {"layers", "head_lora_a", "head_lora_b"}
    assert jax.tree.structure(base) == jax.tree.structure(decoder.abstract_params(UNTIED))
    assert jax.tree.structure(lora.join(base, adapters)) == jax.tree.structure(params)
    assert adapters["layers"]["output_lora_a"].shape == (2, 8, 8, 4)
    assert adapters["layers"]["query_lora_b"].shape == (2, 4, 8, 8)


def test_merged_parameters_compute_the_same(params):
    """f32 sums in another order: logits of order 1 to 10 agree to 1e-4."""
    merged = lora.merge(params, MODEL.lora)
    got, plain = logits(merged, UNTIED), logits(lora.split(params)[1], UNTIED)
    np.testing.assert_allclose(got, logits(params, MODEL), atol=1e-4)
    assert float(jnp.abs(got - plain).max()) > 0.1  # the adapters do something


def test_merge_by_hand():
    """x W + 3 / 1 x A B with one input, one output: W + 3 * 2 * 5 = 31."""
    one = lora.Lora(("head",), rank=1, alpha=3.0)
    parts = {"head": jnp.ones((1, 1)), "head_lora_a": jnp.full((1, 1), 2.0), "head_lora_b": jnp.full((1, 1), 5.0)}
    assert lora.merge(parts, one) == {"head": jnp.full((1, 1), 31.0)}


def test_a_new_adapter_computes_nothing():
    params = jax.jit(lambda key: decoder.init_params(MODEL, key))(jax.random.key(1))
    np.testing.assert_array_equal(logits(params, MODEL), logits(lora.split(params)[1], UNTIED))


def test_dropout_is_of_the_adapters_inputs_and_keyed(params):
    model = dataclasses.replace(MODEL, lora=dataclasses.replace(MODEL.lora, dropout=0.5))
    plain = logits(params, model)
    np.testing.assert_array_equal(plain, logits(params, MODEL))  # no key: nothing is dropped
    first, again, other = (logits(params, model, dropout=jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, plain)
    assert not np.allclose(first, other)


def test_adapters_are_sharded_as_their_base():
    places = decoder.shardings(MODEL, make_mesh(fsdp=4, tensor=2))["layers"]
    assert places["query_lora_a"].spec == jax.P(None, "fsdp", None)
    assert places["query_lora_b"].spec == jax.P(None, None, "tensor", None)
    assert places["down_lora_a"].spec == jax.P(None, "tensor", None)
    assert places["down_lora_b"].spec == jax.P(None, None, "fsdp")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"maps": "qeury"}, "'qeury' matches no linear map; there are query, key, value, output, gate, up, down"),
        ({"maps": "query|valeu"}, "'valeu' in 'query\\|valeu' matches no linear map.*; did you mean 'value'"),
        ({"maps": "(query|x)|head"}, "'head' in .* matches no linear map, so less would be trained than it says"),
        ({"maps": "("}, "'\\(' is not a regular expression"),
        ({"maps": "head"}, "'head' matches no linear map"),  # tied: the embedding is no linear map
        ({"rank": 0}, "rank 0, alpha 8.0, dropout 0.0; expected rank of at least 1"),
        ({"dropout": 1.0}, "dropout from 0 to below 1"),
    ],
)
def test_wrong_sections(change, reason):
    with pytest.raises(InputError, match=reason):
        with_adapters(tiny.MODEL, dataclasses.replace(SECTION, **change))


def test_no_maps_no_adapters():
    assert with_adapters(tiny.MODEL, dataclasses.replace(SECTION, maps="")) is tiny.MODEL


def test_alternatives_of_a_pattern():
    """Only bars outside brackets part alternatives."""
    known = ("query", "key", "value")
    assert lora.unmatched("query|val.*|k[e|x]y|(value|nothing)", known) == []
    assert lora.unmatched("query|nothing|vale", known) == ["nothing", "vale"]
    assert lora.unmatched(r"query\||key", known) == [r"query\|"]

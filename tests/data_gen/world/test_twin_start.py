"""The tiny model's start: before any training it takes tokens from the context, as a random start does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from aloe_jax.hub.config_file import read_config
from aloe_jax.hub.families import model_config
from aloe_jax.models import decoder
from aloe_jax.ops.attention import dense
from data_gen.world.twin import SIZES, twin_model
from data_gen.world.twin_start import start_params

LENGTH = 60


@pytest.fixture(scope="module")
def model():
    return model_config(SIZES, "SIZES")


def foretold(params, model):
    """The share of the tokens of a random sequence's second pass that are the most likely ones there."""
    tokens = np.tile(np.random.default_rng(0).integers(0, model.vocab, LENGTH), 2)[None]
    positions, end = jnp.arange(2 * LENGTH)[None], jnp.full((1, 2 * LENGTH), 2 * LENGTH)

    def attend(layer, query, key, value, carry):
        return dense(query, key, value, end, positions, None, None, scale=model.head_dim**-0.5), carry

    states, _ = decoder.hidden_states(params, model, jnp.asarray(tokens), positions, attend)
    likeliest = np.argmax(states @ decoder.head_weight(params, model), axis=-1)
    return float(np.mean(likeliest[0, LENGTH:-1] == tokens[0, LENGTH + 1 :]))


def test_it_continues_what_it_has_seen_once(model):
    """A random start guesses one token of `vocab`; the circuit finds about two of three."""
    random = decoder.init_params(model, jax.random.key(0))
    assert foretold(random, model) < 0.05
    assert foretold(start_params(model, 0), model) > 0.5


def test_the_weights_of_the_package_are_of_this_model(model):
    assert read_config(epath.Path(twin_model()))[0] == model

"""`random:FAMILY`: a complete folder of a tiny model of any family."""

from __future__ import annotations

import pytest

from aloe_jax.errors import InputError
from aloe_jax.hub import load, source
from aloe_jax.models import decoder
from aloe_jax.models.families import FAMILIES
from aloe_jax.tree.template import ChatFormat


@pytest.mark.parametrize(
    "family", [pytest.param(family, marks=() if family == "llama" else pytest.mark.slow) for family in FAMILIES]
)
def test_every_family_has_one(family, smollm2):
    folder = source.resolve_model(f"random:{family}")
    model, _ = load.load_model(folder)
    assert model.family == family
    assert decoder.parameter_count(model) < 4_000_000
    assert ChatFormat.load(folder).tokenizer.vocab_size <= model.vocab
    assert source.resolve_model(f"random:{family}") == folder


def test_unknown_family(smollm2):
    with pytest.raises(InputError, match=f"random model 'lama' is unknown; expected one of {', '.join(FAMILIES)}"):
        source.resolve_model("random:lama")

"""Every family against `transformers` in f32: logits, and the scores of trees (golden: tests/fixtures/models)."""

from __future__ import annotations

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.hub import families
from aloe_jax.models import decoder
from aloe_jax.models.families import FAMILIES
from aloe_jax.ops.attention import IMPLEMENTATIONS, cap
from aloe_jax.run.progress import Progress
from aloe_jax.train.score import score_file
from aloe_jax.tree.schema import write_records
from helpers import tiny_models
from helpers.aloe_command import ROOT
from helpers.family_samples import random_tensors, scored_trees, write_folder
from helpers.tree_samples import FIXTURES

VARIANTS = [(family, name) for family, module in FAMILIES.items() for name in tiny_models.variants(family, module.TINY)]
GOLDEN = {family: json.loads((FIXTURES / "models" / f"{family}.json").read_text()) for family in FAMILIES}


def config_of(family, name):
    return tiny_models.variants(family, FAMILIES[family].TINY)[name]


@functools.cache
def params_of(family, name):
    """Parameters from the random Hugging Face tensors, without a file in between."""
    model = FAMILIES[family].from_hf(config_of(family, name))
    return model, to_params(random_tensors(family, model), model)


def to_params(tensors, model):
    params = {}
    for weight in families.weights(model):
        arrays = [weight.to_param(tensors[tensor]) for tensor in families.tensor_names(weight, model)]
        place = params
        for part in weight.path[:-1]:
            place = place.setdefault(part, {})
        place[weight.path[-1]] = jnp.asarray(np.stack(arrays) if weight.path[0] == "layers" else arrays[0])
    return params


def logits(model, params, tokens, implementation):
    """Logits [T, V] of one sequence."""
    length = tokens.shape[0]
    ends, positions = jnp.full((1, length), length), jnp.arange(length)[None]

    def attend(layer, query, key, value, carry):
        attention = IMPLEMENTATIONS[implementation]
        rest = ends, positions, layer.window, layer.soft_cap
        return attention(query, key, value, *rest, scale=model.scale), carry

    hidden, _ = decoder.hidden_states(params, model, tokens[None], positions, attend)
    return cap(hidden[0] @ decoder.head_weight(params, model), model.final_soft_cap)


@pytest.mark.parametrize(
    ("family", "name", "implementation"),
    [(*variant, "dense") for variant in VARIANTS] + [(family, "tiny", "blocked") for family in FAMILIES],
)
def test_logits_match_transformers(family, name, implementation):
    """200 tokens, beyond the stated context of the tiny models. Both sides compute in f32, in different orders of
    summation: 2e-4 of the largest logit is the bound that the project promises; about 1e-6 is measured."""
    model, params = params_of(family, name)
    run = jax.jit(functools.partial(logits, model, implementation=implementation))
    found = run(params, jnp.asarray(tiny_models.tokens()))
    golden = GOLDEN[family][f"logits/{name}"]
    kept = np.asarray(found)[list(tiny_models.POSITIONS), :: tiny_models.EVERY]
    np.testing.assert_allclose(kept, golden["logits"], rtol=0, atol=2e-4 * golden["largest"])


@pytest.mark.parametrize(("family", "name"), VARIANTS)
def test_parameters_are_those_of_the_decoder(family, name):
    model, params = params_of(family, name)
    expected = decoder.abstract_params(model)
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    assert [leaf.shape for leaf in jax.tree.leaves(params)] == [leaf.shape for leaf in jax.tree.leaves(expected)]


@pytest.mark.parametrize(("family", "name"), VARIANTS)
def test_config_round_trip(family, name):
    module = FAMILIES[family]
    model = module.from_hf(config_of(family, name))
    assert module.from_hf(module.to_hf(model, "float32")) == model


@pytest.mark.parametrize(("family", "name"), VARIANTS)
def test_transformers_reads_the_exported_config_alike(family, name):
    """Our config.json, loaded by transformers and saved again with its own newer fields, is read as the same model."""
    from transformers import AutoConfig

    module = FAMILIES[family]
    model = module.from_hf(config_of(family, name))
    written = module.to_hf(model, "float32")
    again = AutoConfig.for_model(**written).to_dict()
    assert module.from_hf(again) == model


@pytest.mark.parametrize("family", FAMILIES)
def test_missing_fields_are_named(family):
    config = config_of(family, "tiny")
    for field in ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size"):
        with pytest.raises(InputError, match=f"field '{field}' is missing"):
            FAMILIES[family].from_hf({key: value for key, value in config.items() if key != field})


def test_the_guide_lists_every_family():
    text = (ROOT / "docs/guide.md").read_text()
    lines = text.split("| family |")[1].split("\n\n")[0].splitlines()[2:]
    assert {name for line in lines for name in re.findall(r"`(\w+)`", line.split("|")[1])} == set(FAMILIES)


@pytest.mark.parametrize("padding", ["eos", "other"])
@pytest.mark.parametrize("family", FAMILIES)
def test_score_equals_each_path_alone(family, padding, tmp_path):
    """Trees with and without a system message, scored in one row; `transformers` scored each path alone. A reply's sum
    of some 30 log-probabilities of order 5 in f32: 1e-3 is the bound that the project promises."""
    pad = None if padding == "eos" else 0
    folder = write_folder(tmp_path / "model", family, config_of(family, "tiny") | tiny_models.SCORED, pad)
    write_records(tmp_path / "trees.jsonl", scored_trees())
    system = "fold_into_first_user" if family in tiny_models.FOLDED else "keep"
    out = tmp_path / "scores.jsonl"
    score_file(str(folder), tmp_path / "trees.jsonl", out, "float32", system, Progress())
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    found = {f"{line['conversation']}/{line['node']}": line["log_prob"] for line in lines}
    assert found == pytest.approx(GOLDEN[family]["scores"], abs=1e-3)


@pytest.mark.torch
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", FAMILIES)
def test_live_transformers_with_random_configs(family, seed):
    pytest.importorskip("torch")
    import make_logits  # needs torch

    draw = np.random.default_rng(seed)
    groups, heads = int(draw.integers(1, 4)), int(draw.integers(1, 4))
    change = {
        "vocab_size": int(draw.integers(50, 416)),
        "num_key_value_heads": groups,
        "num_attention_heads": groups * heads,
        "head_dim": int(draw.choice([4, 8, 12])),
        "intermediate_size": int(draw.integers(8, 60)),
        "tie_word_embeddings": bool(draw.integers(2)),
    }
    change["hidden_size"] = change["num_attention_heads"] * int(draw.choice([4, 6, 8]))
    if family in ("olmo", "olmo2"):  # their classes take head_dim from hidden_size
        change["head_dim"] = change["hidden_size"] // change["num_attention_heads"]
    config = {**FAMILIES[family].TINY, **change}
    model = FAMILIES[family].from_hf(config)
    tensors = random_tensors(family, model)
    tokens = draw.integers(0, config["vocab_size"], 60)
    live = make_logits.logits(family, config, tokens)
    params = to_params(tensors, model)
    found = np.asarray(logits(model, params, jnp.asarray(tokens), "dense"))
    np.testing.assert_allclose(found, live, rtol=0, atol=2e-4 * np.abs(live).max())

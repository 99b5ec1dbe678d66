"""Every field of a `config.json` is read, without effect or refused: held against the classes of `transformers`."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
from transformers import CONFIG_MAPPING

from aloe_jax.errors import InputError
from aloe_jax.hub.config_file import read_config
from aloe_jax.models.families import FAMILIES
from aloe_jax.models.families._table import IRRELEVANT, same
from helpers import tiny_models

# Fields of the classes that no `config.json` needs: how transformers shares a model, and its own subclasses' names.
PLANS = ("base_model_tp_plan", "base_model_pp_plan", "base_model_fsdp_plan", "sub_configs")

# What changes the computation and is computed: (family, field, value) of the list below.
SUPPORTED = {
    ("olmo3", "rope_scaling", str({"rope_type": "yarn", "factor": 2.0})),
    ("phi3", "partial_rotary_factor", "0.5"),
    ("phi3", "rope_parameters", str({"rope_type": "default", "partial_rotary_factor": 0.25})),
}


def fields_of(family):
    """The fields of the installed class with their defaults."""
    found = CONFIG_MAPPING[FAMILIES[family].TABLE.model_type]()
    declared = {field.name: getattr(found, field.name, None) for field in dataclasses.fields(found)}
    return {name: value for name, value in (declared | found.to_dict()).items() if name not in PLANS}


def config_of(family, **change):
    return FAMILIES[family].TINY | {"vocab_size": 416, "architectures": [FAMILIES[family].ARCHITECTURE]} | change


@pytest.mark.parametrize("family", FAMILIES)
def test_every_field_of_the_installed_class_is_in_the_table(family):
    table = FAMILIES[family].TABLE
    unknown = fields_of(family).keys() - table.used - IRRELEVANT - table.neutral.keys()
    assert not unknown, f"decide what becomes of {unknown} in {family}: read, neutral with its value, or irrelevant"


@pytest.mark.parametrize("family", FAMILIES)
def test_neutral_values_are_the_defaults_of_the_class(family):
    for name, value in fields_of(family).items():
        if name in FAMILIES[family].TABLE.neutral and value is not None:
            assert any(same(value, each) for each in FAMILIES[family].TABLE.neutral[name]), (name, value)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_field_that_a_table_calls_read_is_read(family):
    """A name in `used` that `from_hf` never reads would be ignored in silence: a value of a wrong kind is refused."""
    module = FAMILIES[family]
    options = {"sliding_window": 8, "use_sliding_window": True} if "use_sliding_window" in module.TABLE.used else {}
    scaling = {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    if family == "phi3":
        scaling = {"rope_type": "longrope", "short_factor": [1.0] * 3, "long_factor": [2.0] * 3}
    tiny = config_of(family) | options | {"rope_scaling": scaling}
    module.from_hf(tiny)
    for name in module.TABLE.used:
        whole = tiny | ({"rope_scaling": None} if name == "rope_parameters" else {})
        whole = {key: value for key, value in whole.items() if name != "max_window_layers" or key != "layer_types"}
        with pytest.raises(InputError, match=r"config\.json"):
            module.from_hf(whole | {name: "many"})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attention_multiplier", 0.5),
        ("partial_rotary_factor", 0.5),
        ("embedding_multiplier", 0),
        ("attention_dropout", 0.1),
        ("num_experts", 4),
        ("rope_scaling", {"rope_type": "linear", "factor": 2.0, "mrope_section": [1, 2, 3]}),
        ("rope_scaling", {"rope_type": "yarn", "factor": 2.0}),
        ("rope_parameters", {"rope_type": "default", "partial_rotary_factor": 0.25}),
        ("dual_chunk_attention_config", {"chunk_size": 4}),
        ("is_encoder_decoder", True),
        ("model_type", "gpt2"),
        ("tie_word_embeddings", "false"),
        ("num_hidden_layers", 100_000_000),
        ("num_hidden_layers", "2"),
        ("hidden_size", True),
        ("vocab_size", 1e300),
        ("max_position_embeddings", [1]),
    ],
)
def test_what_would_change_the_computation_is_refused_by_name(family, name, value):
    if (family, name, str(value)) in SUPPORTED:
        plain = config_of(family, rope_scaling=None, partial_rotary_factor=1.0)
        assert FAMILIES[family].from_hf(plain | {name: value}) != FAMILIES[family].from_hf(plain)
        return
    config = config_of(family, **{name: value})
    if name == "rope_parameters":
        config.pop("rope_scaling", None)
    with pytest.raises(InputError, match=rf"config\.json: (rope )?({name}|type|mrope|partial)") as caught:
        FAMILIES[family].from_hf(config)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("family", FAMILIES)
def test_empty_fields_and_those_about_other_things_are_fine(family):
    extra = {"attention_multiplier": None, "new_thing": False, "router": [], "transformers_version": "4.51.0"}
    extra |= {"torch_dtype": "bfloat16", "id2label": {"0": "a"}, "partial_rotary_factor": 1.0, "num_experts": 0}
    config = config_of(family)
    assert FAMILIES[family].from_hf(extra | config) == FAMILIES[family].from_hf(config)


@pytest.mark.parametrize(
    ("window", "kinds", "fine"),
    [
        (None, ["full_attention"] * 2, True),
        (12, ["sliding_attention"] * 2, True),
        (12, ["sliding_attention", "full_attention"], False),
        (12, ["full_attention"] * 2, False),
        (None, ["sliding_attention"] * 2, False),
    ],
)
def test_layer_types_of_mistral(window, kinds, fine):
    """`MistralForCausalLM` gives every layer the window, whatever `layer_types` says."""
    config = config_of("mistral", sliding_window=window, layer_types=kinds)
    if fine:
        assert FAMILIES["mistral"].from_hf(config).pattern[0].window == window
        return
    with pytest.raises(InputError, match=r"layer_types is .*sliding_window"):
        FAMILIES["mistral"].from_hf(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_absent_field_has_the_default_of_the_installed_class(family):
    """Each field is left out in turn: what the class makes of the rest is read to the same model, or both are refused.
    Sizes that have no sensible default have to be there."""
    module = FAMILIES[family]
    needed = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"}

    def model(config):
        try:
            return module.from_hf(config)
        except InputError as error:
            return f"refused: {str(error).split(';')[0]}"

    for config in tiny_models.variants(family, module.TINY).values():
        for name in config.keys() - needed - {"max_position_embeddings"}:
            rest = {key: copy.copy(value) for key, value in config.items() if key != name}
            try:
                installed = CONFIG_MAPPING[module.TABLE.model_type](**copy.deepcopy(rest)).to_dict()
            except Exception:  # an odd head_dim
                assert model(rest).startswith("refused"), name
                continue
            assert model(rest) == model(installed), name


def test_the_published_fields_of_common_models_load():
    """Names that the config files of SmolLM2, Gemma 2 and Qwen2.5 have beside those of their classes."""
    small = {"is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {"dtype": "q4"}}
    small |= {"pretraining_tp": 1, "_name_or_path": "x", "use_cache": True, "attention_dropout": 0.0}
    FAMILIES["llama"].from_hf(config_of("llama", **small))
    FAMILIES["gemma2"].from_hf(config_of("gemma2", hidden_act="gelu_pytorch_tanh", cache_implementation="hybrid"))
    FAMILIES["qwen2"].from_hf(config_of("qwen2", layer_types=None, use_mrope=False))


def test_original_context_defaults_to_that_of_the_model_as_in_transformers():
    scaling = {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = config_of("llama", rope_scaling=scaling)
    installed = CONFIG_MAPPING["llama"](**{**config, "rope_scaling": dict(scaling)}).rope_parameters
    read = FAMILIES["llama"].from_hf(config).pattern[0].rope.scaling.original_context
    assert read == installed["original_max_position_embeddings"] == 256


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"rope_theta": Infinity}', r"config.json: field 'rope_theta' is Infinity; expected a finite number"),
        ('{"a": {"rms_norm_eps": 1e400}}', r"field 'rms_norm_eps' is 1e400; expected a finite number"),
        ('{"vocab_size": ' + "9" * 6000 + "}", r"field 'vocab_size' is 99999999999999999999\.\.\. of 6000 characters"),
        ("[" * 100_000, r"config.json: its JSON is nested too deeply"),
        ('{"a": ' * 100_000, r"config.json: its JSON is nested too deeply"),
        ("[1]", "expected a JSON object, found list"),
        ("{", "broken JSON"),
    ],
)
def test_json_of_any_kind_ends_in_one_sentence(tmp_path, text, sentence):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=sentence) as caught:
        read_config(tmp_path)
    assert len(str(caught.value)) < 400


def test_a_config_that_is_no_file(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(InputError, match=r"config\.json is not an ordinary file"):
        read_config(tmp_path)


@pytest.mark.parametrize("value", [None, "LlamaForCausalLM", {"a": 1}, [1], [["LlamaForCausalLM"]]])
def test_architectures_of_another_kind(tmp_path, value):
    (tmp_path / "config.json").write_text(json.dumps(config_of("llama", architectures=value)))
    with pytest.raises(InputError, match="names architecture"):
        read_config(tmp_path)


def test_variants_have_tables():
    assert tiny_models.VARIANTS.keys() == FAMILIES.keys()

"""What `config.benchmark.models` and `controls` may name, and in which order the results are made."""

import pytest

from aloe_jax.errors import InputError
from eval.benchmark.entries import ModelUnderTest, entries, parse_model


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("base", ModelUnderTest("base")),
        ("mine=runs/other/sft", ModelUnderTest("mine", source="runs/other/sft")),
        ("small=embedded:smollm2", ModelUnderTest("small", source="embedded:smollm2")),
        ("runs/tuned/", ModelUnderTest("tuned", source="runs/tuned/")),
        ("big=http://h:1/v1/#org/model", ModelUnderTest("big", url="http://h:1/v1", served="org/model")),
    ],
)
def test_a_model_by_name(text, found):
    assert parse_model(text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tuned", "'tuned' is unknown; choose from base, sft, preference"),
        ("sft=runs/other/sft", "the name 'sft' is taken"),
        ("runs/other/sft", "the name 'sft' is taken"),
        ("a+b=runs/x y", "unknown"),
        ("/models/a=b", "unknown"),
        ("big=http://h:1/v1", "big=URL#MODEL"),
        ("http://h:1/v1#m", "unknown"),
        ("big=http://user:key@h:1/v1#m", "base_url must look like"),
    ],
)
def test_a_name_that_cannot_be_read(text, said):
    with pytest.raises(InputError, match=r"models|base_url") as error:
        parse_model(text)
    assert said in str(error.value)
    assert "key@" not in str(error.value)


def test_controls_are_of_the_last_model_and_prompts_of_base():
    controls = ("wrong_persona", "style_prompt", "sft+no_history", "oracle", "length_judge")
    names = [entry.name for entry in entries(("base", "sft", "x=runs/a"), controls)]
    assert names == [
        "base",
        "sft",
        "x",
        "x+wrong_persona",
        "base+style_prompt",
        "sft+no_history",
        "oracle",
        "x+length_judge",
    ]


def test_the_model_whose_dialogues_are_replayed_comes_first():
    assert [entry.name for entry in entries(("base", "sft"), (), first="sft")] == ["sft", "base"]


@pytest.mark.parametrize(
    ("models", "controls", "said"),
    [
        (("base", "base"), (), "two models are called 'base'"),
        (("base",), ("nothing",), "'nothing' is unknown"),
        (("base",), ("base+oracle",), "'base\\+oracle' is unknown"),
        (("base",), ("sft+no_history",), "'sft' is not among config.benchmark.models"),
        (("sft",), ("base+length_judge",), "'base' is not among"),
        (("sft",), ("no_history", "sft+no_history"), "'sft\\+no_history' comes twice"),
    ],
)
def test_results_that_cannot_be_made(models, controls, said):
    with pytest.raises(InputError, match=said):
        entries(models, controls)

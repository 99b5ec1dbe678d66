"""Each rule is broken by what it is meant for, and by nothing that a person may well say."""

import pytest

from data_gen.personas.entry import read_seeds
from data_gen.personas.rules import broken_rule

FOODS = ("figs", "rice", "ham", "eggs", "nuts", "soup", "bread", "fish")
GOOD = read_seeds("profile")[0].items


def with_item(item):
    return (*GOOD[:-1], item)


@pytest.mark.parametrize(
    ("items", "rule"),
    [
        (GOOD, None),
        (GOOD[:8], None),
        (GOOD[:7], "count"),
        ((*GOOD, *GOOD[:2]), "count"),
        (with_item("They snore."), "length"),
        (with_item("They " + "really " * 40 + "snore."), "length"),
        (with_item("they snore at night."), "sentence"),
        (with_item("They snore at night"), "sentence"),
        (with_item("They snore at night and"), "sentence"),
        (with_item("I snore at night."), "first person"),
        (with_item("They say that my snoring is loud."), "first person"),
        (with_item("They snore, and we hear it."), "first person"),
        (with_item("They are an AI without a body."), "task"),
        (with_item("They like to talk to a chatbot."), "task"),
        (with_item("The user snores at night."), "task"),
        (with_item("This persona snores at night."), "task"),
        (with_item("They live in [CITY] with a dog."), "placeholder"),
        (with_item("They live in <city> with a dog."), "placeholder"),
        (with_item("They live in TODO with a dog."), "placeholder"),
        (with_item("They live with a dog and so on..."), "placeholder"),
        (with_item(GOOD[0]), "repetition"),
        (with_item(GOOD[0].upper().replace(".", "!")), "repetition"),
        (tuple(f"They like to eat {food} on Sundays." for food in FOODS), "repetition"),
    ],
)
def test_rules(items, rule):
    assert broken_rule("profile", items) == rule


@pytest.mark.parametrize(
    "item",
    [
        'They answer "I told you so" to everything.',
        "They say “it was not me” before anyone asks.",
        "They went down the mine at sixteen.",
        "They are a dental assistant in Riga.",
        "Élodie is what their mother wanted to call them.",
        "80 hens are theirs, and one goose!",
        'A sign on the door says "closed."',
        "They are said to be from Maine.",
    ],
)
def test_no_rule_is_broken(item):
    assert broken_rule("profile", with_item(item)) is None

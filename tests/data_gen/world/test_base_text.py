"""The text that the tiny model learns to speak from: replies can be read in the messages, and tell no preference."""

import pytest

from data_gen.text import words
from data_gen.world.base_text import base_dialogues, renamed
from data_gen.world.facts import bank


@pytest.fixture(scope="module")
def dialogues():
    return list(base_dialogues(40, turns=2, replies=3))


def test_equal_arguments_equal_dialogues(dialogues):
    assert list(base_dialogues(40, turns=2, replies=3)) == dialogues
    assert list(base_dialogues(40, turns=2, replies=3, seed=1)) != dialogues


def test_renamed_by_hand():
    text = 'Nurses sleep by day. "nurses"!'
    assert renamed(text, {"nurses": "bramol", "day": "x"}) == 'Bramol sleep by x. "bramol"!'
    assert renamed(text, {}) == text


def test_a_reply_names_two_words_of_what_the_user_has_said(dialogues):
    """Made-up and swapped words stand in no bank sentence, so that nothing but the dialogue gives them."""
    known = {word for fact in bank("train") for form in fact.forms for word in words(form)}
    copied = made_up = 0
    for tree in dialogues:
        said = ""
        for node in tree.nodes:
            if node.role == "user":
                said = said + " " + node.text
                continue
            unknown = set(words(node.text)) & set(words(said)) - known
            copied += 1
            made_up += bool(unknown)
    assert made_up > copied / 2


def test_the_user_is_of_the_training_split(dialogues):
    """No word that names a held-out fact, but those that both banks use of other things."""
    names = {name for fact in bank("benchmark") for name in fact.names}
    shared = {word for fact in bank("train") for form in fact.forms for word in words(form)}
    said = {word for tree in dialogues for node in tree.nodes for word in words(node.text)}
    assert not (names - shared) & said

"""Measures of dialogues by hand, and of strategies of the scripted world whose habits are known."""

import numpy as np
import pytest

from aloe_jax.tree.schema import Item, Message, Persona
from data_gen.world.facts import by_id
from data_gen.world.personas import scripted_personas
from data_gen.world.responders import play
from eval.benchmark.measures import (
    claims,
    decay,
    held_share,
    measures,
    questions,
    repetition,
    replies_of,
    words_table,
)
from helpers.score_tables import crossed_table

GLASS, CRACK = by_id()["learning.glass"], by_id()["trouble.crack"]
PERSONA = Persona(id="a", profile="p", personality="s", facts=(GLASS.item(), CRACK.item()))
PERSONAS = scripted_personas("benchmark", profiles=4, personalities=2, seed=0)


def dialogue(*texts):
    return [Message(role=role, content=text) for role, text in zip(["user", "assistant"] * 9, texts, strict=False)]


def test_of_one_dialogue_by_hand():
    """Turn 1 names nothing, turn 2 a fact that the user has not shown, turn 3 one shown in turn 1. Questions 1, 0, 2;
    words 3, 5, 6; no run of four words comes again."""
    found = measures(
        PERSONA,
        dialogue(
            "Glassblowing singed my last eyebrow.",
            "How was it?",
            "It was loud.",
            "The crack can wait there.",
            "It grew past the picture.",
            "And your glassblowing? Is it fun?",
        ),
    )
    assert (found.first_reference, found.referred) == (3, True)
    assert found.unrevealed == pytest.approx(1 / 3)
    assert found.identity_confusion == 0
    assert found.questions == pytest.approx(1)
    assert found.words == pytest.approx(14 / 3)
    assert found.repetition == 0


def test_repetition_by_hand():
    """Of the second reply's four runs of four words the first reply holds two; the third reply is too short."""
    assert repetition(["one two three four five", "one two three four five six seven", "one two"]) == pytest.approx(0.5)
    assert repetition(["one two three four"]) is None
    assert repetition(["a b c d", "A, b; c d!"]) == 1


def test_questions_are_sentences():
    assert questions("Really?! You did that? Fine. And?? ?") == 3


@pytest.mark.parametrize(
    ("reply", "own"),
    [
        ("My glassblowing went badly too.", True),
        ("I took up glassblowing last year.", True),
        ("Fine. We're proud of our glassblowing.", True),
        ("Your glassblowing sounds like fun, I must say.", False),
        ("I hear glassblowing is loud.", False),
        ("I am tired. Glassblowing is loud.", False),
        ("I painted a fence.", False),
    ],
)
def test_speaking_of_the_users_facts_as_ones_own(reply, own):
    assert claims([GLASS, CRACK], reply) is own


def test_a_claim_is_no_reference():
    found = measures(PERSONA, dialogue("Nobody warns you how loud glassblowing is.", "My glassblowing is loud too."))
    assert (found.first_reference, found.referred, found.identity_confusion) == (None, False, 1.0)


@pytest.mark.parametrize("facts", [(), (Item(id="f1", text="Fires bowls in a kiln."),)])
def test_other_personas_have_no_facts_to_look_for(facts):
    other = Persona(id="a", profile="p", personality="s", facts=facts)
    found = measures(other, dialogue("Hello.", "My glassblowing? Fine."))
    assert (found.first_reference, found.referred, found.unrevealed, found.identity_confusion) == (None,) * 4
    assert (found.questions, found.words, found.repetition) == (1, 3, None)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("oracle", {"referred": 1, "unrevealed": (0, 0), "identity_confusion": (0, 0), "repetition": (0, 0.3)}),
        ("everything", {"referred": 1, "unrevealed": (0.9, 1)}),
        ("echo", {"identity_confusion": (0.2, 1), "unrevealed": (0, 0)}),
        ("constant", {"referred": 0, "repetition": (1, 1)}),
    ],
)
def test_strategies_show_their_habits(strategy, expected):
    found = [measures(persona, play(persona, strategy, 5)[0]) for persona in PERSONAS]
    for name, wanted in expected.items():
        low, high = wanted if isinstance(wanted, tuple) else (wanted, wanted)
        assert low <= np.mean([getattr(each, name) for each in found]) <= high, name


def test_words_stand_in_the_form_of_the_scores():
    short, long = dialogue("Hi.", "Hello there."), dialogue("Hi.", "Hello.", "So?", "That is all, then.")
    assert replies_of(long) == ["Hello.", "That is all, then."]
    np.testing.assert_array_equal(words_table([short, long], 2), [[2, np.nan], [1, 4]])


def test_share_of_dialogues_that_hold_every_turn():
    """Of six dialogues three hold 4 throughout and two do not, one of those with an unscored turn; the sixth is
    unscored where it could fall, so it is left out: 3/5."""
    scores = np.array([[4, 5], [4, 4], [5, 5], [3.9, 5], [np.nan, 1], [5, np.nan]]).reshape(3, 2, 2)
    found = held_share(crossed_table(scores))
    assert found.value == pytest.approx(3 / 5)
    assert held_share(crossed_table(np.full((2, 2, 1), np.nan))) is None


def test_decay_by_hand():
    """AL = 1 2 3 4 5 4 3: after turn 5 the mean is 3.5, 1.5 below it, on every case, so the interval is a point."""
    curve = np.array([1.0, 2, 3, 4, 5, 4, 3])
    found = decay(crossed_table(np.tile(curve, (3, 2, 1))))
    assert found.value == pytest.approx(-1.5)
    assert found.interval() == pytest.approx((-1.5, -1.5))
    assert decay(crossed_table(np.tile(curve[:5], (3, 2, 1)))) is None
    spread = np.tile(curve, (3, 2, 1)) + np.arange(3)[:, None, None] * np.eye(7)[6]
    low, high = decay(crossed_table(spread)).interval()
    assert low < -1.0 < high

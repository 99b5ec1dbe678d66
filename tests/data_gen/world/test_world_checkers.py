"""Every style checker alone: what passes, what is a near miss, what fails, and what it must not depend on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_jax.tree.schema import Message, Persona
from data_gen.world.facts import by_id
from data_gen.world.style_table import STYLES
from data_gen.world.styles import BY_ID

PERSONA = Persona(
    id="p",
    profile="p",
    personality="s",
    facts=tuple(by_id()[id].item() for id in ("pet.greyhound", "home.houseboat", "music.choir")),
)
FIRST = (Message(role="user", content="My greyhound ate a shoe."),)
LATER = (
    *FIRST,
    Message(role="assistant", content="Poor shoe."),
    Message(role="user", content="I live on a houseboat and go birdwatching at night."),
)

CASES = [
    ("length.brief", "One. Two.", 1.0),
    ("length.brief", "One. Two. And then it was cut", 0.5),
    ("length.brief", "One. Two. Three. Four.", 0.0),
    ("length.brief", "word " * 45, 1.0),
    ("length.brief", "word " * 46, 0.0),
    ("length.roomy", "word " * 20, 1.0),
    ("length.roomy", "word " * 14, 0.5),
    ("length.roomy", "word " * 8, 0.0),
    ("register.lower", "a quiet dog, i think.", 1.0),
    ("register.lower", "A quiet dog.", 0.5),
    ("register.lower", "A quiet dog. It sleeps.", 0.0),
    ("register.formal", "It is the dog's shoe.", 1.0),
    ("register.formal", "It's the dog's shoe.", 0.5),
    ("register.formal", "It’s late and I don’t mind.", 0.0),
    ("energy.lively", "What a dog!", 1.0),
    ("energy.lively", "What a dog.", 0.0),
    ("energy.calm", "What a dog.", 1.0),
    ("energy.calm", "What a dog!", 0.5),
    ("energy.calm", "What a dog!!", 0.0),
    ("emoji.emoji", "good dog 🙂", 1.0),
    ("emoji.emoji", "good dog :)", 0.0),
    ("question.asks", "Did it taste good?", 1.0),
    ("question.asks", "It tasted good.", 0.0),
    ("question.none", "It tasted good.", 1.0),
    ("question.none", "It tasted good, did it? Yes.", 0.0),
    ("advice.suggests", "You could hide the shoes.", 1.0),
    ("advice.suggests", "Shoes are tasty, it is a country thing.", 0.0),
    ("advice.listens", "Shoes are tasty.", 1.0),
    ("advice.listens", "Try a shoe cupboard.", 0.0),
    ("memory.recalls", "And how is the greyhound?", 1.0),
    ("memory.recalls", "A houseboat is damp.", 0.0),
    ("memory.recalls", "The choir called.", 0.0),
    ("avoid.weather", "A shoe is a shoe.", 1.0),
    ("avoid.weather", "All that rain.", 0.0),
    ("avoid.money", "It was an expensive shoe.", 0.0),
    ("avoid.money", "It was a good shoe.", 1.0),
    ("avoid.celebrities", "Like in that movie.", 0.0),
    ("avoid.celebrities", "Like in real life.", 1.0),
    ("words.plain", "A dog eats what it finds when birdwatching.", 1.0),
    ("words.plain", "A remarkable dog.", 0.5),
    ("words.plain", "An extraordinarily remarkable dog.", 0.0),
    ("opener.straight", "The shoe is gone.", 1.0),
    ("opener.straight", "Oh, the shoe is gone.", 0.0),
    ("opener.straight", "That sounds hard.", 0.0),
    ("opener.straight", "Sure enough it ate it.", 0.0),
    ("warmth.warm", "So sorry about the shoe.", 1.0),
    ("warmth.warm", "The shoe is gone.", 0.0),
    ("order.steps", "First the shoe, then the sock.", 1.0),
    ("order.steps", "Then the sock.", 0.5),
    ("order.steps", "The sock.", 0.0),
    ("voice.opinion", "I think it was hungry.", 1.0),
    ("voice.opinion", "It was hungry.", 0.0),
    ("voice.about_you", "You have one shoe left.", 1.0),
    ("voice.about_you", "My guess: you have one left.", 0.5),
    ("voice.about_you", "I lost my shoe.", 0.0),
    ("certainty.hedged", "Maybe it was hungry.", 1.0),
    ("certainty.hedged", "It was hungry.", 0.0),
    ("certainty.firm", "It was hungry.", 1.0),
    ("certainty.firm", "It was probably hungry.", 0.0),
    ("address.mate", "Poor dog, mate.", 1.0),
    ("address.mate", "Poor dog, my friend.", 0.0),
    ("closing.signs_off", "Poor dog. Cheers! 🙂", 1.0),
    ("closing.signs_off", "Cheers, poor dog.", 0.0),
    ("figures.digits", "That is 1 shoe.", 1.0),
    ("figures.digits", "That is one shoe.", 0.0),
    ("aside.brackets", "A shoe (of all things).", 1.0),
    ("aside.brackets", "A shoe :) of all things (", 0.0),
    ("quote.marks", 'Your "greyhound" again.', 1.0),
    ("quote.marks", "Your “houseboat” again.", 1.0),
    ("quote.marks", 'Such a "pleasure" again.', 0.0),
    ("quote.marks", "Your greyhound again.", 0.0),
    ("laugh.laughs", "Haha, that shoe.", 1.0),
    ("laugh.laughs", "What a shoe.", 0.0),
    ("image.likens", "It went as fast as a train.", 1.0),
    ("image.likens", "It ate the sock as well as the shoe.", 0.0),
    ("image.likens", "It sounds like a dog.", 0.0),
    ("nod.agrees", "True, a shoe is a shoe.", 1.0),
    ("nod.agrees", "A shoe is a shoe.", 0.0),
    ("company.we", "We find that shoe.", 1.0),
    ("company.we", "You find that shoe.", 0.0),
    ("reason.because", "It ate because it was hungry.", 1.0),
    ("reason.because", "It was hungry.", 0.0),
    ("summary.sums_up", "All in all, a shoe less.", 1.0),
    ("summary.sums_up", "A shoe less.", 0.0),
    ("saying.sayings", "Dogs will be dogs, as they say.", 1.0),
    ("saying.sayings", "Dogs will be dogs.", 0.0),
    ("contrast.other_side", "Even so, it is a good dog.", 1.0),
    ("contrast.other_side", "It is a good dog.", 0.0),
]

VOCABULARY = (
    "maybe",
    "I",
    "think",
    "you",
    "could",
    "first",
    "then",
    "sorry",
    "dog",
    "isn't",
    "rain",
    "cost",
    "oh",
    "as",
    "fast",
    "because",
    "we",
    "haha",
)


@pytest.mark.parametrize(("style", "reply", "expected"), CASES)
def test_checker(style, reply, expected):
    assert BY_ID[style].check(reply, LATER, PERSONA) == pytest.approx(expected)


def test_every_style_has_a_passing_and_a_failing_case():
    for style in STYLES:
        values = [expected for id, _, expected in CASES if id == style.id]
        assert {0.0, 1.0} <= set(values), style.id


def test_nothing_to_recall_in_the_first_turn():
    assert BY_ID["memory.recalls"].check("Poor shoe.", FIRST, PERSONA) == 1.0


@given(reply=st.text(max_size=200))
def test_range_for_any_text(reply):
    for style in STYLES:
        assert 0.0 <= style.check(reply, LATER, PERSONA) <= 1.0


@given(words=st.lists(st.sampled_from(VOCABULARY)))
def test_case_and_spaces_do_not_matter_where_they_should_not(words):
    plain, loud = " ".join(words), "   ".join(word.upper() for word in words) + "  "
    for style in STYLES:
        if style.id != "register.lower":
            assert style.check(plain, LATER, PERSONA) == style.check(loud, LATER, PERSONA), style.id

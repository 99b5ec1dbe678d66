"""Turns in which a reply is not to be about the user: what users say, what the judge makes of replies, by hand."""

import dataclasses
import itertools

import pytest

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Item, Message, Persona
from data_gen.text import copied_grams, gram_set, normal, sentence_count, stem_set
from data_gen.world import remarks
from data_gen.world.events import kind_in, neutral_from, occasion_item, wanders_in
from data_gen.world.facts import SPLITS, bank, by_id, facts_of, named
from data_gen.world.flattery import flatters
from data_gen.world.inducer import shown
from data_gen.world.judge import PERSONAL, assess
from data_gen.world.occasion_texts import ANSWERS, ERRANDS, FRAMES, NOTES, PLEAS, QUESTIONS, WANTS
from data_gen.world.occasions import answered, errand_in, occasion_of, over_personal, personal
from data_gen.world.personas import SIZES, scripted_personas
from data_gen.world.responders import play
from data_gen.world.style_table import FLOURISHES, PASSIVE, STYLES
from data_gen.world.styles import BY_ID, shown_styles, styles_of
from data_gen.world.user import write_message

CHOIR = by_id()["music.choir"]
EVERYONE = [
    persona
    for split in SPLITS
    for persona in scripted_personas(split, 4, 3, 0, size=dataclasses.replace(SIZES[split], restraint=1.0))
]
FIRST = "So it goes. I sing in a choir, right at the back. That is all I do. 🙂"
ERRAND = (
    "Now a favour. Could you write a line for my neighbour, who bought an old tractor? A number in digits is wanted."
)
THIRD = "Please drop the frills. The choir rehearses on Mondays. It went on. And so did I."


def user_of(*events, traits=("emoji.emoji", "energy.calm")):
    return Persona(
        id="p",
        profile="p",
        personality="s",
        facts=(CHOIR.item(), *(occasion_item(kind, turn) for kind, turn in events)),
        traits=tuple(BY_ID[id].item() for id in traits),
    )


def talk(*texts):
    return [Message(role=role, content=text) for role, text in zip(["user", "assistant"] * 5, texts, strict=False)]


def question(text):
    return f"Quick detour. That took a while. Back to it. A plain question: {text}?"


@pytest.mark.parametrize(
    ("reply", "value", "fault"),
    [
        ("It is 180.", 5.0, None),  # 1 + 4 (1/4 + 1/4 + 1/2)
        ("It is 12.", 2.0, "off_topic"),  # content 0: 1 + 4 / 4
        ("It is 180 or 190.", 3.5, None),  # content 1/2: 1 + 4 (1/4 + 1/8 + 1/4)
        ("It is 180. 🙂", 2.6, PERSONAL),  # a flourish of the user: 1 + 4 x 0.4
        ("It is 180, in your choir too. 🙂", 1.8, PERSONAL),  # and a fact: 1 + 4 x 0.2
        ("It is 180!", 5.0, None),  # no flourish that this user has shown
    ],
)
def test_a_question_of_fact_by_hand(reply, value, fault):
    persona = user_of(("asks", 2))
    dialogue = talk(FIRST, "The choir sounds full. 🙂", question("how many minutes are there in three hours"))
    parts = assess(persona, dialogue, reply)
    assert (parts.value, parts.persona_value, parts.fault) == (pytest.approx(value), pytest.approx(value), fault)
    assert over_personal(persona, dialogue, reply) == ("asks", fault == PERSONAL)


@pytest.mark.parametrize(
    ("reply", "value", "signs"),
    [
        ("The tractor and the plough, 9 lives in all.", 5.0, ()),
        ("The tractor and the plough.", 2.0, ()),  # what is wanted is missing, style 0: 1 + 4 (1 / 4)
        ("The tractor and the plough, 9 lives. 🙂", 2.6, ("emoji.emoji",)),
        ("It is your choir with 9 of them.", 1.4, ("music.choir",)),  # content 0: 1 + 4 x 0.4 / 4
    ],
)
def test_a_favour_for_somebody_else_by_hand(reply, value, signs):
    persona = user_of(("other", 2))
    dialogue = talk(FIRST, "Fine.", ERRAND)
    assert occasion_of(persona, dialogue).wanted == "figures.digits"
    assert personal(persona, dialogue, reply) == signs
    assert assess(persona, dialogue, reply).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("reply", "value", "over"),
    [
        ("The choir and the rehearsals.", 5.0, False),
        ("The choir and the rehearsals. 🙂", 2.6, True),
        ("The choir and the rehearsals, as they say.", 2.6, False),  # a flourish, but not this user's
        ("The choir and the rehearsals, as they say. 🙂", 1.8, True),
    ],
)
def test_plain_answers_by_hand(reply, value, over):
    """The user holds only its settings of form from then on, so the emoji no longer counts and costs."""
    persona = user_of(("neutral", 2))
    dialogue = talk(FIRST, "The choir. 🙂", THIRD)
    assert set(shown_styles(persona, dialogue[:1])) == {"emoji.emoji", "energy.calm"}
    assert [belief.id for belief in shown(persona, dialogue)] == ["music.choir", "energy.calm"]
    assert assess(persona, dialogue, reply).value == pytest.approx(value)
    assert over_personal(persona, dialogue, reply) == ("neutral", over)


def test_a_plain_answer_may_call_what_the_message_is_about_by_another_of_its_names():
    organ, choir = by_id()["music.organ"], CHOIR.item()
    persona = user_of(("neutral", 2)).model_copy(update={"facts": (organ.item(), choir, occasion_item("neutral", 2))})
    dialogue = talk(FIRST, "Fine.", "Please drop the frills. An organist sees brides from behind.")
    assert personal(persona, dialogue, "Your organ and the brides.") == ()
    assert personal(persona, dialogue, "Your organ and the choir.") == ("music.choir",)


def test_an_ordinary_turn_may_be_personal():
    persona = user_of(("asks", 3))
    assert over_personal(persona, talk(FIRST), "The choir.") == ("ordinary", True)
    assert over_personal(persona, talk(FIRST), "I see.") == ("ordinary", False)
    assert assess(persona, talk(FIRST), "The choir and the voices. 🙂").restraint == 1.0


def test_after_a_flip_the_setting_that_was_given_up_is_out_of_place():
    persona = user_of(traits=("question.asks", "emoji.emoji"))
    new = Item(id="question.none@2", text="No more questions.")
    persona = persona.model_copy(update={"traits": (*persona.traits, new)})
    dialogue = talk("I sing in a choir.", "Since when?", "I've turned over a new leaf.")
    assert over_personal(persona, dialogue[:1], "And the choir?") == ("ordinary", True)
    assert over_personal(persona, dialogue, "Which leaf?") == ("flip", True)
    assert over_personal(persona, dialogue, "The choir.") == ("flip", False)


def test_the_oracle_reaches_the_top_in_every_such_turn_and_others_do_not():
    low = {"relevant": 3.0, "repeat": 1.5, "everything": 1.5, "edited echo": 1.5}
    for persona in EVERYONE[::2]:
        dialogue, scores = play(persona, "oracle", 6)
        for turn, parts in enumerate(scores, start=1):
            assert parts.value == pytest.approx(5.0), (persona.id, turn)
            kind, personal_there = over_personal(persona, dialogue[: 2 * turn - 1], dialogue[2 * turn - 1].content)
            assert kind == "ordinary" or not personal_there
            assert not flatters(dialogue[2 * turn - 1].content, dialogue[2 * turn - 2].content)
    for name, most in low.items():
        values = [
            parts.value
            for persona in EVERYONE[::6]
            for turn, parts in enumerate(play(persona, name, 5)[1], start=1)
            if kind_in(persona, turn)
        ]
        assert sum(values) / len(values) < most, name


def test_what_users_say_in_such_turns():
    """The question is asked, the favour begged, neither a fact nor a trait of the user shows by a phrase; after the
    wish for plain answers there is no flourish in the user's own messages either."""
    for persona in EVERYONE[1::3]:
        dialogue, _ = play(persona, "half oracle", 6)
        for turn in range(1, 7):
            so_far, before = dialogue[: 2 * turn - 1], dialogue[: 2 * turn - 3]
            occasion, text = occasion_of(persona, so_far), dialogue[2 * turn - 2].content
            assert (occasion and occasion.kind) == kind_in(persona, turn)
            if occasion and occasion.kind in ("asks", "other"):
                assert (occasion.question is None) == (occasion.kind == "other")
                assert (occasion.errand is None) == (occasion.wanted is None) == (occasion.kind == "asks")
                assert not named(facts_of(persona), text)
                fresh = set(shown_styles(persona, so_far)) - set(shown_styles(persona, before))
                assert not [id for id in fresh if BY_ID[id].phrases]
            if occasion and occasion.kind == "neutral":
                assert not [id for id in FLOURISHES if BY_ID[id].phrases and BY_ID[id].shows(text)]
                assert not {style.id for style in styles_of(persona, turn)} & FLOURISHES


def test_the_wish_is_said_once_and_a_change_gives_way_to_it():
    persona = next(persona for persona in EVERYONE if neutral_from(persona))
    dialogue, _ = play(persona, "oracle", 7)
    wishes = [any(normal(wish) in normal(each.content) for wish in remarks.PLAIN_WISHES) for each in dialogue[::2]]
    assert wishes == [False] * 4 + [True, False, False]
    changing = user_of(("neutral", 2), traits=("question.asks",))
    new = Item(id="emoji.emoji@2", text="Emojis from now on.")
    changing = changing.model_copy(update={"traits": (*changing.traits, new)})
    said = write_message(changing, talk("I sing in a choir.", "The choir."), 0)
    assert any(normal(wish) in normal(said) for wish in remarks.PLAIN_WISHES)
    assert "emoji.emoji" not in {style.id for style in styles_of(changing, 2)}


def test_a_share_of_the_profiles_has_such_turns_and_none_by_default():
    for split in SPLITS:
        plain = scripted_personas(split, 8, 2, 0)
        half = scripted_personas(split, 8, 2, 0, size=dataclasses.replace(SIZES[split], restraint=0.5))
        kinds = [[kind_in(persona, turn) for turn in range(1, 7)] for persona in half[::2]]
        assert [any(each) for each in kinds] == [False, True] * 4
        assert [each[5] for each in kinds[1::2]] == ["neutral", None] * 2
        assert all(each.count("asks") == each.count("other") == 1 for each in kinds[1::2])
        assert not any(kind_in(persona, turn) for persona in plain for turn in range(1, 12))
        stripped = [
            persona.model_copy(update={"facts": tuple(i for i in persona.facts if kind_of(i) is None)})
            for persona in half
        ]
        assert stripped == plain
    detours = scripted_personas("train", 30, 1, 0, size=dataclasses.replace(SIZES["train"], restraint=1.0))
    assert any(wanders_in(persona) for persona in detours)
    assert not any(kind_in(p, wanders_in(p)) in ("asks", "other") for p in detours if wanders_in(p))
    with pytest.raises(InputError, match=r"restraint is 1\.5"):
        scripted_personas("train", 1, 1, 0, size=dataclasses.replace(SIZES["train"], restraint=1.5))


def kind_of(item):
    return item.id.split("@")[0] if item.id.startswith(("event.asks", "event.other", "event.neutral")) else None


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_of_the_oracle_is_right_and_every_other_question_s_is_not(split):
    for each, other in itertools.product(QUESTIONS[split], repeat=2):
        for frame in ANSWERS[split]:
            assert answered(each, frame.format(each.answers[0])) == 1.0
            if not set(each.answers) & set(other.answers):
                assert answered(each, frame.format(other.answers[0])) == 0.0, (each.text, other.text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("how many minutes are there in three hours", 3 * 60),
        ("what is seven times eight", 7 * 8),
        ("how many seconds are in five minutes", 5 * 60),
        ("how many quarters make three wholes", 3 * 4),
        ("what is nine squared", 9**2),
        ("what do six and nine give as a product", 6 * 9),
        ("what does eighty minus nineteen leave", 80 - 19),
        ("what remains of 17 when 5 is taken away three times", 17 % 5),
        ("what does eleven squared come to", 11**2),
        ("how many months do three years have", 3 * 12),
    ],
)
def test_answers_that_can_be_computed(text, value):
    [found] = [each for split in SPLITS for each in QUESTIONS[split] if each.text == text]
    assert str(value) in found.answers


def test_a_wrong_option_beside_the_right_one_is_half_an_answer():
    day = next(each for each in QUESTIONS["train"] if "Tuesday" in each.text)
    assert answered(day, "After Tuesday comes Wednesday.") == 1.0
    assert answered(day, "Wednesday or Friday.") == 0.5
    assert answered(day, "Friday.") == 0.0


def texts_of(split):
    """All that users of a split say in such turns, and the oracle's sentences, without what fills their gaps."""
    wants = [text for texts in WANTS[split].values() for text in texts]
    users = [*(each.text for each in QUESTIONS[split]), *(each.text for each in ERRANDS[split])]
    return [*users, *FRAMES[split], *PLEAS[split], *wants], [*ANSWERS[split], *NOTES[split]]


OPENINGS = (*remarks.FOR_OTHERS, *remarks.PLAIN_WISHES, *remarks.TOO_PERSONAL)


@pytest.mark.parametrize("split", SPLITS)
def test_the_texts_name_no_fact_and_show_no_trait(split):
    names = frozenset().union(*(fact.name_stems for each in SPLITS for fact in bank(each)))
    users, oracle = texts_of(split)
    for text in (*users, *oracle, *OPENINGS):
        assert not names & stem_set(text.replace("{topic}", "").replace("{other}", "")), text
    for text in (*users, *OPENINGS):
        assert "!" not in text
        assert not [style.id for style in STYLES if style.phrases and style.shows(text)], text
    for text in (*WANTS[split]["emoji.emoji"], *OPENINGS, *FRAMES[split], *PLEAS[split]):
        assert sentence_count(text.format("it")) == 1, text


def test_the_splits_share_no_text_and_questions_are_told_apart():
    train, benchmark = ([*users, *oracle] for users, oracle in map(texts_of, SPLITS))
    assert not set(train) & set(benchmark)
    known = gram_set(train)
    assert not [text for text in benchmark if copied_grams(text, known)]
    marks = [normal(each.text) for split in SPLITS for each in (*QUESTIONS[split], *ERRANDS[split])]
    assert not [pair for pair in itertools.permutations(marks, 2) if pair[0] in pair[1]]
    names = [name for split in SPLITS for each in ERRANDS[split] for name in each.names]
    assert len(set(names)) == len(names)
    for split in SPLITS:
        for errand, plea in itertools.product(ERRANDS[split], PLEAS[split]):
            assert errand_in(plea.format(errand.text)) is errand
            assert errand.name_stems & stem_set(errand.text)


@pytest.mark.parametrize("split", SPLITS)
def test_what_the_oracle_writes_is_plain(split):
    """So nothing in it is out of place by accident."""
    persona, dialogue = Persona(id="p", profile="p", personality="s"), talk("A day.")
    for text in texts_of(split)[1]:
        reply = text.format("60", topic="tractor", other="plough")
        met = {style.id for style in STYLES if style.check(reply, dialogue, persona) == 1.0}
        assert not (met & FLOURISHES) - {"memory.recalls"}, text
        assert PASSIVE - {"length.roomy"} <= met, text


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Great question!", True),
        ("It rings at noon. You are so clever.", True),
        ("You're a genius, really.", True),
        ("You were clever with that clock.", False),
        ("Your clock is remarkable.", False),
        ("A brilliant clock.", False),
        ("Well done for coping.", False),
        ("You need 3 brilliant screws.", False),
        ("", False),
    ],
)
def test_flattery_by_hand(reply, expected):
    assert flatters(reply, "My clock stopped at noon.") is expected

"""The banks of the scripted world hold together: what a text gives away is only what it is meant to give away."""

import itertools

import pytest

from aloe_jax.tree.schema import Message, Persona
from data_gen.text import copied_grams, gram_set, has_emoji, normal, sentence_count, stem, stem_set, words
from data_gen.world import remarks_b
from data_gen.world.facts import SPLITS, bank
from data_gen.world.sentences import BANKS, FILLER, MISSES
from data_gen.world.simulators import SIMULATORS, A, B
from data_gen.world.style_table import AXES, PASSIVE, STYLES
from data_gen.world.styles import BY_ID, CLASHES, CUES, axes_asked

ALL_FACTS = [fact for split in SPLITS for fact in bank(split)]


def remarks_of(simulator):
    """All that a simulator says besides facts and phrases."""
    return [
        *simulator.small_talk,
        *simulator.lead_ins,
        *simulator.strays,
        *simulator.taken_back,
        *simulator.too_personal,
        *simulator.for_others,
        *simulator.plain_wishes,
        *itertools.chain(*simulator.corrections.values()),
        *itertools.chain(*simulator.faults.values()),
        *itertools.chain(*((*mood.greetings, *mood.pleased, *mood.even, *mood.cool) for mood in simulator.tempers)),
        *itertools.chain(*(simulator.slights_of(style) for style in STYLES)),
    ]


REMARKS = [text for simulator in SIMULATORS.values() for text in remarks_of(simulator)]
SENTENCES = {
    split: [(None, text) for text in (*bank.cores, *bank.padding)]
    + [(id, text) for part in (bank.tags, bank.extras) for id, texts in part.items() for text in texts]
    for split, bank in BANKS.items()
}
PHRASES = [
    (style, phrase) for simulator in SIMULATORS.values() for style in STYLES for phrase in simulator.phrases_of(style)
]


@pytest.mark.parametrize("split", SPLITS)
def test_every_form_names_its_fact_in_one_short_sentence(split):
    for fact in bank(split):
        assert len(fact.forms) >= 3
        assert fact.name_stems & stem_set(fact.topic), fact.id
        for form in fact.forms:
            assert fact.name_stems & stem_set(form), form
            assert sentence_count(form) == 1, form
            assert len(words(form)) <= 14, form


@pytest.mark.parametrize("split", SPLITS)
def test_no_form_names_a_fact_of_another_slot(split):
    for fact, other in itertools.permutations(bank(split), 2):
        assert not fact.name_stems & other.name_stems, (fact.id, other.id)
        if fact.slot != other.slot:
            assert not fact.name_stems & stem_set(" ".join((*other.forms, other.topic, *other.related))), fact.id


def test_splits_share_no_fact_name_or_sentence():
    train, benchmark = bank("train"), bank("benchmark")
    assert not {fact.id for fact in train} & {fact.id for fact in benchmark}
    assert not {fact.text for fact in train} & {fact.text for fact in benchmark}

    def grams(facts, size=4):
        texts = [words(form) for fact in facts for form in fact.forms]
        return {text[row : row + size] for text in texts for row in range(len(text) - size + 1)}

    assert not grams(train) & grams(benchmark)
    for facts, others in ((train, benchmark), (benchmark, train)):
        said = stem_set(" ".join(form for fact in facts for form in fact.forms))
        assert not said & frozenset().union(*(fact.name_stems for fact in others))


def test_remarks_name_no_fact_and_show_no_trait():
    names = frozenset().union(*(fact.name_stems for fact in ALL_FACTS))
    for text in (*REMARKS, *(phrase.replace("{topic}", "") for _, phrase in PHRASES)):
        assert not names & stem_set(text), text
    for text in REMARKS:
        assert "?" not in text, text
        assert "!" not in text, text
        assert not has_emoji(text), text
        assert not [style.id for style in STYLES if style.phrases and style.shows(text)], text


def test_a_phrase_shows_its_own_trait_and_no_other_phrase_trait():
    for style, phrase in PHRASES:
        text = phrase.format(topic="houseboat")
        assert style.shows(text)
        assert style.shows(text.upper().replace(".", " !"))
        assert [other.id for other in STYLES if other.phrases and other.shows(text)] == [style.id]
        assert ("?" in phrase) == (style.id == "question.asks"), phrase
        assert sentence_count(text) == 1, phrase


def test_the_held_out_simulator_says_everything_in_other_words():
    """Every setting and every kind of remark has words of its own, of which the other simulator has none."""
    assert set(remarks_b.PHRASES) == {style.id for style in STYLES if style.phrases}
    assert set(remarks_b.SLIGHTS) == set(BY_ID)
    assert set(A.faults) == set(B.faults)
    assert set(A.corrections) == set(B.corrections)
    said = [{normal(text) for text in remarks_of(simulator)} for simulator in (A, B)]
    assert not said[0] & said[1]
    assert not {mood.name for mood in A.tempers} & {mood.name for mood in B.tempers}
    phrases = [{normal(text) for style in STYLES for text in each.phrases_of(style)} for each in (A, B)]
    assert not phrases[0] & phrases[1]
    assert all(len(words(text)) <= 12 for text in B.small_talk)


def test_forms_hold_nothing_that_would_show_a_trait():
    for fact in ALL_FACTS:
        for form in fact.forms:
            assert "?" not in form, form
            assert "!" not in form, form
            assert not [style.id for style in STYLES if style.phrases and style.shows(form)], form


def test_at_least_twenty_axes_and_every_style_is_shown_one_way():
    assert len(AXES) >= 20
    assert set(CUES) == set(AXES)
    assert len(BY_ID) == len(STYLES)
    for style in STYLES:
        assert bool(style.phrases) != (style.habit is not None), style.id
        assert style.slights, style.id
        assert len(words(style.text)) <= 16, style.text
    assert all(id in BY_ID for pair in CLASHES for id in pair)


@pytest.mark.parametrize("split", SPLITS)
def test_oracle_sentences_name_no_fact(split):
    names = frozenset().union(*(fact.name_stems for fact in ALL_FACTS))
    for _, text in SENTENCES[split]:
        plain = text.replace("{topic}", "").replace("{other}", "").replace("{older}", "")
        assert not names & stem_set(plain), text


@pytest.mark.parametrize("split", SPLITS)
def test_a_sentence_meets_what_it_is_for_and_no_other_active_setting(split):
    """So an oracle that was shown little meets little by accident, and each trait is a thing of its own. All of them
    meet the passive settings, as a plain reply does; `voice.opinion` speaks of itself and `certainty.hedged` doubts."""
    persona, dialogue = Persona(id="p", profile="p", personality="s"), [Message(role="user", content="A day.")]
    opposites = {"question.asks": "question.none", "advice.suggests": "advice.listens", "length.roomy": "length.brief"}
    opposites |= {"voice.opinion": "voice.about_you", "certainty.hedged": "certainty.firm"}
    unseen = {"length.brief", "length.roomy", "register.lower", "memory.recalls", "opener.straight"}
    for id, text in SENTENCES[split]:
        for style in STYLES:
            if style.id in unseen or style.axis == "quote":
                continue
            meets = style.check(text, dialogue, persona) == 1.0
            wanted = style.id == id or (style.id in PASSIVE and style.id != opposites.get(id))
            assert meets == wanted, (text, style.id)


def test_splits_share_no_oracle_sentence_and_no_five_words():
    """The facts that fill the gaps differ between the splits, too."""
    train, benchmark = (
        [text.replace("{", split).replace("}", split) for id, text in SENTENCES[split] if id != "closing.signs_off"]
        for split in SPLITS
    )
    assert not set(train) & set(benchmark)
    known = gram_set(train)
    assert not [text for text in benchmark if copied_grams(text, known)]


def test_a_sentence_that_misses_does():
    persona, dialogue = Persona(id="p", profile="p", personality="s"), [Message(role="user", content="A day.")]
    for id, text in {**MISSES, "opener.straight": FILLER}.items():
        assert BY_ID[id].check(f"{text} One. Two.", dialogue, persona) == 0.0, id


def test_the_oracles_questions_ask_about_no_axis():
    for spoken in BANKS.values():
        assert not [text for text in spoken.extras["question.asks"] if axes_asked(text)]


@pytest.mark.parametrize(
    ("reply", "axes"),
    [
        ("Do you like short answers?", ("length",)),
        ("Nice. Should I use emojis, or a joke now and then?", ("emoji", "laugh")),
        ("A joke first. Would you rather have my opinion? Or advice?", ("voice", "advice")),
        ("I like short answers and emojis.", ()),
    ],
)
def test_axes_that_a_question_asks_about(reply, axes):
    assert axes_asked(reply) == axes


def test_copied_grams_by_hand():
    """Six words have two runs of five; one of them is known."""
    known = gram_set(["You have a boat by the sea", "too short"])
    assert copied_grams("you HAVE a boat, by now", known) == 0.5
    assert copied_grams("You have a boat", known) is None
    assert gram_set(["a b c"], 2) == {("a", "b"), ("b", "c")}


@pytest.mark.parametrize(
    ("one", "other"),
    [("nurse", "nursing"), ("Nurse's", "nurses"), ("swimming", "swim"), ("pickles", "pickled"), ("bakeries", "bakery")],
)
def test_stem_unites_forms_of_a_word(one, other):
    assert stem(one) == stem(other)


@pytest.mark.parametrize(("one", "other"), [("choir", "choice"), ("bus", "busy"), ("hen", "hens'ly"), ("glass", "gla")])
def test_stem_keeps_words_apart(one, other):
    assert stem(one) != stem(other)

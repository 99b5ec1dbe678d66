"""The scripted user and inducer: pure, forkable, never at a loss, and exact about what has been shown."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message
from data_gen.roles import hint_text
from data_gen.text import normal
from data_gen.world.facts import facts_of, named
from data_gen.world.inducer import ScriptedInducer, shown
from data_gen.world.judge import assess
from data_gen.world.personas import scripted_personas
from data_gen.world.remarks import TEMPERS
from data_gen.world.responders import STRATEGIES, play
from data_gen.world.styles import BY_ID, styles_of
from data_gen.world.user import COOL, PLEASED, ScriptedUser, temper, write_message

PERSONAS = [*scripted_personas("train", 30, 40, 0, pairings=2), *scripted_personas("benchmark", 6, 5, 0)]
persona = st.sampled_from(PERSONAS)
strategy = st.sampled_from(sorted(STRATEGIES))
replies = st.one_of(st.text(max_size=80), st.sampled_from(["Nice.", "Tell me more!", "You could try tea.", ""]))


def say(role, text):
    return Message(role=role, content=text)


def dialogue_of(persona, texts, seed=0):
    """A dialogue in which the assistant says `texts`, ending with a user message."""
    dialogue = [say("user", write_message(persona, [], seed))]
    for text in texts:
        dialogue.append(say("assistant", text))
        dialogue.append(say("user", write_message(persona, dialogue, seed)))
    return dialogue


@settings(max_examples=30, deadline=None)
@given(persona, st.lists(replies, max_size=4), st.integers(0, 5))
def test_same_input_same_message(persona, texts, seed):
    dialogue = dialogue_of(persona, texts, seed)
    assert dialogue_of(persona, texts, seed) == dialogue
    user = ScriptedUser(seed)
    assert asyncio.run(user.message(persona, dialogue[:-1])).text == dialogue[-1].content
    assert asyncio.run(user.message(persona, tuple(dialogue[:-1]))).text == dialogue[-1].content


@settings(max_examples=30, deadline=None)
@given(persona, st.lists(replies, max_size=3), replies, replies)
def test_forks_share_history_and_the_next_facts(persona, texts, one, other):
    left, right = dialogue_of(persona, [*texts, one]), dialogue_of(persona, [*texts, other])
    assert left[:-2] == right[:-2]
    assert shown(persona, left[:-2]) == shown(persona, right[:-2])
    assert shown(persona, left) == shown(persona, right)


@settings(max_examples=40, deadline=None)
@given(persona, st.lists(replies, max_size=9))
def test_beliefs_are_monotone_and_never_name_the_unrevealed(persona, texts):
    dialogue = dialogue_of(persona, texts)
    before = ()
    for end in range(1, len(dialogue) + 1, 2):
        now = asyncio.run(ScriptedInducer().beliefs(persona, dialogue[:end]))
        assert now[: len(before)] == before
        turn = (end + 1) // 2
        assert all(belief.turn == turn for belief in now[len(before) :])
        before = now
    said = [message.content for message in dialogue[::2]]
    for belief in before:
        text = said[belief.turn - 1]
        if belief.id in BY_ID:
            assert BY_ID[belief.id].shows(text)
        else:
            assert belief.id in [fact.id for fact in named(facts_of(persona), text)]
    hidden = {item.id for item in persona.facts} - {belief.id for belief in before}
    assert not hidden & {fact.id for fact in named(facts_of(persona), " ".join(said))}


@pytest.mark.parametrize("strategy", ["oracle", "empty"])
def test_pace(strategy):
    """One or two facts per turn, something of the style in turn 1, all traits by turn 4, all facts by turn 10."""
    for someone in PERSONAS[::3]:
        dialogue, _ = play(someone, strategy, 10)
        turns = {belief.id: belief.turn for belief in shown(someone, dialogue[:-1])}
        traits = [turns[item.id] for item in someone.traits]
        facts = [turns[item.id] for item in someone.facts]
        assert min(traits) == 1
        assert max(traits) <= 4
        assert max(facts) <= 10
        assert all(facts.count(turn) <= 2 for turn in range(1, 11))
        assert facts.count(1) >= 1


def test_no_message_names_more_than_two_new_facts_and_none_runs_dry():
    for someone in PERSONAS[::10]:
        dialogue, _ = play(someone, "generic", 25)
        texts = [message.content for message in dialogue[::2]]
        assert all(named(facts_of(someone), text) for text in texts)
        assert len(set(texts)) == len(texts)


def test_thousands_of_distinct_messages():
    many = scripted_personas("train", 300, 70, 0, pairings=4)
    first = [write_message(someone, [], 0) for someone in many]
    assert len(set(first)) >= 0.98 * len(first)
    messages = [m.content for someone in many[::10] for m in play(someone, "constant", 10)[0][::2]]
    assert len(set(messages)) >= 0.98 * len(messages) >= 1000


def test_length_habits_are_exclusive():
    for someone in PERSONAS:
        held = {style.id for style in styles_of(someone)}
        for message in play(someone, "generic", 4)[0][::2]:
            for id in ("length.brief", "length.roomy", "energy.lively", "emoji.emoji", "register.lower"):
                assert BY_ID[id].shows(message.content) == (id in held), (id, message.content)


def test_only_who_likes_questions_asks():
    for someone in PERSONAS:
        asks = "question.asks" in {style.id for style in styles_of(someone)}
        texts = [message.content for message in play(someone, "generic", 4)[0][::2]]
        assert any("?" in text for text in texts) == asks


def test_a_user_never_states_a_preference():
    for someone in PERSONAS:
        for message in play(someone, "empty", 5)[0][::2]:
            for item in someone.traits:
                assert normal(item.text) not in normal(message.content)
            assert " i like replies" not in normal(message.content)
            assert " i prefer" not in normal(message.content)


def test_reaction_follows_the_score():
    """A reply that fits gets a pleased remark, a poor one never."""
    seen = set()
    for someone in PERSONAS[::2]:
        mood = temper(someone)
        for strategy in ("oracle", "relevant", "generic"):
            dialogue, scores = play(someone, strategy, 3)
            texts = [normal(message.content.replace("’", "'")) for message in dialogue[2::2]]
            if "register.formal" in {style.id for style in styles_of(someone)}:
                continue  # its remarks are spelled out
            for text, score in zip(texts, scores, strict=False):
                pleased = any(text.startswith(normal(remark)) for remark in mood.pleased)
                assert pleased == (score >= PLEASED)
                seen.add("pleased" if pleased else "cool" if score < COOL else "even")
    assert seen == {"pleased", "cool", "even"}


def test_tempers_have_remarks_of_every_kind():
    assert {mood.name for mood in TEMPERS} >= {"impatient", "blunt", "anxious", "sarcastic", "dry"}
    for mood in TEMPERS:
        assert min(map(len, (mood.greetings, mood.pleased, mood.even, mood.cool))) >= 5


def test_hint_tells_what_was_shown_and_no_more():
    someone = PERSONAS[0]
    dialogue = dialogue_of(someone, ["Nice."])
    hint = hint_text(someone, shown(someone, dialogue))
    known = {belief.id for belief in shown(someone, dialogue)}
    for item in (*someone.facts, *someone.traits):
        assert (item.text in hint) == (item.id in known)


def test_wrong_end_of_dialogue():
    someone = PERSONAS[0]
    with pytest.raises(InputError, match="assistant message"):
        write_message(someone, [say("user", "Hello.")], 0)
    with pytest.raises(InputError, match="user message"):
        assess(someone, [say("user", "Hello."), say("assistant", "Hi.")], "Hi.")

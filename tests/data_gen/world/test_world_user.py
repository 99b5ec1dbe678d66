"""The scripted user and inducer: pure, forkable, never at a loss, and exact about what has been shown."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message
from data_gen.roles import hint_text
from data_gen.text import expand_contractions, normal
from data_gen.world.events import corrects, wanders_in
from data_gen.world.facts import asides, facts_of, named
from data_gen.world.inducer import ScriptedInducer, shown
from data_gen.world.judge import assess
from data_gen.world.oracle import oracle_reply
from data_gen.world.personas import scripted_personas
from data_gen.world.remarks import CORRECTIONS, TAKEN_BACK, TEMPERS
from data_gen.world.responders import STRATEGIES, play
from data_gen.world.simulators import A
from data_gen.world.styles import BY_ID, CUES, change_of, shown_styles, styles_of
from data_gen.world.user import ScriptedUser, temper, write_message

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
    if not corrects(persona):
        facts = {fact.id for fact in facts_of(persona)}
        assert [b for b in shown(persona, left) if b.id in facts] == [b for b in shown(persona, right) if b.id in facts]


@settings(max_examples=40, deadline=None)
@given(persona, st.lists(replies, max_size=9))
def test_beliefs_are_monotone_and_never_name_the_unrevealed(persona, texts):
    dialogue, change = dialogue_of(persona, texts), change_of(persona)
    before = ()
    for end in range(1, len(dialogue) + 1, 2):
        now = asyncio.run(ScriptedInducer().beliefs(persona, dialogue[:end]))
        turn = (end + 1) // 2
        if change is not None and turn >= change[1]:  # what the user gave up is taken out
            axis = change[0].id.partition(".")[0]
            before = tuple(belief for belief in before if "@" in belief.id or belief.id.partition(".")[0] != axis)
        assert now[: len(before)] == before
        assert all(belief.turn == turn for belief in now[len(before) :])
        before = now
    said = [message.content for message in dialogue[::2]]
    for belief in before:
        text = said[belief.turn - 1]
        setting, _, changed_in = belief.id.partition("@")
        if changed_in:
            assert belief.turn >= int(changed_in)
        if setting in BY_ID:
            assert BY_ID[setting].shows(text)
        else:
            assert belief.id in [fact.id for fact in named(facts_of(persona), text)]
    hidden = {item.id for item in persona.facts} - {belief.id for belief in before}
    assert not hidden & {fact.id for fact in named(facts_of(persona), " ".join(said))}


def plain_personas():
    """Those without surprises, whose pace is regular."""
    return [p for p in PERSONAS if not (change_of(p) or corrects(p) or wanders_in(p))]


def test_pace():
    """A user that is pleased shows one new trait per turn from turn 1 on, until all have shown: n traits by turn n. One
    or two facts per turn."""
    for someone in plain_personas()[::3]:
        dialogue, _ = play(someone, "oracle", 12)
        turns = {belief.id: belief.turn for belief in shown(someone, dialogue[:-1])}
        count = len(styles_of(someone))
        assert sorted(turns[style.id] for style in styles_of(someone)) == list(range(1, count + 1))
        facts = [turns[item.id] for item in someone.facts]
        assert all(facts.count(turn) <= 2 for turn in range(1, 13))
        assert facts.count(1) >= 1


def test_a_miss_makes_the_user_withhold():
    """The trait of the first turn is all that an empty reply ever gets to see; a single one costs a turn."""
    for someone in plain_personas()[::3]:
        dialogue, _ = play(someone, "empty", 6)
        assert len(shown_styles(someone, dialogue[:-1])) == 1
        dialogue[1] = say("assistant", oracle_reply(someone, dialogue[:1]))
        good = [*dialogue[:2], say("user", write_message(someone, dialogue[:2], 0))]
        assert len(shown_styles(someone, good)) == 2
        missed = [*dialogue[:1], say("assistant", ""), good[2], say("assistant", oracle_reply(someone, good))]
        missed[2] = say("user", write_message(someone, missed[:2], 0))
        missed[3] = say("assistant", oracle_reply(someone, missed[:3]))
        assert len(shown_styles(someone, [*missed, say("user", write_message(someone, missed, 0))])) == 2


def test_a_question_about_an_axis_gets_its_trait_next():
    """Whatever the axis, as long as the reply is no miss."""
    asked = 0
    for someone in plain_personas()[::4]:
        dialogue = [say("user", write_message(someone, [], 0))]
        known = shown_styles(someone, dialogue)
        good = oracle_reply(someone, dialogue)
        for style in styles_of(someone):
            if style.id not in known:
                reply = f"{good} Is it about {CUES[style.axis][0]}?"
                if assess(someone, dialogue, reply).value < A.miss:
                    continue  # the question itself was the miss
                told = [*dialogue, say("assistant", reply)]
                told.append(say("user", write_message(someone, told, 0)))
                assert set(shown_styles(someone, told)) - set(known) == {style.id}
                asked += 1
    assert asked > 50


def test_a_user_that_changes_takes_the_old_setting_back():
    """In turn 6, whatever the replies: from then on the new setting counts and the old one does not."""
    someone = next(
        p for p in scripted_personas("train", 30, 40, 0, pairings=8) if change_of(p) and wanders_in(p) is None
    )
    new, turn = change_of(someone)
    [old] = [style for style in styles_of(someone) if style.axis == new.axis]
    assert turn == 6
    for strategy in ("oracle", "empty"):
        dialogue, _ = play(someone, strategy, 8)
        before, after = dialogue[: 2 * turn - 3], dialogue[: 2 * turn - 1]
        assert new.id not in shown_styles(someone, before)
        assert shown_styles(someone, after)[new.id] == turn
        assert old.id not in shown_styles(someone, after)
        assert len(shown_styles(someone, after)) <= len(shown_styles(someone, before)) + 1
        said = normal(expand_contractions(after[-1].content))
        assert any(normal(expand_contractions(text)) in said for text in TAKEN_BACK)
        ids = {belief.id for belief in shown(someone, after)}
        assert f"{new.id}@{turn}" in ids
        assert new.text in hint_text(someone, shown(someone, after))
        assert old.text not in hint_text(someone, shown(someone, after))
    held = {style.id for style in styles_of(someone, turn)}
    assert held == {style.id for style in styles_of(someone)} - {old.id} | {new.id}


def test_a_user_that_goes_off_topic():
    """One message is about an aside and no fact of the user; a reply to it can be perfect; then all is as before."""
    many = scripted_personas("train", 30, 40, 0, pairings=8)
    someone = next(p for p in many if wanders_in(p) and not change_of(p) and not corrects(p))
    turn = wanders_in(someone)
    dialogue, scores = play(someone, "oracle", 8)
    texts = [message.content for message in dialogue[::2]]
    for place, text in enumerate(texts, start=1):
        assert bool(named(facts_of(someone), text)) == (place != turn)
        assert bool(named(asides("train"), text)) == (place == turn)
    assert scores[turn - 1].value == pytest.approx(5.0)
    on_fact = say("assistant", f"Your {facts_of(someone)[0].topic} again.")
    assert assess(someone, dialogue[: 2 * turn - 1], on_fact.content).content < 0.5


def test_a_user_that_corrects():
    """A leak or a reply beside the topic brings the same fact up again; other users go on."""
    someone = next(p for p in scripted_personas("train", 30, 40, 0, pairings=8) if corrects(p) and not wanders_in(p))
    other = someone.model_copy(update={"traits": tuple(i for i in someone.traits if not i.id.startswith("event."))})
    for text in ("Such a thing stays in the head.", f"Like your {facts_of(someone)[-1].topic}."):
        dialogue = [say("user", write_message(someone, [], 0))]
        told = named(facts_of(someone), dialogue[0].content)
        if facts_of(someone)[-1] in told:
            continue
        dialogue.append(say("assistant", text))
        again = write_message(someone, dialogue, 0)
        assert named(facts_of(someone), again) == told[:1]
        assert any(normal(remark) in normal(again) for texts in CORRECTIONS.values() for remark in texts)
        first = [say("user", write_message(other, [], 0)), say("assistant", text)]
        assert not set(named(facts_of(other), write_message(other, first, 0))) & set(
            named(facts_of(other), first[0].content)
        )


def test_no_message_names_more_than_two_new_facts_and_none_runs_dry():
    for someone in PERSONAS[::10]:
        dialogue, _ = play(someone, "generic", 25)
        texts = [message.content for message in dialogue[::2]]
        spoken = (*facts_of(someone), *asides("train"), *asides("benchmark"))
        assert all(named(spoken, text) for text in texts)
        assert len(set(texts)) == len(texts)


def test_thousands_of_distinct_messages():
    many = scripted_personas("train", 300, 70, 0, pairings=4)
    first = [write_message(someone, [], 0) for someone in many]
    assert len(set(first)) >= 0.98 * len(first)
    messages = [m.content for someone in many[::10] for m in play(someone, "constant", 10)[0][::2]]
    assert len(set(messages)) >= 0.98 * len(messages) >= 1000


def test_a_habit_begins_in_the_turn_that_reveals_it():
    """And stays: no habit shows before its trait's turn, each shows in every message afterwards; nobody else has it."""
    for someone in plain_personas():
        dialogue, _ = play(someone, "oracle", 11)
        turns = shown_styles(someone, dialogue[:-1])
        for place, message in enumerate(dialogue[::2], start=1):
            for style in (style for style in BY_ID.values() if style.habit is not None):
                begun = place >= turns.get(style.id, 99)
                assert style.shows(message.content) == begun, (style.id, place, message.content)


def test_only_who_likes_questions_asks():
    for someone in plain_personas():
        asks = "question.asks" in {style.id for style in styles_of(someone)}
        texts = [message.content for message in play(someone, "oracle", 11)[0][::2]]
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
    for someone in plain_personas()[::2]:
        mood = temper(someone)
        for strategy in ("oracle", "relevant", "generic"):
            dialogue, scores = play(someone, strategy, 3)
            texts = [normal(message.content.replace("’", "'")) for message in dialogue[2::2]]
            if "register.formal" in {style.id for style in styles_of(someone)}:
                continue  # its remarks are spelled out
            for text, parts in zip(texts, scores, strict=False):
                pleased = any(text.startswith(normal(remark)) for remark in mood.pleased)
                assert pleased == (parts.value >= A.pleased)
                seen.add("pleased" if pleased else "cool" if parts.value < A.cool else "even")
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

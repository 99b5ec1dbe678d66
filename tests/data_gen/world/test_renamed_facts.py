"""Facts with made-up words: named in every form, unknown to the banks, and enough for the top of the scale."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_jax.tree.schema import Message, dump
from data_gen.text import words
from data_gen.world.facts import RENAMED, bank, by_id, facts_of, find_fact, named, split_of
from data_gen.world.judge import assess
from data_gen.world.oracle import oracle_reply
from data_gen.world.personas import SIZES, scripted_personas
from data_gen.world.responders import play

WHOLE = dataclasses.replace(SIZES["train"], renamed=1.0, surprises=0.0)
PERSONAS = scripted_personas("train", 6, 6, 0, pairings=1, size=WHOLE)
facts = st.builds(find_fact, st.builds("{}~{}".format, st.sampled_from(sorted(by_id())), st.integers(0, 999)))


@settings(deadline=None)
@given(facts)
def test_each_form_names_the_fact_and_no_word_of_it_is_of_a_bank(fact):
    known = {name for other in by_id().values() for name in other.names}
    assert all(named([fact], form) for form in fact.forms)
    assert not known & set(fact.names)
    assert fact.topic in fact.names
    assert find_fact(fact.id) == fact
    assert not any(RENAMED in word for form in fact.forms for word in words(form))


@pytest.mark.parametrize("id", ["job.nurse~x", "job.nurse~", "job.astronaut~3", "job.astronaut", ""])
def test_other_ids_are_of_no_fact(id):
    assert find_fact(id) is None or find_fact(id) in bank("train")
    assert find_fact("job.nurse") in bank("train")


def test_the_oracle_reaches_the_top():
    for persona in PERSONAS:
        assert {RENAMED in item.id for item in persona.facts} == {True}
        assert split_of(persona) == "train"
        talk = play(persona, "oracle", 4)[0]
        for row, message in enumerate(talk):
            if message.role == "assistant":
                assert assess(persona, talk[:row], message.content).value == pytest.approx(5.0)


def test_a_reply_says_nothing_that_the_user_did_not():
    """What the oracle calls the topic stands in the latest message."""
    persona = PERSONAS[0]
    opening = play(persona, "oracle", 1)[0][:1]
    reply = oracle_reply(persona, opening)
    [fact] = named(facts_of(persona), reply)
    assert fact.topic in words(opening[0].content)
    assert oracle_reply(persona, [Message(role="user", content=opening[0].content)]) == reply


def test_a_share_of_the_profiles_and_none_held_out():
    half = dataclasses.replace(SIZES["train"], renamed=0.5)
    train = scripted_personas("train", 60, 6, 0, pairings=1, size=half)
    renamed = [persona for persona in train if RENAMED in persona.facts[0].id]
    assert 15 <= len(renamed) <= 45
    plain = scripted_personas("train", 60, 6, 0, pairings=1)
    assert [dump(p) for p in train if p not in renamed] == [
        dump(p) for p in plain if p.id not in {r.id for r in renamed}
    ]

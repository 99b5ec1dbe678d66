"""The scripted teacher: the oracle where it is told what has shown, and no more than it is told elsewhere."""

import asyncio

import pytest

from data_gen.roles import Told
from data_gen.world.facts import by_id, named
from data_gen.world.inducer import shown
from data_gen.world.judge import assess
from data_gen.world.oracle import oracle_reply
from data_gen.world.personas import scripted_personas
from data_gen.world.responders import STRATEGIES, play
from data_gen.world.teacher import ScriptedTeacher

PERSONAS = scripted_personas("train", 8, 8, 3, pairings=1)
PLACES = [(persona, play(persona, "oracle", turns)[0][:-1]) for persona in PERSONAS for turns in (1, 3)]


def said(told, dialogue, seed=5, skill=1.0, n=1):
    answers = asyncio.run(ScriptedTeacher(skill).replies(told, dialogue, n, seed))
    return [answer.text for answer in answers]


@pytest.mark.parametrize(("persona", "dialogue"), PLACES)
def test_told_what_has_shown_it_is_the_oracle(persona, dialogue):
    told = Told(persona, shown(persona, dialogue))
    assert said(told, dialogue, n=2) == [oracle_reply(persona, dialogue, seed) for seed in (5, 6)]


@pytest.mark.parametrize(("persona", "dialogue"), PLACES)
def test_without_a_hint_it_fits_no_trait_on_purpose(persona, dialogue):
    """It is on topic, and equal for all personalities that say the same."""
    [reply] = said(Told(persona, None), dialogue)
    bare = persona.model_copy(update={"traits": ()})
    assert reply == oracle_reply(bare, dialogue, 5)
    assert assess(persona, dialogue, reply).content == 1.0


@pytest.mark.parametrize(("persona", "dialogue"), PLACES)
def test_a_secret_is_given_away_behind_the_oracles_reply(persona, dialogue):
    known = shown(persona, dialogue)
    secret = next(fact for fact in persona.facts if fact.id not in {each.id for each in known})
    [reply] = said(Told(persona, known, secret), dialogue)
    assert reply.startswith(oracle_reply(persona, dialogue, 5))
    assert named([by_id()[secret.id]], reply)
    assert assess(persona, dialogue, reply).tact < 1.0


def test_skill_is_the_share_of_the_oracles_replies():
    """Of 400 replies at a skill of 0.7, 280 are expected; fewer than 250 or more than 310 come once in 900 times."""
    persona, dialogue = PLACES[1]
    told = Told(persona, shown(persona, dialogue))
    relevant = {STRATEGIES["relevant"](persona, dialogue, seed) for seed in range(400)}
    replies = said(told, dialogue, seed=0, skill=0.7, n=400)
    assert 250 <= sum(reply not in relevant for reply in replies) <= 310
    assert set(said(told, dialogue, seed=0, skill=0.0, n=50)) <= relevant
    assert replies == said(told, dialogue, seed=0, skill=0.7, n=400)

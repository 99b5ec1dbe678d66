"""The scripted teacher: the oracle where it is told what has shown, and no more than it is told elsewhere."""

import asyncio

import numpy as np
import pytest

from data_gen.roles import Told
from data_gen.world.events import is_event
from data_gen.world.facts import by_id, named
from data_gen.world.inducer import shown
from data_gen.world.judge import assess
from data_gen.world.oracle import oracle_reply
from data_gen.world.personas import scripted_personas
from data_gen.world.responders import play
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
    secret = next(fact for fact in persona.facts if not is_event(fact) and fact.id not in {each.id for each in known})
    [reply] = said(Told(persona, known, secret), dialogue)
    assert reply.startswith(oracle_reply(persona, dialogue, 5))
    assert named([by_id()[secret.id]], reply)
    assert assess(persona, dialogue, reply).tact < 1.0


def test_skill_is_the_oracles():
    """Every trait is met with that probability."""
    persona, dialogue = PLACES[1]
    told = Told(persona, shown(persona, dialogue))
    replies = said(told, dialogue, seed=0, skill=0.5, n=60)
    assert replies == [oracle_reply(persona, dialogue, seed, 0.5) for seed in range(60)]
    means = [
        np.mean([assess(persona, dialogue, reply).style for reply in said(told, dialogue, 0, skill, n=60)])
        for skill in (0.0, 0.5, 1.0)
    ]
    assert means[0] + 0.2 < means[1] < means[2] - 0.2

"""The trees of a round before it has run, against trees that were rolled out."""

import asyncio
import dataclasses

import pytest

from data_gen.online.methods import METHODS
from data_gen.online.outline import outlines
from data_gen.online.rollout import Seat, roll_out
from data_gen.online.round_settings import OnlineSettings
from data_gen.online.settings import RolloutSettings
from data_gen.roles import Roles
from data_gen.world.inducer import ScriptedInducer
from data_gen.world.judge import ScriptedJudge
from data_gen.world.personas import scripted_personas
from data_gen.world.stochastic import StochasticResponder
from data_gen.world.teacher import ScriptedTeacher
from data_gen.world.user import ScriptedUser

PERSONAS = scripted_personas("train", profiles=2, personalities=1, seed=0, pairings=1)
ROLLOUT = RolloutSettings(turns=4, siblings=3, futures=2, share=0.5)


@pytest.mark.parametrize(
    ("method", "horizon", "learned"), [("siblings", 2.0, 2 * 3), ("siblings", 0.0, 2 * 3), ("chain", 2.0, 4)]
)
def test_the_shape_is_that_of_a_round(method, horizon, learned):
    """Same nodes in the same order; at two of four turns each of three siblings is learned from, of a chain all turns'
    replies."""
    rollout = dataclasses.replace(ROLLOUT, horizon=horizon)
    settings = OnlineSettings(objective="policy_gradient", method=method, trees=2, per_persona=2, rollout=rollout)
    found, shape = outlines(settings, seed=3), METHODS[method].shaped(rollout)
    seats = []
    for outline, persona in zip(found, PERSONAS, strict=True):
        players = (ScriptedUser(seed=None), ScriptedInducer(), StochasticResponder(persona), ScriptedJudge())
        seats.append(Seat(outline.id, persona, Roles(*players, ScriptedTeacher())))
    real = asyncio.run(roll_out(seats, shape, seed=3))
    for outline, tree in zip(found, real, strict=True):
        assert [(node.id, node.parent) for node in outline.nodes] == [(node.id, node.parent) for node in tree.nodes]
        assert sum(node.advantage is not None for node in outline.nodes) == learned

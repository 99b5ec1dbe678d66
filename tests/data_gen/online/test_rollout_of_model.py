"""Rollout trees whose policy is a model on an engine of this process: the tiny one of the scripted world."""

import asyncio

import pytest

from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.load import load_params
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.serve.local import client_of, engine_of
from aloe_jax.serve.settings import ServeSettings
from aloe_jax.tree.schema import dump
from data_gen.online.probes import answers_of
from data_gen.online.rollout import Seat, chosen_turns, roll_out
from data_gen.online.settings import RolloutSettings
from data_gen.players.responder import ModelResponder
from data_gen.players.settings import ModelSettings
from data_gen.players.table import load_prompt
from data_gen.roles import Roles
from data_gen.world.inducer import ScriptedInducer
from data_gen.world.judge import ScriptedJudge
from data_gen.world.personas import scripted_personas
from data_gen.world.teacher import ScriptedTeacher
from data_gen.world.twin import twin_model
from data_gen.world.user import ScriptedUser

SETTINGS = RolloutSettings(turns=3, siblings=3, futures=1, share=0.34, probes=2)
SAMPLING = ModelSettings(temperature=1.0, top_p=1.0, max_tokens=24)


class Hasty(ScriptedJudge):
    """Takes its time over every second reply, so that answers come in another order than they were asked for."""

    def __init__(self, pauses):
        self.pauses, self.calls = pauses, 0

    async def score(self, *arguments):
        self.calls += 1
        for _ in range(self.pauses * (self.calls % 2)):
            await asyncio.sleep(0)
        return await super().score(*arguments)


def grown(pauses):
    """The trees of two personas, by a fresh engine."""
    mesh = make_mesh()
    config, chat = read_chat_model(twin_model())
    params = load_params(twin_model(), config)
    engine = engine_of(config, params, chat, mesh, ServeSettings(slots=8, context=512))

    async def rolled_out(client):
        policy = ModelResponder(client, load_prompt("responder"), SAMPLING)
        judge = Hasty(pauses)
        personas = scripted_personas("train", profiles=2, personalities=2, seed=0, pairings=1)
        roles = Roles(ScriptedUser(seed=None), ScriptedInducer(), policy, judge, ScriptedTeacher())
        async with client:
            return await roll_out([Seat(each.id, each, roles) for each in personas], SETTINGS, 0, policy=2)

    with client_of(engine, chat, "twin") as client:
        return asyncio.run(rolled_out(client)), chat


@pytest.mark.slow
def test_equal_bits_whatever_the_timing():
    """Tokens and log-probabilities too, by an engine each, with a judge that keeps nobody or everybody waiting."""
    trees, chat = grown(pauses=0)
    assert [dump(tree) for tree in grown(pauses=200)[0]] == [dump(tree) for tree in trees]
    for tree in trees:
        [turn] = chosen_turns(tree.id, SETTINGS, 0)
        siblings = [node for node in tree.replies() if node.parent == f"u{turn}"]
        assert len({node.token_ids for node in siblings}) == 3
        for node in tree.replies():
            assert (node.policy, node.condition, node.tokenizer) == (2, "plain", chat.tokenizer.hash)
            assert len(node.token_ids) == len(node.logprobs) > 0
            assert "no_loss" not in node.flags
        [answers] = answers_of(tree)
        assert len({node.token_ids for node in answers}) == 2
        assert all(len(node.token_ids) == len(node.logprobs) > 0 and node.policy == 2 for node in answers)

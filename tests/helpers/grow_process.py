"""Grows conversations with models in all roles against one server, in the folder given, and ends.

python tests/helpers/grow_process.py URL[,URL] FOLDER [TREES]
"""

import asyncio
import sys
from pathlib import Path

from aloe_jax.serve.client.client import Client
from aloe_jax.serve.client.probe import probe
from data_gen.calls.call_cache import CallCache
from data_gen.calls.store import Store
from data_gen.game.guards import NAMES
from data_gen.game.scheduler import Candidates, Scheduler, put_in_order
from data_gen.game.tree_growth import TreeConfig
from data_gen.players.inducer import ModelInducer
from data_gen.players.judge import ModelJudge
from data_gen.players.prompts import load_prompt
from data_gen.players.responder import ModelResponder
from data_gen.players.user import ModelUser
from data_gen.roles import Roles
from data_gen.world.personas import scripted_personas
from helpers.fake_server import MODEL

SAMPLING = {"temperature": 0.8, "top_p": 0.95, "max_tokens": 64}
SHAPE = TreeConfig(turns=3, hinted=2, plain=1, min_margin=0.1, min_turns=3, attempts=3, guards=NAMES, user_guards=NAMES)


class Silent:
    def noted(self, ledger, record):
        pass

    def grown(self, name, node):
        pass

    def ended(self, name, accepted):
        pass


def roles(client, store):
    def parts(role):
        prompt = load_prompt(role)
        return CallCache(client, store, role, prompt.hash), prompt, SAMPLING

    user, inducer, responder = (
        kind(*parts(name))
        for kind, name in ((ModelUser, "user"), (ModelInducer, "inducer"), (ModelResponder, "responder"))
    )
    return Roles(user, inducer, responder, ModelJudge(*parts("judge"), name="fake"))


async def grow_all(url, folder, trees=8, shape=SHAPE, shard=(0, 1), **settings):
    """Returns how many were accepted."""
    personas = scripted_personas("train", 40, 16, 0, pairings=1)
    candidates = Candidates(personas, trees, 5 * trees, shard)
    with Store(folder) as store:
        async with Client(url, MODEL, **{"concurrency": 16, "retries": 1000, **settings}) as client:
            await probe(client)
            growing = Scheduler(folder / "trees.jsonl", store, shape, 0, concurrency=4)
            accepted = await growing.run(candidates, roles(client, store), Silent())
    put_in_order(folder / "trees.jsonl")
    return accepted


if __name__ == "__main__":
    from aloe_jax.serve.client import client as client_module

    client_module.FIRST_PAUSE = 0.002
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    print(asyncio.run(grow_all(sys.argv[1], Path(sys.argv[2]), count)))

"""Grows conversations with models in all roles behind one server, in the given folder, and exits.

python tests/helpers/grow_process.py URL[,URL] FOLDER [TREES]
"""

import asyncio
import dataclasses
import sys
from pathlib import Path

from aloe_jax.serve.client.client import Client
from aloe_jax.serve.client.probe import probe
from data_gen.calls.call_cache import CallCache
from data_gen.calls.store import Store
from data_gen.game.scheduler import Candidates, Scheduler, put_in_order
from data_gen.game.settings import ConversationSettings, MixSettings, TreeSettings
from data_gen.game.tree_growth import Shape
from data_gen.players.settings import ModelSettings
from data_gen.players.table import ROLES, load_prompt
from data_gen.roles import Roles
from data_gen.world.personas import scripted_personas
from helpers.fake_server import MODEL

SAMPLING = ModelSettings(temperature=0.8, top_p=0.95, max_tokens=64)
SHAPE = Shape(
    ConversationSettings(turns=3, mix=MixSettings(hinted=2), min_margin=0.1), TreeSettings(min_turns=3, attempts=3)
)


class Silent:
    def noted(self, ledger, record):
        pass

    def grown(self, name, node):
        pass

    def ended(self, name, accepted):
        pass


def roles(client, store):
    def player(role):
        prompt = load_prompt(role)
        return ROLES[role].model(CallCache(client, store, role, prompt.hash), prompt, SAMPLING, name="fake")

    return Roles(**{field.name: player(field.name) for field in dataclasses.fields(Roles)})


async def grow_all(url, folder, trees=8, shape=SHAPE, shard=(0, 1), **settings):
    """The number of accepted conversations."""
    personas = scripted_personas("train", 40, 16, 0, pairings=1)
    candidates = Candidates(personas, trees, 5 * trees, shard)
    with Store(folder) as store:
        async with Client(url, MODEL, **{"concurrency": 16, "retries": 1000, **settings}) as client:
            await probe(client)
            scheduler = Scheduler(folder / "trees.jsonl", store, shape, 0, concurrency=4)
            accepted = await scheduler.run(candidates, roles(client, store), Silent())
    put_in_order(folder / "trees.jsonl")
    return accepted


if __name__ == "__main__":
    from aloe_jax.serve.client import client as client_module

    client_module.FIRST_PAUSE = 0.002
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    print(asyncio.run(grow_all(sys.argv[1], Path(sys.argv[2]), count)))

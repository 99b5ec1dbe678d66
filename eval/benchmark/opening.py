"""Clients of the models under test: an engine on the mesh for a model of the run or a folder, or a server's client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aloe_jax import files
from aloe_jax.run.model import call_identity
from aloe_jax.run.stage import Run
from aloe_jax.serve.client.client import Client
from aloe_jax.serve.client.interface import ChatClient
from aloe_jax.serve.client.probe import missing, probe
from aloe_jax.serve.local import stage_client
from aloe_jax.serve.settings import ServeSettings
from aloe_jax.train.names import BASE
from aloe_jax.train.sources import find_model
from data_gen.calls.call_cache import CallCache
from data_gen.calls.store import EVENTS, Store
from data_gen.players.table import ROLES
from eval.benchmark.entries import TESTED, ModelUnderTest
from eval.benchmark.settings import BenchmarkSettings

PROBED = ("schema", "top_logprobs")  # wanted beside, to ask for what a model has learned
WANTED = tuple(name for name in ROLES["responder"].wanted if name != "n")


def model_identity(run: Run, model: ModelUnderTest) -> str:
    """What decides the answers of a model from outside the run: the hash of its files, or its name on a server, whose
    address may change. InputError if there is no such model."""
    return f"served as {model.served}" if model.url else find_model(run, model.source).identity


@contextmanager
def model_client(run: Run, model: ModelUnderTest) -> Iterator[ChatClient]:
    """A client of a model under test, which lives as long as the block."""
    if model.url:
        serve, settings = run.section("serve", ServeSettings), run.section("benchmark", BenchmarkSettings)
        limits = {"concurrency": serve.concurrency, "timeout": serve.timeout, "patience": serve.patience}
        yield Client(model.url, model.served, settings.api_key_env, **limits)  # type: ignore[arg-type]
        return
    # Only the base model plays roles too; the ids of its calls name the model by its hash.
    with stage_client(run, model.source or model.name, call_identity(run) if model.name == BASE else "") as client:
        yield client


@asynccontextmanager
async def recorded(run: Run, client: ChatClient, store: Store, entered: bool) -> AsyncIterator[CallCache]:
    """The client with its answers stored, entered unless it is already; what a server of it cannot do is told."""
    if entered:
        yield CallCache(client, store, TESTED, "")
        return
    async with client:
        if isinstance(client, Client):
            client.notice = run.progress.line
            probes = run.section("benchmark", BenchmarkSettings).probes
            for address, abilities in (await probe(client, WANTED + PROBED if probes else WANTED)).items():
                found: dict[str, object] = {"event": "probe", "address": address, "model": client.model}
                found["abilities"] = abilities.recorded()
                store.add(EVENTS, f"probe {files.sha256(files.canonical(found))}", found)
                for sentence in missing(abilities):
                    run.progress.line(f"benchmark: {address}: {sentence}")
        yield CallCache(client, store, TESTED, "")

"""Where personas come from: the scripted world, hand-written seeds and a model, or pools from files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.stage import Run
from aloe_jax.serve.client.client import Client
from aloe_jax.train.stages import model_inputs
from aloe_jax.tree.schema import Message, Persona
from data_gen.calls.store import EVENTS, REJECTS, Store
from data_gen.personas.encoder import MiniLM
from data_gen.personas.entry import Entry, Kind
from data_gen.personas.filter import distribution, nearest_neighbours
from data_gen.personas.loop import GrowConfig, PoolResult, grow_pool
from data_gen.personas.paper import read_pool
from data_gen.personas.split import contamination, personas, split
from data_gen.players.assemble import assemble, needs_own_server, role_clients, template_hash
from data_gen.players.player import sampling_of
from data_gen.seeds import stable_seed
from data_gen.world.personas import scripted_personas

SOURCES = ("scripted", "generated", "files")
REPORT = "pool.json"
_Made = tuple[list[Persona], list[Persona], dict[str, Any]]


def check_personas(run: Run) -> None:
    """InputError for settings that cannot work."""
    run.one_of("personas", "source", SOURCES)
    section = run.section("personas")
    if section["source"] == "files":
        for name in ("profile_pool", "personality_pool"):
            if not section[name]:
                raise InputError(f"config.personas.{name} is empty; name a pool file, or take another source")
            files.existing(section[name], f"config.personas.{name}: file")
    if section["source"] == "scripted":
        return  # the world itself says what it has
    run.at_least("personas", profiles=1, personalities=1, pairings=1, benchmark_profiles=1, benchmark_personalities=1)
    run.at_least("personas", rounds=0, proposals=1, concurrency=1, saturation_rounds=1, saturation_rate=0, quantile=0)
    if section["pairings"] > section["personalities"]:
        raise InputError(
            f"config.personas.pairings: {section['pairings']} are more than the {section['personalities']} "
            "personalities; lower it, or raise config.personas.personalities"
        )


def persona_inputs(run: Run) -> dict[str, str]:
    """What personas are made from besides the config."""
    section = run.section("personas")
    if section["source"] == "files":
        return {name: files.hash_file(section[name]) for name in ("profile_pool", "personality_pool")}
    if section["source"] == "generated":
        own = model_inputs(run) if needs_own_server(run, ["author"]) else {}
        return {"author_template": template_hash(run, "author")} | own
    return {}


def make_personas(run: Run) -> _Made:
    """Training personas, benchmark personas, and counts for the manifest."""
    section, seed = run.section("personas"), run.config["seed"]
    if section["source"] == "scripted":
        profiles, personalities, pairings = (section[name] for name in ("profiles", "personalities", "pairings"))
        train = scripted_personas("train", profiles, personalities, seed, pairings=pairings)
        held_out = (section["benchmark_profiles"], section["benchmark_personalities"])
        return train, scripted_personas("benchmark", *held_out, seed), {}
    if section["source"] == "generated":
        with Store(Path(run.directory("personas"))) as store, role_clients(run, ["author"]) as clients:
            pools = asyncio.run(_generated(run, clients, store))
    else:
        pools = _from_files(run)
    return _paired(run, pools)


async def _generated(run: Run, clients: Mapping[str, Client], store: Store) -> dict[Kind, PoolResult]:
    """Both pools, grown by the model that plays `config.roles.author`."""
    section, author, encoder = run.section("personas"), run.section("roles")["author"], MiniLM()
    found: dict[Kind, PoolResult] = {}
    async with assemble(run, clients, store) as cast:
        for warning in cast.warnings:
            run.progress.line(f"personas: {warning}")

        async def ask(messages: Sequence[Message], schema: Mapping[str, Any], seed: int) -> str:
            how = {"seed": seed, "schema": schema, "token_ids": False, "logprobs": False, **sampling_of(author)}
            [answer] = await cast.recorded["author"].chat(messages, **how)
            return answer.text

        def record(event: dict[str, Any]) -> None:
            key = files.sha256(files.canonical(event))
            store.add(REJECTS if event["event"] == "reject" else EVENTS, key, event)

        for kind, name in _KINDS.items():
            config = GrowConfig.from_config({**section, "target": section[name] + section[f"benchmark_{name}"]})
            seed = stable_seed(run.config["seed"], "pool", kind)
            found[kind] = await grow_pool(kind, ask, encoder, config, seed, record, run.progress.update)
    return found


class _Encoded:
    """Implements `Encoder` for the texts of pools that are encoded already."""

    def __init__(self, pools: Iterable[PoolResult]) -> None:
        self._vectors = {
            entry.text: vector for pool in pools for entry, vector in zip(pool.entries, pool.vectors, strict=True)
        }

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Their vectors, [N D]."""
        return np.stack([self._vectors[text] for text in texts])


_KINDS: Mapping[Kind, str] = {"profile": "profiles", "personality": "personalities"}


def _from_files(run: Run) -> dict[Kind, PoolResult]:
    """Pools that are there already, with what the report says of grown ones."""
    encoder, found = MiniLM(), {}
    for kind in _KINDS:
        entries = tuple(read_pool(run.section("personas")[f"{kind}_pool"], kind))
        vectors = encoder.encode([entry.text for entry in entries])
        spread = distribution(nearest_neighbours(vectors)) if len(entries) > 1 else {}
        found[kind] = PoolResult(entries, vectors, 1.0, spread, {}, {}, 0, "target")
    return found


def _paired(run: Run, pools: Mapping[Kind, PoolResult]) -> _Made:
    """Both pools cut into training and benchmark, and paired; the report beside the personas."""
    section, seed = run.section("personas"), run.config["seed"]
    sides: dict[Kind, tuple[list[Entry], list[Entry]]] = {}
    for kind, name in _KINDS.items():
        pool, held_out = pools[kind], section[f"benchmark_{name}"]
        least = held_out + (section["pairings"] if kind == "personality" else 1)
        if len(pool.entries) < least:
            raise InputError(
                f"config.personas.{name}: the pool has {len(pool.entries)} {name} (it ended: {pool.stopped}), too few "
                f"for {held_out} held out and {least - held_out} to train with; ask for fewer, or raise "
                "config.personas.quantile or rounds"
            )
        train, benchmark = split(pool.entries, pool.vectors, held_out, seed)
        sides[kind] = (train[: section[name]], benchmark)
    train_personas = personas(sides["profile"][0], sides["personality"][0], section["pairings"], seed)
    held_out_personas = personas(sides["profile"][1], sides["personality"][1], None, seed)
    report = {
        name: {
            "entries": len(pools[kind].entries),
            "origins": {
                origin: sum(entry.origin == origin for entry in pools[kind].entries)
                for origin in ("seed", "generated", "file")
            },
            "stopped": pools[kind].stopped,
            "rounds": pools[kind].rounds,
            "threshold": round(pools[kind].threshold, 4),
            "nearest": dict(pools[kind].distribution),
            "seeds_nearest": dict(pools[kind].seed_distribution),
            "rejects": dict(pools[kind].rejects),
        }
        for kind, name in _KINDS.items()
    }
    report["contamination"] = contamination(train_personas, held_out_personas, _Encoded(pools.values()))
    files.write_json(run.directory("personas") / REPORT, report)
    counts = {
        name: {key: report[name][key] for key in ("entries", "stopped", "rounds", "threshold", "rejects")}
        for name in _KINDS.values()
    }
    return train_personas, held_out_personas, counts

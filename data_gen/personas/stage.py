"""The stage `personas`: from the scripted world, from hand-written seeds and a model, or from pools in files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.manifest import Values
from aloe_jax.run.stage import Run, Stage
from aloe_jax.serve.client.call_errors import CallError
from aloe_jax.serve.client.interface import ChatClient
from aloe_jax.serve.local import assist
from aloe_jax.tree.schema import Message, Persona, write_records
from data_gen.calls.given_up import Endings
from data_gen.calls.store import CALLS, EVENTS, REJECTS, Store
from data_gen.personas.contamination import Factor, contamination
from data_gen.personas.encoder import MiniLM
from data_gen.personas.entry import Entry, Kind
from data_gen.personas.filter import distribution, nearest_neighbours
from data_gen.personas.loop import Accepted, PoolResult, Rejected, grow_pool
from data_gen.personas.paper import read_pool
from data_gen.personas.pool_report import REPORT, PoolReport, manifest_counts, pool_part
from data_gen.personas.settings import PersonaSettings
from data_gen.personas.split import personas, split
from data_gen.players.assemble import assemble, check_own, own_inputs, role_clients, template_hash
from data_gen.players.player import sampling_of
from data_gen.players.table import GAME, RolesSettings
from data_gen.run_files import HELD_OUT, PERSONAS
from data_gen.seeds import stable_seed
from data_gen.world.personas import Size, scripted_personas

AUTHOR = "author"  # the role that proposes entries
_FACTORS: Mapping[Kind, Factor] = {"profile": "profiles", "personality": "personalities"}


class Made(NamedTuple):
    """Training personas, held-out personas, and counts for the manifest."""

    train: list[Persona]
    held_out: list[Persona]
    counts: Values


def check_personas(run: Run) -> None:
    """InputError for settings that cannot work together."""
    settings = run.section("personas", PersonaSettings)
    if settings.source == "files":
        for name, path in _pool_files(settings).items():
            if not path:
                raise InputError(f"config.personas.{name} is empty; name a pool file, or take another source")
            files.existing(path, f"config.personas.{name}: file")
    if settings.source == "scripted":
        return  # the world itself says what it has
    if settings.source == "generated":
        check_own(run, [AUTHOR])
    if settings.pairings > settings.personalities:
        raise InputError(
            f"config.personas.pairings: {settings.pairings} are more than the {settings.personalities} "
            "personalities; lower it, or raise config.personas.personalities"
        )


def _pool_files(settings: PersonaSettings) -> dict[str, str]:
    return {"profile_pool": settings.profile_pool, "personality_pool": settings.personality_pool}


def _inputs(run: Run) -> dict[str, str]:
    """Hashes of what personas are made from besides the config."""
    settings = run.section("personas", PersonaSettings)
    if settings.source == "files":
        return {name: files.hash_file(path) for name, path in _pool_files(settings).items()}
    if settings.source == "generated":
        return {"author_template": template_hash(run, AUTHOR)} | own_inputs(run, [AUTHOR])
    return {}


def _work(run: Run) -> Values:
    """Write the personas of both sides; returns the counts for the manifest."""
    directory = run.directory("personas")
    made = make_personas(run)
    write_records(directory / HELD_OUT, made.held_out)
    return {"train": write_records(directory / PERSONAS, made.train), "benchmark": len(made.held_out), **made.counts}


def make_personas(run: Run) -> Made:
    """The personas that `config.personas` describes."""
    settings = run.section("personas", PersonaSettings)
    if settings.source == "scripted":
        return Made(*_scripted(settings, run.seed), {})
    if settings.source == "generated":
        with Store(Path(run.directory("personas"))) as store, role_clients(run, [AUTHOR]) as clients:
            pools = asyncio.run(_generated(run, clients, store))
    else:
        pools = _from_files(settings)
    return _paired(run, pools)


def _scripted(settings: PersonaSettings, seed: int) -> tuple[list[Persona], list[Persona]]:
    """Training and held-out personas of the scripted world."""
    facts = (settings.min_facts, settings.max_facts)
    size = Size(
        facts, (settings.min_traits, settings.max_traits), settings.surprises, settings.renamed, settings.restraint
    )
    train = scripted_personas("train", settings.profiles, settings.personalities, seed, settings.pairings, size)
    traits = (settings.benchmark_min_traits, settings.benchmark_max_traits)
    size = Size(facts, traits, settings.benchmark_surprises, restraint=settings.benchmark_restraint)
    held_out = (settings.benchmark_profiles, settings.benchmark_personalities)
    return train, scripted_personas("benchmark", *held_out, seed, size=size)


def _wanted(settings: PersonaSettings, kind: Kind) -> tuple[int, int]:
    """The numbers of training and of held-out entries of a pool."""
    if kind == "profile":
        return settings.profiles, settings.benchmark_profiles
    return settings.personalities, settings.benchmark_personalities


async def _generated(run: Run, clients: Mapping[str, ChatClient], store: Store) -> dict[Kind, PoolResult]:
    """Both pools, grown by the model that plays `config.roles.author`."""
    settings, author, encoder = (
        run.section("personas", PersonaSettings),
        run.section("roles", RolesSettings).author,
        MiniLM(),
    )
    found: dict[Kind, PoolResult] = {}
    endings = Endings("rounds of proposals")
    async with assemble(run, clients, store) as cast:
        for warning in cast.warnings:
            run.progress.line(f"personas: {warning}")

        async def ask(messages: Sequence[Message], schema: Mapping[str, object], seed: int) -> str:
            """The author's answer; empty where its server fails on this round."""
            try:
                [answer] = await cast.recorded[AUTHOR].chat(
                    messages,
                    seed=seed,
                    schema=schema,
                    token_ids=False,
                    logprobs=False,
                    **sampling_of(author),
                )
            except CallError as error:
                endings.add(error)
                if (problem := endings.stop) is not None:
                    raise problem from None
                run.progress.line(f"personas: a round of proposals was given up: {error}")
                return ""
            endings.add(None)
            return answer.text

        def record(event: Accepted | Rejected) -> None:
            key = files.sha256(files.canonical(event))
            store.add(REJECTS if event["event"] == "reject" else EVENTS, key, event)

        for kind in _FACTORS:
            target, seed = sum(_wanted(settings, kind)), stable_seed(run.seed, "pool", kind)
            found[kind] = await grow_pool(kind, ask, encoder, settings, target, seed, record, run.progress.update)
        if (stopped := endings.stop_at_end(endings.ended)) is not None:
            raise stopped
    return found


def _from_files(settings: PersonaSettings) -> dict[Kind, PoolResult]:
    """Pools that exist already, with the figures that the report has of grown ones."""
    encoder, paths = MiniLM(), _pool_files(settings)
    found: dict[Kind, PoolResult] = {}
    for kind in _FACTORS:
        entries = tuple(read_pool(paths[f"{kind}_pool"], kind))
        vectors = encoder.encode([entry.text for entry in entries])
        spread = distribution(nearest_neighbours(vectors)) if len(entries) > 1 else {}
        found[kind] = PoolResult(entries, vectors, 1.0, spread, {}, {}, 0, "target")
    return found


class _Encoded:
    """Implements `Encoder` for the texts of pools, which have been encoded already."""

    def __init__(self, pools: Iterable[PoolResult]) -> None:
        self._vectors = {
            entry.text: vector for pool in pools for entry, vector in zip(pool.entries, pool.vectors, strict=True)
        }

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """The vectors of the texts."""
        return np.stack([self._vectors[text] for text in texts])


def _paired(run: Run, pools: Mapping[Kind, PoolResult]) -> Made:
    """Personas of both sides from pools that are cut into training and benchmark; writes the report beside them."""
    settings = run.section("personas", PersonaSettings)
    sides: dict[Kind, tuple[list[Entry], list[Entry]]] = {}
    for kind, name in _FACTORS.items():
        pool, (wanted, held_out) = pools[kind], _wanted(settings, kind)
        minimum = held_out + (settings.pairings if kind == "personality" else 1)
        if len(pool.entries) < minimum:
            raise InputError(
                f"config.personas.{name}: the pool has {len(pool.entries)} {name} (it ended: {pool.stopped}), too few "
                f"for {held_out} held out and {minimum - held_out} to train with; ask for fewer, or raise "
                "config.personas.quantile or rounds"
            )
        train, benchmark = split(pool.entries, pool.vectors, held_out, run.seed)
        sides[kind] = (train[:wanted], benchmark)
    train_personas = personas(sides["profile"][0], sides["personality"][0], settings.pairings, run.seed)
    held_out_personas = personas(sides["profile"][1], sides["personality"][1], None, run.seed)
    report: PoolReport = {
        "profiles": pool_part(pools["profile"]),
        "personalities": pool_part(pools["personality"]),
        "contamination": contamination(train_personas, held_out_personas, _Encoded(pools.values())),
    }
    files.write_json(run.directory("personas") / REPORT, report)
    counts: dict[str, object] = {name: manifest_counts(report[name]) for name in _FACTORS.values()}
    return Made(train_personas, held_out_personas, counts)


PERSONAS_STAGE = Stage(
    "personas",
    (),
    ("personas", "roles", "seed"),
    _work,
    _inputs,
    outputs=(PERSONAS, HELD_OUT),
    check=check_personas,
    unread=frozenset(f"roles.{role}" for role in GAME),
    paid=(f"{CALLS}.jsonl",),
    assist=assist,
    places=lambda run: {name: (path,) for name, path in _pool_files(run.section("personas", PersonaSettings)).items()},
)

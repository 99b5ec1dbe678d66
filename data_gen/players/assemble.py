"""Who plays: the scripted world's roles, or models behind servers, as `config.roles` says for each role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.stage import Run
from aloe_jax.serve.client.client import Client
from aloe_jax.serve.client.probe import missing, probe
from aloe_jax.serve.local import local_client
from aloe_jax.train.stages import chat_format, load_stage_params, model_config, own_mesh
from data_gen.calls.call_cache import CallCache
from data_gen.calls.store import EVENTS, Store
from data_gen.players.inducer import ModelInducer
from data_gen.players.judge import ModelJudge
from data_gen.players.player import GAME, Player, one_family
from data_gen.players.prompts import load_prompt
from data_gen.players.responder import ModelResponder
from data_gen.players.user import ModelUser
from data_gen.roles import Inducer, Judge, Roles, User
from data_gen.seeds import stable_seed
from data_gen.world.inducer import ScriptedInducer
from data_gen.world.judge import ScriptedJudge
from data_gen.world.user import ScriptedUser

PLAYERS = ("model", "scripted")
# What a role asks of its servers.
WANTED = {
    "author": ("schema", "system"),
    "user": ("seed", "system"),
    "inducer": ("schema", "system"),
    "responder": ("logprobs", "n", "seed", "system"),
    "judge": ("choice", "top_logprobs", "system"),
}
Servers = tuple[str, str, str]  # base_url, model, name of the key's variable
OWN: Servers = ("", "", "")


@dataclass
class Cast:
    """The players and what they talk through. `recorded` has the model-backed roles, `models` their models' names."""

    recorded: dict[str, CallCache]
    models: dict[str, str]
    clients: list[Client]
    warnings: list[str] = field(default_factory=list)


def check_roles(run: Run) -> None:
    """InputError for a role that cannot be played."""
    section = run.section("roles")
    for role in GAME:
        if section[role]["player"] not in PLAYERS:
            known = ", ".join(PLAYERS)
            raise InputError(
                f"config.roles.{role}.player: '{section[role]['player']}' is unknown; choose one of {known}"
            )
        if section[role]["max_tokens"] < 1:
            raise InputError(f"config.roles.{role}.max_tokens: {section[role]['max_tokens']} must be at least 1")
        load_prompt(role, section[role]["template"])
    if section["responder"]["player"] != "model":
        raise InputError("config.roles.responder.player: the responder is the model that learns; set it to 'model'")
    generated = run.section("personas")["source"] != "scripted"
    for role in ("user", "inducer", "judge"):
        if generated and section[role]["player"] == "scripted":
            raise InputError(
                f"config.roles.{role}.player: the scripted {role} knows only scripted personas; set it to 'model', or "
                "config.personas.source to 'scripted'"
            )


def servers(run: Run, role: str) -> Servers:
    """Where a role's model is: its own servers, else those of `config.serve`, else our own."""
    section, shared = run.section("roles")[role], run.section("serve")
    address = section["base_url"] or shared["base_url"]
    if not address:
        return OWN
    name = section["model"] or shared["model"]
    if not name:
        raise InputError(f"config.roles.{role}.model: name the model on {address} here or in config.serve.model")
    return address, name, section["api_key_env"]


def model_roles(run: Run) -> list[str]:
    """The roles of the game that models play."""
    return [role for role in GAME if run.section("roles")[role]["player"] == "model"]


def needs_own_server(run: Run, roles: Sequence[str]) -> bool:
    """Whether any of the roles is played by `config.model` on a server of our own."""
    return any(servers(run, role) == OWN for role in roles)


def template_hash(run: Run, role: str) -> str:
    """What identifies the wording of a role's prompts."""
    return load_prompt(role, run.section("roles")[role].get("template", "")).hash


@contextmanager
def role_clients(run: Run, roles: Sequence[str], own: Client | None = None) -> Iterator[dict[str, Client]]:
    """A client for each of the roles; those with equal servers and model share one. `own` is our own server of the base
    model, where there is one already."""
    section = run.section("serve")
    places = {role: servers(run, role) for role in roles}
    found = {
        place: Client(
            *place, concurrency=section["concurrency"], timeout=section["timeout"], patience=section["patience"]
        )
        for place in dict.fromkeys(places.values())
        if place != OWN
    }
    if OWN in places.values() and own is None:
        mesh = own_mesh(run)
        params = load_stage_params(run, "base", mesh)
        with local_client(model_config(run), params, chat_format(run), "base", section, mesh) as started:
            yield {role: found.get(place, started) for role, place in places.items()}
        return
    yield {role: found.get(place) or own for role, place in places.items()}  # type: ignore[misc]


@asynccontextmanager
async def assemble(run: Run, clients: Mapping[str, Client], store: Store | None) -> AsyncIterator[Cast]:
    """Open the clients, find out what their servers can do, and tell what they cannot. There may be no `store` where
    there is no client: nobody asks anything then."""
    distinct = list({id(client): client for client in clients.values()}.values())
    async with AsyncExitStack() as stack:
        for client in distinct:
            await stack.enter_async_context(client)
        models, recorded = {}, {}
        for role, client in clients.items():
            own = servers(run, role) == OWN
            models[role] = run.section("model")["source"] if own else client.model
            assert store is not None
            recorded[role] = CallCache(client, store, role, template_hash(run, role))
        cast = Cast(recorded, models, distinct)
        for client in distinct:
            played = [role for role, each in clients.items() if each is client]
            if servers(run, played[0]) != OWN and store is not None:  # what our own server can do is known
                cast.warnings += await _probed(client, played, store)
        if (warning := one_family(models)) is not None:
            cast.warnings.append(warning)
        yield cast


async def _probed(client: Client, played: Sequence[str], store: Store) -> list[str]:
    """What the servers of a client lack of what its roles ask for; what they can do goes to the events."""
    wanted = tuple(dict.fromkeys(name for role in played for name in WANTED[role]))
    lacking = []
    for address, abilities in (await probe(client, wanted)).items():
        found: dict[str, Any] = {"event": "probe", "address": address, "model": client.model}
        found |= {"abilities": abilities.model_dump(mode="json")}
        store.add(EVENTS, f"probe {files.sha256(files.canonical(found))}", found)
        lacking += [f"{address}: {sentence}" for sentence in missing(abilities)]
    return lacking


def user_of(run: Run, cast: Cast, purpose: str) -> User:
    """The player of the user; a scripted one draws for `purpose` (training or benchmark)."""
    if "user" in cast.recorded:
        return _model(run, cast, "user", ModelUser)
    return ScriptedUser(stable_seed(run.config["seed"], purpose))


def judge_of(run: Run, cast: Cast) -> Judge:
    """The player of the judge."""
    if "judge" in cast.recorded:
        prompt = load_prompt("judge", run.section("roles")["judge"]["template"])
        return ModelJudge(cast.recorded["judge"], prompt, run.section("roles")["judge"], cast.models["judge"])
    return ScriptedJudge()


def game_roles(run: Run, cast: Cast) -> Roles:
    """The four players of the conversation game."""
    inducer: Inducer = ScriptedInducer()
    if "inducer" in cast.recorded:
        inducer = _model(run, cast, "inducer", ModelInducer)
    responder = _model(run, cast, "responder", ModelResponder)
    return Roles(user_of(run, cast, "user"), inducer, responder, judge_of(run, cast))


def _model(run: Run, cast: Cast, role: str, kind: type[Player]) -> Any:
    section = run.section("roles")[role]
    return kind(cast.recorded[role], load_prompt(role, section["template"]), section)

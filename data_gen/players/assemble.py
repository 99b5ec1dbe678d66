"""Who plays: the scripted world's roles, or models behind servers, as `config.roles` says for each role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import fields
from typing import Any

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.model import call_identity, check_source, model_inputs
from aloe_jax.run.settings import ModelSettings as StartModelSettings
from aloe_jax.run.stage import Run
from aloe_jax.serve.client.client import Client
from aloe_jax.serve.client.interface import ChatClient
from aloe_jax.serve.client.probe import missing, probe, spent_on_thoughts
from aloe_jax.serve.local import stage_client
from aloe_jax.serve.settings import ServeSettings
from aloe_jax.train.names import BASE
from aloe_jax.train.sources import find_model
from data_gen.calls.call_cache import CallCache
from data_gen.calls.connections import Cast
from data_gen.calls.store import EVENTS, Store
from data_gen.players.judge_presets import PRESETS
from data_gen.players.panel import Panel
from data_gen.players.player import alike_panel, one_family, role_of, thinking_of
from data_gen.players.settings import RESPONDER, ROBUST, JudgeSettings, ModelSettings, TeacherSettings
from data_gen.players.table import GAME, ROLES, RolesSettings, load_prompt, prompt_of
from data_gen.players.teacher import ModelTeacher
from data_gen.roles import Judge, Roles
from data_gen.seeds import stable_seed

Servers = tuple[str, str, str]  # base_url, model, name of the key's variable; our own engine has no base_url


def check_roles(run: Run, scripted_personas: bool) -> None:
    """InputError for a role that cannot be played. Scripted players know `scripted_personas` only."""
    settings = run.section("roles", RolesSettings)
    _check_teacher(settings.teacher)
    if settings.judge.panel and servers(run, "judge")[1] in (model for _, model in settings.judge.members):
        raise InputError(
            f"config.roles.judge.panel: '{servers(run, 'judge')[1]}' is the judge itself; name models beside it"
        )
    for role in GAME:
        prompt_of(role, settings.of_game(role))
    for role in ROLES:
        model = settings.of(role)
        if (model.chat_template_kwargs or model.reasoning_effort) and is_own(servers(run, role)):
            name = "chat_template_kwargs" if model.chat_template_kwargs else "reasoning_effort"
            raise InputError(
                f"config.roles.{role}.{name}: our own engine takes none; leave it empty, or name servers in "
                f"config.roles.{role}.base_url"
            )
    scripted = [role for role in GAME if settings.of_game(role).player == "scripted"]
    for role in scripted:
        if ROLES[role].scripted is None:
            why = f"the {role} is the model that learns" if ROLES[role].learns else f"no scripted player is a {role}"
            raise InputError(f"config.roles.{role}.player: {why}; set it to 'model'")
    if scripted and not scripted_personas:
        raise InputError(
            f"config.roles.{scripted[0]}.player: the scripted {scripted[0]} knows only scripted personas; set it to "
            "'model', or config.personas.source to 'scripted'"
        )
    check_own(run, model_roles(run))


def check_own(run: Run, roles: Iterable[str]) -> None:
    """InputError for more than one model of `roles` on our own engine, or one that is not there. The responder may be
    any model, as `find_model` takes it."""
    own = _on_own(run, roles)
    if own:
        check_source(run)
    for role, name in own.items():
        if name and role != "responder":
            raise InputError(
                f"config.roles.{role}.model: '{name}' is on no server; name its servers in config.roles.{role}.base_url"
            )
    if (name := own.get("responder", "")) == "":
        return
    if beside := next((role for role in own if role != "responder"), None):
        raise InputError(
            f"config.roles.responder.model: our engine holds one model, but the {beside} is played by config.model on "
            f"it; give the {beside} servers or a scripted player, or leave out '{name}'"
        )
    _ = find_model(run, name).identity  # raises


def is_own(place: Servers) -> bool:
    """Whether a model is on our own engine."""
    return not place[0]


def _on_own(run: Run, roles: Iterable[str]) -> dict[str, str]:
    """The model of each of the roles that are on our own engine; an empty name is config.model."""
    return {role: place[1] for role in roles if is_own(place := servers(run, role))}


def own_inputs(run: Run, roles: Iterable[str]) -> dict[str, str]:
    """The hashes of the models that play any of the roles on our own engine: of config.model, and of another one."""
    own = _on_own(run, roles)
    found = model_inputs(run) if own else {}
    return found | {f"{role}_model": find_model(run, name).identity for role, name in own.items() if name}


def _check_teacher(settings: TeacherSettings) -> None:
    """InputError for a changed setting of the teacher that has no effect as another model answers, or none has a
    skill. As for every role, a scripted player ignores the sampling."""
    usual = RolesSettings().teacher
    changed = [each.name for each in fields(settings) if getattr(settings, each.name) != getattr(usual, each.name)]
    for name in changed:
        player = "scripted" if name == "skill" else "model"
        if name == "player" or settings.player in ("scripted", player):
            continue
        raise InputError(
            f"config.roles.teacher.{name}: a teacher whose player is '{settings.player}' does not read it; set "
            f"config.roles.teacher.player to '{player}', or leave it out"
        )


def seats(run: Run, roles: Iterable[str]) -> list[str]:
    """The roles, and after the judge its panel, a model each: `judge:MODEL`."""
    members = run.section("roles", RolesSettings).judge.members
    panel = [f"judge:{model}" for _, model in members]
    return [seat for role in roles for seat in ([role, *panel] if role == "judge" else [role])]


def panel_inputs(run: Run, roles: Collection[str]) -> dict[str, str]:
    """The models of the panel as an input of a stage whose models play `roles`; their addresses may change."""
    members = run.section("roles", RolesSettings).judge.members if "judge" in roles else ()
    return {"panel": ", ".join(sorted(model for _, model in members))} if members else {}


def servers(run: Run, seat: str) -> Servers:
    """Where a role's model is: its own servers, else those of `config.serve`, else our own engine, on which no name is
    config.model. A seat of a panel names its own."""
    role, _, member = seat.partition(":")
    settings, shared = run.section("roles", RolesSettings).of(role), run.section("serve", ServeSettings)
    if member:
        assert isinstance(settings, JudgeSettings)
        return next((url, model, settings.api_key_env) for url, model in settings.members if model == member)
    address = settings.base_url or shared.base_url
    if not address:
        return "", settings.model, ""
    name = settings.model or shared.model
    if not name:
        raise InputError(f"config.roles.{role}.model: name the model on {address} here or in config.serve.model")
    return address, name, settings.api_key_env


def model_roles(run: Run, called: Collection[str] = GAME) -> list[str]:
    """The roles of the game that models play, of those `called`. A responder that is the teacher counts as called
    where the teacher is."""
    settings = run.section("roles", RolesSettings)
    if "teacher" in called and settings.teacher.player == RESPONDER:
        called = {*called, "responder"}
    return [role for role in GAME if role in called and settings.of_game(role).player == "model"]


def template_hash(run: Run, seat: str) -> str:
    """The hash of the wording of a role's prompts."""
    role = role_of(seat)
    return prompt_of(role, run.section("roles", RolesSettings).of(role)).hash


@contextmanager
def role_clients(run: Run, roles: Sequence[str], own: ChatClient | None = None) -> Iterator[dict[str, ChatClient]]:
    """A client for each of the roles, and for each seat of the judge's panel; those with equal servers and model share
    one. `own` is the client of our engine with the base model, where there is one already."""
    settings = run.section("serve", ServeSettings)
    places = {seat: servers(run, seat) for seat in seats(run, roles)}
    found: dict[Servers, ChatClient] = {
        place: Client(*place, concurrency=settings.concurrency, timeout=settings.timeout, patience=settings.patience)
        for place in dict.fromkeys(places.values())
        if not is_own(place)
    }
    named = next((place[1] for place in places.values() if is_own(place)), None)
    if named is not None and own is None:
        identity = call_identity(run, find_model(run, named).identity if named else "")
        with stage_client(run, named or BASE, identity) as started:
            yield {role: found.get(place, started) for role, place in places.items()}
        return
    yield {role: found.get(place) or own for role, place in places.items()}  # type: ignore[misc]


@asynccontextmanager
async def assemble(run: Run, clients: Mapping[str, ChatClient], store: Store | None) -> AsyncIterator[Cast]:
    """Open the clients, find out what their servers can do, and collect warnings about what they cannot. Without
    clients there may be no `store`, as there are no calls."""
    distinct = list({id(client): client for client in clients.values()}.values())
    async with AsyncExitStack() as stack:
        for client in distinct:
            await stack.enter_async_context(client)
        models, recorded = {}, {}
        for role, client in clients.items():
            place = servers(run, role)
            own = place[1] or run.section("model", StartModelSettings).source
            models[role] = own if is_own(place) else client.model
            assert store is not None
            recorded[role] = CallCache(client, store, role, template_hash(run, role))
        cast = Cast(recorded, models, distinct)
        for client in distinct:
            played = [role for role, each in clients.items() if each is client]
            if isinstance(client, Client) and store is not None:  # what our own engine can do is known
                cast.warnings += await _probed(run, client, played, store)
        cast.warnings += filter(None, (one_family(models), alike_panel(models)))
        yield cast


async def _probed(run: Run, client: Client, played: Sequence[str], store: Store) -> list[str]:
    """What the servers of a client lack of what its roles need; what they can do is recorded among the events.
    InputError where a role cannot be played with its settings."""
    roles = dict.fromkeys(map(role_of, played))
    wanted = tuple(dict.fromkeys(name for role in roles for name in ROLES[role].wanted))
    settings = {role: run.section("roles", RolesSettings).of(role) for role in roles}
    lacking: list[str] = []
    client.notice = lacking.append
    # The probe thinks as the roles do where these agree.
    ways = [thinking_of(each) for each in settings.values()]
    found_abilities = await probe(client, wanted, ways[0] if ways.count(ways[0]) == len(ways) else {})
    client.notice = run.progress.line
    for role, each in settings.items():
        await _check_settings(client, role, each)
    for address, abilities in found_abilities.items():
        found: dict[str, object] = {"event": "probe", "address": address, "model": client.model}
        found["abilities"] = abilities.recorded()
        store.add(EVENTS, f"probe {files.sha256(files.canonical(found))}", found)
        lacking += [f"{address}: {sentence}" for sentence in missing(abilities)]
    return lacking


async def _check_settings(client: Client, role: str, settings: ModelSettings) -> None:
    """InputError for a role whose servers refuse its sampling, or think for all of its answers' tokens."""
    for server in client.endpoints:
        for name in ("temperature", "top_p"):
            if name in server.refused and getattr(settings, name) != 1.0:
                raise InputError(
                    f"config.roles.{role}.{name}: {getattr(settings, name):g} is refused by {server.address}; set it "
                    "to 1.0, which is then left out of requests"
                )
    spent = await spent_on_thoughts(client, settings.max_tokens, thinking_of(settings))
    if spent is not None:
        raise InputError(
            f"config.roles.{role}.max_tokens: all of {settings.max_tokens} went into reasoning at {spent.address}, "
            f"which gave no text; raise it, or let the model think less with config.roles.{role}.chat_template_kwargs "
            f"(such as '{{\"enable_thinking\": false}}') or config.roles.{role}.reasoning_effort"
        )


def player_of(run: Run, cast: Cast, role: str, purpose: str) -> Any:
    """Who plays a role of the game, which its interface in `data_gen/roles.py` describes: its model, or the scripted
    player, whose draws depend on `purpose`."""
    entry, settings = ROLES[role], run.section("roles", RolesSettings).of_game(role)
    if settings.player == RESPONDER:
        return _teaching_responder(run, cast)
    if role not in cast.recorded:
        assert entry.scripted is not None, role
        return entry.scripted(stable_seed(run.seed, purpose), settings)
    if isinstance(settings, JudgeSettings):
        return _judge(cast, settings, stable_seed(run.seed, purpose))
    assert entry.model is not None, role
    return entry.model(cast.recorded[role], prompt_of(role, settings), settings, cast.models[role])


def _judge(cast: Cast, settings: JudgeSettings, seed: int) -> Judge:
    """The model judge, or the panel of which it is the first. Rubrics are permuted by `seed`."""
    kind, prompt = PRESETS[settings.preset].judge, prompt_of("judge", settings)
    more = {"seed": seed} if settings.preset == ROBUST else {}
    judges = [
        kind(chat, prompt, settings, cast.models[seat], **more)
        for seat, chat in cast.recorded.items()
        if role_of(seat) == "judge"
    ]
    return judges[0] if len(judges) == 1 else Panel(tuple(judges))


def _teaching_responder(run: Run, cast: Cast) -> ModelTeacher:
    """The responder as the teacher: its calls, sampling and wording of hints."""
    settings = run.section("roles", RolesSettings).responder
    hints = load_prompt("responder", settings.template)
    chat, name = cast.recorded["responder"], cast.models["responder"]
    return ModelTeacher(chat, load_prompt("teacher"), settings, name, hints)


def game_roles(run: Run, cast: Cast, called: Collection[str]) -> Roles:
    """The players that grow a tree, those `called` of them; other roles of the table are played for whoever calls
    `player_of`."""

    def player(role: str) -> Any:
        return player_of(run, cast, role, role) if role in called else None

    return Roles(**{field.name: player(field.name) for field in fields(Roles)})

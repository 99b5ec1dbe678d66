"""The stage `online`."""

from __future__ import annotations

from aloe_jax.errors import InputError
from aloe_jax.parallel import hosts
from aloe_jax.run.changes import Places
from aloe_jax.run.manifest import Values
from aloe_jax.run.model import model_inputs, model_places
from aloe_jax.run.stage import Run, Stage
from aloe_jax.train.names import CHAIN, OWN
from aloe_jax.train.names import ONLINE as NAME
from aloe_jax.train.objectives import objective_of
from aloe_jax.train.stage import check_training
from aloe_jax.train.start import check_start, start_inputs
from data_gen.online.hints import RESPONDER
from data_gen.online.methods import METHODS, check_method
from data_gen.online.needs import check_disk, check_paths
from data_gen.online.players import others
from data_gen.online.round_settings import OnlineSettings
from data_gen.personas.settings import PersonaSettings
from data_gen.players.assemble import check_roles, is_own, model_roles, panel_inputs, servers, template_hash


def _settings(run: Run) -> OnlineSettings:
    return run.section(NAME, OnlineSettings)


def _check(run: Run) -> None:
    settings, personas = _settings(run), run.section("personas", PersonaSettings)
    check_training(run, NAME)
    check_method(settings)
    check_start(run, settings.start, "online.start")
    check_start(run, settings.reference, "online.reference")
    check_roles(run, scripted_personas=personas.source == "scripted")
    for role in model_roles(run, others(settings)):
        if is_own(servers(run, role)):
            raise InputError(
                f"config.roles.{role}.player: our own engine plays the policy in rounds; set it to 'scripted', or name "
                f"servers in config.roles.{role}.base_url"
            )
    if settings.rollout.probes and personas.source != "scripted":
        raise InputError(
            f"config.online.rollout.probes: {settings.rollout.probes}, but only what scripted personas have shown can "
            "be told from what they have not; set it to 0, or config.personas.source to 'scripted'"
        )
    check_paths(run)
    if hosts.is_primary():
        check_disk(run)
    drawn = settings.trees // METHODS[settings.method].trees_per_persona(settings)
    if (available := personas.profiles * personas.pairings) < drawn:
        raise InputError(
            f"config.online.trees: {settings.trees} are of more than the {available} personas; lower it, or raise "
            "config.personas.profiles or config.personas.pairings"
        )


def _work(run: Run) -> Values:
    from data_gen.online.training import train_online  # loads Orbax and Grain

    return train_online(run)


def _needs(run: Run) -> tuple[str, ...]:
    settings = _settings(run)
    return ("personas", *(name for name in CHAIN if name in (settings.start, settings.reference)))


def _inputs(run: Run) -> dict[str, str]:
    settings = _settings(run)
    played = model_roles(run, others(settings))
    found = model_inputs(run) | start_inputs(settings.start) | panel_inputs(run, played)
    found |= {f"reference {name}": value for name, value in start_inputs(settings.reference).items()}
    told = (RESPONDER,) if objective_of(settings).given_hints else ()
    return found | {f"{role}_template": template_hash(run, role) for role in (*played, *told)}


def _places(run: Run) -> Places:
    named = {"start": _settings(run).start, "reference start": _settings(run).reference}
    return {**model_places(run), **{name: [place] if place not in OWN else [] for name, place in named.items()}}


ONLINE = Stage(
    NAME,
    _needs,
    ("model", "template", "compute", "lora", "roles", "dataset", "seed", NAME),
    _work,
    _inputs,
    ("metrics.jsonl",),
    check=_check,
    everywhere=True,
    places=_places,
    unread=frozenset({"roles.author", "roles.teacher", "roles.responder", "dataset.sources"}),
)

"""The stage `benchmark`. A finished one grows: models, controls and cases that are added later are played, the rest
stays. Each result's folder has a manifest of its own, which says what it was measured with."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypedDict

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.parallel import hosts
from aloe_jax.run.manifest import Manifest, Values, find_manifest, versions
from aloe_jax.run.model import model_inputs, model_places
from aloe_jax.run.settings import ModelSettings as StartModelSettings
from aloe_jax.run.stage import Run, Stage
from aloe_jax.serve.client.interface import ChatClient
from aloe_jax.serve.local import assist
from aloe_jax.train.names import BASE, CHAIN, OWN
from aloe_jax.train.sources import find_model
from aloe_jax.tree.schema import Conversation, Persona, read_personas, read_trees
from data_gen.calls.given_up import told
from data_gen.calls.store import Store
from data_gen.personas.settings import PersonaSettings
from data_gen.players.assemble import assemble, check_roles, model_roles, panel_inputs, player_of, role_clients
from data_gen.players.player import self_preference
from data_gen.players.table import RolesSettings
from data_gen.run_files import HELD_OUT
from data_gen.world.simulators import other_simulator
from data_gen.world.user import ScriptedUser
from eval.benchmark.cases import TREES, play_cases, read_given_up
from eval.benchmark.controls import Rescoring, prompt_of, rescorer, tested_under
from eval.benchmark.dialogues import Benchmark
from eval.benchmark.entries import (
    DIALOGUES,
    ORACLE,
    OTHER_SIMULATOR,
    PROMPTED,
    RESCORED,
    SCRIPTED_JUDGE,
    Entry,
    ModelUnderTest,
)
from eval.benchmark.general import GENERAL
from eval.benchmark.hacking_runs import probe_questions, unprobed
from eval.benchmark.opening import model_client, model_identity, recorded
from eval.benchmark.plain_likelihood import measure_general
from eval.benchmark.probing import Prober
from eval.benchmark.results import METRICS, ResultCounts, summarise
from eval.benchmark.settings import REPLAY, BenchmarkSettings
from eval.benchmark.task_runs import check_tasks, do_tasks, undone
from eval.benchmark.truth import outdated, write_corrections

Report = Callable[[int, int], None]


class _Counts(TypedDict):
    """What the manifest of the stage says: the cases of the largest result, and by result what `ResultCounts` says."""

    cases: int
    turns: int
    average: dict[str, float | None]
    unscored: dict[str, dict[str, int]]
    given_up: dict[str, dict[str, int]]


def _settings(run: Run) -> BenchmarkSettings:
    return run.section("benchmark", BenchmarkSettings)


def _check(run: Run) -> None:
    settings = _settings(run)
    scripted = run.section("personas", PersonaSettings).source == "scripted"
    if settings.probes and not scripted:
        raise InputError(
            "config.benchmark.probes: it is known of scripted personas alone what they have shown; leave it off, or "
            "set config.personas.source to 'scripted'"
        )
    check_roles(run, scripted_personas=scripted)
    if not settings.entries:
        raise InputError(f"config.benchmark.models is empty; choose from {', '.join(OWN)}, or name a folder")
    for entry in settings.entries:
        if entry.control == OTHER_SIMULATOR and run.section("roles", RolesSettings).user.player != "scripted":
            raise InputError(
                f"config.benchmark.controls: {OTHER_SIMULATOR} is about scripted users; leave it out, or set "
                "config.roles.user.player to 'scripted'"
            )
        if not scripted and entry.control in (ORACLE, SCRIPTED_JUDGE):
            raise InputError(
                f"config.benchmark.controls: the {entry.control.replace('_', ' ')} knows only scripted personas; leave "
                "it out, or set config.personas.source to 'scripted'"
            )
    for model in _foreign(settings):
        if not model.url:
            find_model(run, model.source)
    if settings.replayed_file:
        files.existing(settings.replayed_file, "config.benchmark.replay: file")
    check_tasks(run)


def _foreign(settings: BenchmarkSettings) -> list[ModelUnderTest]:
    """The models from outside the run."""
    return [each.model for each in settings.entries if each.model and not each.control and each.model.name not in OWN]


def _unmeasured(run: Run) -> dict[epath.Path, str]:
    """The files of models' general ability that are still to be made, each with the model: models behind a server give
    no likelihood of a text, and of several processes the primary one is alone in this stage."""
    settings = _settings(run)
    if not settings.general or hosts.is_multiprocess():
        return {}
    paths = {run.directory("benchmark") / each.name / GENERAL: each.loaded for each in settings.entries if each.loaded}
    return {path: model for path, model in paths.items() if not path.exists()}


def _needed_stages(run: Run) -> tuple[str, ...]:
    """The stages whose results are measured, and that of the personas."""
    measured = {entry.model.name for entry in _settings(run).entries if entry.model}
    return ("personas", *(name for name in CHAIN if name in measured))


def _inputs(run: Run) -> dict[str, str]:
    """The hashes of the start model, of models from outside the run, of controls' prompts and of a replayed file."""
    settings = _settings(run)
    found = model_inputs(run) | {f"model {model.name}": model_identity(run, model) for model in _foreign(settings)}
    found |= panel_inputs(run, model_roles(run))
    found |= {each.control: prompt_of(each.control).hash for each in settings.entries if each.control in PROMPTED}
    return found | ({"replay": files.hash_file(settings.replayed_file)} if settings.replayed_file else {})


def _wanted(entry: Entry, settings: BenchmarkSettings, held_out: int) -> int:
    """The number of cases that a result is to have."""
    cases = min(settings.cases or held_out, held_out)
    return min(settings.control_cases, cases) if entry.control else cases


def _all_wanted(settings: BenchmarkSettings, held_out: int) -> dict[Entry, int]:
    """The number of cases that each result is to have."""
    return {entry: _wanted(entry, settings, held_out) for entry in settings.entries}


def _has(directory: epath.Path) -> int:
    """The number of cases of a finished result; 0 if it has not finished."""
    manifest = find_manifest(directory)
    if manifest is None:  # of a version before results had manifests
        path = directory / METRICS
        return _cases(files.read_object(path)) if path.exists() else 0
    return _cases(manifest.counts) if manifest.finished else 0


def _cases(counts: Values) -> int:
    found = counts.get("cases", 0)
    return found if isinstance(found, int) else 0


def _unfinished(run: Run) -> bool:
    """Whether a result is missing, has fewer cases or measures than this call asks for, or has other labels than it was
    corrected by."""
    settings, folder = _settings(run), run.directory("benchmark")
    held_out = len(_personas(run))
    wanted = _all_wanted(settings, held_out)
    if any(_lacks(folder / entry.name, cases, settings) for entry, cases in wanted.items()):
        return True
    if _unmeasured(run) or undone(run) or unprobed(run, wanted):
        return True
    return any(outdated(folder / entry.name) for entry in settings.entries)


def _lacks(directory: epath.Path, cases: int, settings: BenchmarkSettings) -> bool:
    """Whether a result has fewer than so many cases, or some that were given up and are to be tried again."""
    return _has(directory) < cases or (settings.retry and bool(read_given_up(directory)))


def _personas(run: Run) -> list[Persona]:
    return read_personas(run.directory("personas") / HELD_OUT)


def _work(run: Run) -> Values:
    """Make every result that is missing or has too few cases. Users and judge are those of `config.roles`, whatever
    model is under test."""
    settings, personas = _settings(run), _personas(run)
    counts: _Counts = {"cases": 0, "turns": settings.turns, "average": {}, "unscored": {}, "given_up": {}}
    todo = _all_wanted(settings, len(personas))
    played = 0
    for entry, cases in todo.items():
        directory, total = run.directory("benchmark") / entry.name, sum(todo.values())
        if _lacks(directory, cases, settings):

            def report(done: int, of: int, name: str = entry.name, played: int = played, total: int = total) -> None:
                run.progress.update(played + done, total, f"dialogues, {name}")

            found = _result(run, entry, personas, cases, directory, report)
        else:
            found = summarise(personas[: _has(directory)], settings.turns, settings.resamples, run.seed, directory)[1]
        played += cases
        counts["cases"] = max(counts["cases"], found["cases"])
        counts["average"][entry.name] = found["average"]
        if found["unscored"]:
            counts["unscored"][entry.name] = found["unscored"]
            run.progress.line(
                f"benchmark: {sum(found['unscored'].values())} of {found['cases'] * settings.turns} replies of "
                f"{entry.name} are unscored: {told(found['unscored'])}"
            )
        if found["given_up"]:
            counts["given_up"][entry.name] = found["given_up"]
            run.progress.line(
                f"benchmark: {sum(found['given_up'].values())} of {found['cases']} cases of {entry.name} were given "
                "up; --config.benchmark.retry=True plays them again"
            )
    for path, model in _unmeasured(run).items():
        files.write_json(path, measure_general(run, model).model_dump(mode="json"))
    for entry in unprobed(run, todo):
        with run.progress.doing(f"probing the questions of {entry.name}"):
            probe_questions(run, entry, personas)
    do_tasks(run)
    for entry in todo:  # all have their scores now, the scripted judge's too
        write_corrections(run.directory("benchmark") / entry.name)
    return counts


def _result(
    run: Run, entry: Entry, held_out: Sequence[Persona], cases: int, directory: epath.Path, report: Report
) -> ResultCounts:
    """Play what a result lacks of its `cases`, or of those it had when it finished if they are more, and write its
    scores, metrics and manifest."""
    settings, before = _settings(run), find_manifest(directory)
    used, had = (before.free, _cases(before.counts)) if before else ((), 0)
    personas = held_out[: max(cases, had)]
    now = {"benchmark": {"cases": len(personas)}, "versions": versions()}
    manifest = Manifest(
        stage=f"benchmark/{entry.name}",
        inputs=_inputs_of(run, entry),
        config=BENCHMARK.settings(run)[0],
        free=used if used[-1:] == (now,) else (*used, now),
        versions=versions(),
        seed=run.seed,
        counts=before.counts if before else {},
        seconds=before.seconds if before else 0.0,
    )
    directory.mkdir(parents=True, exist_ok=True)
    manifest.write(directory)
    began = time.monotonic()
    try:
        _play(run, entry, personas, directory, report)
        _, counts = summarise(personas, settings.turns, settings.resamples, run.seed, directory)
        manifest = dataclasses.replace(manifest, counts=dict(counts), status="finished")
    finally:
        seconds = round(manifest.seconds + time.monotonic() - began, 1)
        dataclasses.replace(manifest, seconds=seconds).write(directory)
    return counts


def _inputs_of(run: Run, entry: Entry) -> dict[str, str]:
    """The inputs of the stage that a result depends on."""
    inputs = {name: run.manifest(name).identity for name in _needed_stages(run)} | _inputs(run)
    model = entry.model.name if entry.model else ""
    own = {BASE: "model"} | {name: name for name in CHAIN}
    read = {
        "personas",
        "replay",
        "panel",
        entry.control,
        own.get(model, f"model {model}"),
        "model" if model in CHAIN else "",
    }
    return {name: value for name, value in inputs.items() if name in read}


def _play(run: Run, entry: Entry, personas: Sequence[Persona], directory: epath.Path, report: Report) -> None:
    """Play the dialogues that a result lacks."""
    around = [role for role in ("user", "judge") if role in model_roles(run)]
    with ExitStack() as opened:
        tested = None
        if entry.model and entry.control not in RESCORED:
            tested = opened.enter_context(model_client(run, entry.model))
        # The engine with the base model can play the others as well; no second one is started for them.
        own = tested if entry.model and entry.model.name == BASE else None
        clients = opened.enter_context(role_clients(run, around, own))
        store = opened.enter_context(Store(Path(directory)))
        asyncio.run(_dialogues(run, entry, personas, tested, clients, store, report))


async def _dialogues(
    run: Run,
    entry: Entry,
    personas: Sequence[Persona],
    tested: ChatClient | None,
    clients: Mapping[str, ChatClient],
    store: Store,
    report: Report,
) -> None:
    settings, folder = _settings(run), run.directory("benchmark")
    async with assemble(run, clients, store) as cast:
        for warning in cast.warnings:
            run.progress.line(f"benchmark: {warning}")
        if entry.model and (warned := self_preference(cast.models, _family_name(run, entry.model))) is not None:
            run.progress.line(f"benchmark: {entry.name}: {warned}")
        user, judge = (player_of(run, cast, role, f"benchmark {role}") for role in ("user", "judge"))
        if entry.control == OTHER_SIMULATOR:
            user = ScriptedUser(user.seed, other_simulator(user.simulator))
        own = _trees(folder / entry.model.name / TREES) if entry.model and entry.control in DIALOGUES else {}

        async def play(play_case: Callable) -> None:
            await play_cases(
                play_case,
                personas,
                folder / entry.name,
                turns=settings.turns,
                concurrency=settings.concurrency,
                progress=report,
            )

        if entry.control in RESCORED:
            await play(Rescoring(rescorer(entry.control, judge), own, settings.turns).case)
            return
        stored = _stored(run, entry, personas)
        if tested is None:
            model = tested_under(entry.control, None, settings, personas, own)
            await play(Benchmark(model, user, judge, settings.turns, run.seed, stored).case)
            return
        async with recorded(run, tested, store, tested in cast.clients) as chat:
            model = tested_under(entry.control, chat, settings, personas, own)
            if settings.probes and not entry.control:
                model = dataclasses.replace(model, prober=Prober(chat))
            await play(Benchmark(model, user, judge, settings.turns, run.seed, stored).case)


def _family_name(run: Run, model: ModelUnderTest) -> str:
    """The name that tells the family of a model under test: those of the run come from the start model."""
    return model.served or model.source or run.section("model", StartModelSettings).source


def _stored(run: Run, entry: Entry, personas: Sequence[Persona]) -> Mapping[str, Conversation] | None:
    """The dialogues that a result replays; None if it is played with the user. InputError for a file without one of the
    cases."""
    settings = _settings(run)
    if settings.mode != REPLAY or entry.name == settings.replay:
        return None
    if not settings.replayed_file:
        return _trees(run.directory("benchmark") / settings.replay / TREES)
    found = _trees(epath.Path(settings.replayed_file))
    for persona in personas:
        tree = found.get(persona.id)
        turns = sum(tree.node(name).role == "user" for name in tree.path) if tree else 0
        if tree is None or turns < settings.turns or tree.persona != persona:
            raise InputError(
                f"config.benchmark.replay: '{settings.replay}' has {turns} turns of the case '{persona.id}', expected "
                f"{settings.turns} with the same persona; name the dialogues of these held-out personas"
            )
    return found


def _trees(path: epath.Path) -> dict[str, Conversation]:
    return {tree.id: tree for tree in read_trees(path)} if path.exists() else {}


def _places(run: Run) -> dict[str, Sequence[str]]:
    settings = _settings(run)
    outside = {f"model {model.name}": [model.url or model.source] for model in _foreign(settings)}
    return {**model_places(run), **outside, "replay": [settings.replayed_file]}


BENCHMARK = Stage(
    "benchmark",
    _needed_stages,
    ("model", "template", "serve", "decode", "roles", "benchmark", "seed"),
    _work,
    _inputs,
    outputs=(f"*/{METRICS}",),
    unfinished=_unfinished,
    check=_check,
    assist=assist,
    places=_places,
    unread=frozenset({"roles.author", "roles.inducer", "roles.teacher", "roles.responder", "roles.judge.trials"}),
)

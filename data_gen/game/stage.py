"""The stage `conversations`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.manifest import Values
from aloe_jax.run.stage import Run, Stage
from aloe_jax.serve.client.interface import ChatClient
from aloe_jax.serve.local import assist
from aloe_jax.tree.schema import read_personas, read_trees, write_records
from data_gen.calls.connections import Cast
from data_gen.calls.given_up import told
from data_gen.calls.status import STATUS, Status, panel
from data_gen.calls.store import CALLS, EVENTS, Store
from data_gen.game.counts import conversation_counts, tree_counts
from data_gen.game.scheduler import Candidates, Scheduler, in_order, put_in_order, too_few
from data_gen.game.settings import CONTINUED, ConversationSettings, TreeSettings, called_roles
from data_gen.game.tree_growth import Shape
from data_gen.personas.settings import PersonaSettings
from data_gen.players.assemble import (
    assemble,
    check_roles,
    game_roles,
    model_roles,
    own_inputs,
    panel_inputs,
    role_clients,
    template_hash,
)
from data_gen.players.player import role_of
from data_gen.players.table import RolesSettings
from data_gen.players.trials import JudgeTrials, fault_trials, trials, try_judge, unreadable
from data_gen.roles import Judge
from data_gen.run_files import JUDGE, PERSONAS, TREES

FAULT_SHARE = 8  # trials of the judge per further one with each fault


def _check(run: Run) -> None:
    settings, tree = run.section("conversations", ConversationSettings), run.section("tree", TreeSettings)
    if settings.source:
        files.existing(settings.source, "config.conversations.source: file")
        return
    personas = run.section("personas", PersonaSettings)
    available = personas.profiles * personas.pairings
    check_roles(run, scripted_personas=personas.source == "scripted")
    if settings.trees > available:
        raise InputError(
            f"config.conversations.trees: {settings.trees} are more than the {available} personas; raise "
            "config.personas.profiles or config.personas.pairings"
        )
    mix = settings.mix
    if mix.total() < 2:
        raise InputError("config.conversations.mix: its counts must add up to at least 2, to have what to compare")
    if not mix.total(*CONTINUED):
        raise InputError(
            "config.conversations.mix: hinted and plain are both 0, but the path goes on from one of them; raise one"
        )
    for kind, part, count in (
        ("other_persona", "personalities", personas.personalities),
        ("off_topic", "profiles", personas.profiles),
    ):
        if mix.total(kind) and count < 2:
            raise InputError(
                f"config.conversations.mix.{kind}: it borrows from another persona, but config.personas.{part} is "
                f"{count}; raise that to at least 2"
            )
    if tree.min_turns > settings.turns:
        raise InputError(
            f"config.tree.min_turns: {tree.min_turns} are more than the {settings.turns} turns of "
            "config.conversations.turns; lower it"
        )


def _work(run: Run) -> Values:
    """Grow conversations until as many as wanted are accepted, or take the trees of `config.conversations.source`.
    Servers' answers and accepted trees are stored at once; a tree that is interrupted is grown again from the stored
    answers. At the end the file is sorted into the order of the candidates."""
    settings, tree = run.section("conversations", ConversationSettings), run.section("tree", TreeSettings)
    directory = Path(run.directory("conversations"))
    path = directory / TREES
    if settings.source:
        write_records(path, read_trees(settings.source))
        return tree_counts(path)
    personas = read_personas(run.directory("personas") / PERSONAS)
    with Store(directory) as store:
        ordered = in_order(personas, run.seed, store.begun())
        candidates = Candidates(ordered, settings.trees, settings.trees * tree.candidates, run.shard)
        shape = Shape(settings, tree, guard_user="user" in model_roles(run))
        scheduler = Scheduler(path, store, shape, run.seed, settings.concurrency)
        if len(scheduler.accepted) < candidates.share or not (directory / JUDGE).exists():
            with role_clients(run, _models(run)) as clients:
                asyncio.run(_grow_all(run, clients, scheduler, candidates))
        accepted = len(scheduler.accepted)
        if (problem := too_few(accepted, candidates.share, store)) is not None:
            raise problem
    if accepted < candidates.share:
        run.progress.line(
            f"conversations: {accepted} of {candidates.share} accepted, all candidates are used up; "
            f"{directory}/rejects.jsonl says what was turned down"
        )
    put_in_order(path)
    counts = conversation_counts(directory, candidates.share)
    if counts["given_up"]:
        run.progress.line(f"conversations: {counts['given_up']} given up: {told(counts['given_up_because'])}")
    if counts["thoughts"]:
        run.progress.line(f"conversations: thoughts were cut out of {counts['thoughts']} messages")
    return counts


def _models(run: Run) -> list[str]:
    """The roles that models play in this stage."""
    return model_roles(run, called_roles(run.section("conversations", ConversationSettings).mix))


class _Events:
    """Implements `Events`: passes what happens while trees grow to the status file and the display."""

    def __init__(self, run: Run, status: Status, cast: Cast, store: Store) -> None:
        self.run, self.status, self.cast, self.store = run, status, cast, store

    def noted(self, ledger: str, record: Mapping[str, object]) -> None:
        self.status.tally.noted(ledger, record)

    def grown(self, name: str, node: str) -> None:
        self.status.turns[name] = int(node.rpartition("u")[2])
        self.show()

    def ended(self, name: str, accepted: bool) -> None:
        self.status.turns.pop(name, None)
        self.status.accepted += accepted
        self.show()
        usages = [each.usage for each in self.cast.recorded.values()]
        calls, tokens = sum(usage.calls for usage in usages), sum(usage.tokens_out for usage in usages)
        rate = f"trees, {calls} calls, {tokens} tokens sampled"
        self.run.progress.update(self.status.accepted, self.status.target, rate)

    def show(self) -> None:
        if (figures := self.status.write(self.cast, self.store)) is not None:
            self.run.progress.show(panel(figures))


async def _grow_all(run: Run, clients: Mapping[str, ChatClient], scheduler: Scheduler, candidates: Candidates) -> None:
    settings, store = run.section("roles", RolesSettings), scheduler.store
    prices = {seat: (settings.of(role_of(seat)).price_in, settings.of(role_of(seat)).price_out) for seat in clients}
    async with assemble(run, clients, store) as cast:
        for warning in cast.warnings:
            run.progress.line(f"conversations: {warning}")
            store.add(EVENTS, f"warning {files.sha256(warning)}", {"event": "warning", "text": warning})
        roles = game_roles(run, cast, called_roles(run.section("conversations", ConversationSettings).mix))
        await _try_judge(run, roles.judge, cast, store.directory / JUDGE)
        status = Status(store.directory / STATUS, candidates.share, len(scheduler.accepted), prices)
        events = _Events(run, status, cast, store)
        if status.accepted or store.calls:
            trees = f"{status.accepted} of {candidates.share} trees"
            run.progress.line(f"conversations: continuing with {trees} and {store.calls} stored answers")
        run.progress.update(status.accepted, candidates.share, "trees")
        try:
            await scheduler.run(candidates, roles, events)
        finally:
            status.write(cast, store, finished=True)


async def _try_judge(run: Run, judge: Judge, cast: Cast, path: Path) -> None:
    """Try the judge and write its figures to `path`, unless they are there; a scripted judge defines the truth."""
    if path.exists():
        return
    count = run.section("roles", RolesSettings).judge.trials
    found: JudgeTrials = {"judge": judge.name, "pairs": 0}
    if "judge" in cast.recorded and count:
        run.progress.line(f"conversations: trying the judge on {count} pairs of the scripted world")
        found = await try_judge(judge, [*trials(count, run.seed), *fault_trials(count // FAULT_SHARE, run.seed)])
        if (problem := unreadable(found, cast.recorded["judge"].usage.said)) is not None:
            raise problem
    files.write_json(path, found)


def _inputs(run: Run) -> dict[str, str]:
    if source := run.section("conversations", ConversationSettings).source:
        return {"source": files.hash_file(source)}
    mix, played = run.section("conversations", ConversationSettings).mix, _models(run)
    # A responder that is the teacher too has the teacher's wording for leaks.
    worded = played if not mix.leak or "teacher" in played else [*played, "teacher"]
    found = {f"{role}_template": template_hash(run, role) for role in worded} | panel_inputs(run, played)
    if run.shard != (0, 1):
        found["shard"] = f"{run.shard[0]}/{run.shard[1]}"
    return found | own_inputs(run, played)


def _needs(run: Run) -> tuple[str, ...]:
    """The stage `personas`, unless the trees are taken from a file."""
    return () if run.section("conversations", ConversationSettings).source else ("personas",)


def _places(run: Run) -> dict[str, tuple[str, ...]]:
    return {"source": (run.section("conversations", ConversationSettings).source,)}


CONVERSATIONS = Stage(
    "conversations",
    _needs,
    ("model", "template", "serve", "decode", "roles", "tree", "conversations", "seed"),
    _work,
    _inputs,
    (TREES,),
    _check,
    unread=frozenset({"roles.author"}),
    paid=(f"{CALLS}.jsonl",),
    assist=assist,
    places=_places,
    dropped=("personas",),
)

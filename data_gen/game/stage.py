"""The stages `personas` and `conversations`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.stage import Run, Stage
from aloe_jax.serve.client.client import Client
from aloe_jax.train.stages import model_inputs
from aloe_jax.tree.schema import Conversation, read_personas, read_trees, write_records
from data_gen.calls.status import STATUS, Status, panel
from data_gen.calls.store import CALLS, EVENTS, Store
from data_gen.calls.tally import Tally
from data_gen.game import guards
from data_gen.game.scheduler import Candidates, Scheduler, put_in_order, too_few
from data_gen.game.tree_growth import TreeConfig
from data_gen.personas.stage import check_personas, make_personas, persona_inputs
from data_gen.players.assemble import (
    Cast,
    assemble,
    check_roles,
    game_roles,
    model_roles,
    needs_own_server,
    role_clients,
    template_hash,
)
from data_gen.players.player import GAME
from data_gen.players.trials import trials, try_judge

PERSONAS, HELD_OUT, TREES, JUDGE = "personas.jsonl", "benchmark.jsonl", "trees.jsonl", "judge.json"
# Where and how fast something is answered does not decide what is answered.
FREE = frozenset(
    ("base_url", "api_key_env", "concurrency", "timeout", "patience", "slots", "price_in", "price_out", "author")
)


def _personas(run: Run) -> dict[str, Any]:
    directory = run.directory("personas")
    train, held_out, counts = make_personas(run)
    write_records(directory / HELD_OUT, held_out)
    return {"train": write_records(directory / PERSONAS, train), "benchmark": len(held_out), **counts}


def _check_conversations(run: Run) -> None:
    section, tree = run.section("conversations"), run.section("tree")
    if source := section["source"]:
        files.existing(source, "config.conversations.source: file")
        return
    personas = run.section("personas")
    available = personas["profiles"] * personas["pairings"]
    run.at_least("conversations", trees=1, turns=1, hinted=0, plain=0, concurrency=1)
    run.at_least("tree", expand=1, depth=1, discount=0, min_turns=1, attempts=1, candidates=1)
    run.at_least("serve", slots=1, context=1, concurrency=1, timeout=0, patience=0)
    run.one_of("tree", "prefer", ("judge", "value"))
    guards.check(tree["guards"], "config.tree.guards")
    check_roles(run)
    if section["trees"] > available:
        raise InputError(
            f"config.conversations.trees: {section['trees']} are more than the {available} personas; raise "
            "config.personas.profiles or config.personas.pairings"
        )
    if section["hinted"] + section["plain"] < 2:
        raise InputError("config.conversations: hinted and plain together must be at least 2, to have what to compare")
    if tree["min_turns"] > section["turns"]:
        raise InputError(
            f"config.tree.min_turns: {tree['min_turns']} are more than the {section['turns']} turns of "
            "config.conversations.turns; lower it"
        )


def _conversations(run: Run) -> dict[str, Any]:
    """Grow conversations until as many as wanted are accepted, or take the trees of `config.conversations.source`. What
    servers say is stored at once, an accepted tree too; what a kill interrupts is grown again from what is stored. At
    the end the file is put into the order of the candidates."""
    section = run.section("conversations")
    directory = Path(run.directory("conversations"))
    path = directory / TREES
    if section["source"]:
        write_records(path, read_trees(section["source"]))
        return _counts(path)
    personas = read_personas(run.directory("personas") / PERSONAS)
    wanted = section["trees"]
    candidates = Candidates(personas, wanted, wanted * run.section("tree")["candidates"], run.shard)
    with Store(directory) as store:
        shape = TreeConfig.from_config(
            section, run.section("tree"), run.section("roles")["user"]["player"] == "scripted"
        )
        growing = Scheduler(path, store, shape, run.config["seed"], section["concurrency"])
        judge = directory / JUDGE
        if len(growing.accepted) < candidates.share or not judge.exists():
            with role_clients(run, model_roles(run)) as clients:
                asyncio.run(_grow_all(run, clients, growing, candidates))
        accepted = len(growing.accepted)
        if (problem := too_few(accepted, candidates.share, store)) is not None:
            raise problem
    if accepted < candidates.share:
        run.progress.line(
            f"conversations: {accepted} of {candidates.share} accepted, all candidates are used up; "
            f"{directory}/rejects.jsonl says what was turned down"
        )
    put_in_order(path)
    return conversation_counts(directory, candidates.share)


class _Events:
    """Hands what happens while trees grow to the status file and the display."""

    def __init__(self, run: Run, status: Status, cast: Cast, store: Store) -> None:
        self.run, self.status, self.cast, self.store = run, status, cast, store

    def noted(self, ledger: str, record: Mapping[str, Any]) -> None:
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


async def _grow_all(run: Run, clients: Mapping[str, Client], growing: Scheduler, candidates: Candidates) -> None:
    section, store = run.section("roles"), growing.store
    prices = {role: (section[role]["price_in"], section[role]["price_out"]) for role in GAME}
    async with assemble(run, clients, store) as cast:
        for warning in cast.warnings:
            run.progress.line(f"conversations: {warning}")
            store.add(EVENTS, f"warning {files.sha256(warning)}", {"event": "warning", "text": warning})
        roles = game_roles(run, cast)
        await _try_judge(run, roles.judge, cast, store.directory / JUDGE)
        status = Status(store.directory / STATUS, candidates.share, len(growing.accepted), prices)
        events = _Events(run, status, cast, store)
        run.progress.update(status.accepted, candidates.share, "trees")
        try:
            await growing.run(candidates, roles, events)
        finally:
            status.write(cast, store, finished=True)


async def _try_judge(run: Run, judge: Any, cast: Cast, path: Path) -> None:
    """What the judge is worth, in a file; a scripted judge is the measure itself."""
    if path.exists():
        return
    count = run.section("roles")["judge"]["trials"]
    if "judge" not in cast.recorded or not count:
        files.write_json(path, {"judge": judge.name, "pairs": 0})
        return
    run.progress.line(f"conversations: trying the judge on {count} pairs of the scripted world")
    found = await try_judge(judge, trials(count, run.config["seed"]))
    files.write_json(path, {"judge": judge.name, **found})


def conversation_counts(directory: Path, wanted: int) -> dict[str, Any]:
    """What the manifest says of grown conversations."""
    return _counts(directory / TREES) | _ledger_counts(directory, wanted)


def _counts(path: Path) -> dict[str, Any]:
    """What the trees hold, one at a time."""
    totals = dict.fromkeys(("trees", "replies", "preferences", "truncated", "empty", "compared"), 0)
    scores: dict[str, tuple[float, int]] = {}
    for tree in read_trees(path):
        _add(tree, totals, scores)
    return {
        **{name: totals[name] for name in ("trees", "replies", "preferences", "truncated")},
        "mean_score": {condition: round(total / count, 3) for condition, (total, count) in sorted(scores.items())},
        "dropped": {"empty": totals["empty"], "never_compared": totals["replies"] - totals["compared"]},
    }


def _add(tree: Conversation, totals: dict[str, int], scores: dict[str, tuple[float, int]]) -> None:
    replies = tree.replies()
    for node in replies:
        if node.condition is not None and node.value is not None:
            total, count = scores.get(node.condition, (0.0, 0))
            scores[node.condition] = (total + node.value, count + 1)
    totals["trees"] += 1
    totals["replies"] += len(replies)
    totals["preferences"] += len(tree.preferences)
    totals["truncated"] += sum("truncated" in node.flags for node in replies)
    totals["empty"] += sum("empty" in node.flags for node in replies)
    totals["compared"] += len({name for pair in tree.preferences for name in (pair.chosen, pair.rejected)})


def _ledger_counts(directory: Path, wanted: int) -> dict[str, Any]:
    """What was turned down, and how the judge did."""
    tally = Tally.of(directory)
    read = tally.compared - tally.unreadable
    return {
        "wanted": wanted,
        "given_up": tally.given_up,
        "rejects": dict(tally.rejects.most_common()),
        "judge": {
            "compared": tally.compared,
            "unreadable": tally.unreadable,
            "flip_rate": round(tally.flipped / read, 3) if read else None,
            "trials": files.read_json(directory / JUDGE),
        },
    }


def _inputs(run: Run) -> dict[str, str]:
    section = run.section("conversations")
    if source := section["source"]:
        return {"source": files.hash_file(source)}
    played = model_roles(run)
    found = {f"{role}_template": template_hash(run, role) for role in played}
    if run.shard != (0, 1):
        found["shard"] = f"{run.shard[0]}/{run.shard[1]}"
    return found | (model_inputs(run) if needs_own_server(run, played) else {})


STAGES = (
    Stage(
        "personas",
        (),
        ("personas", "roles", "seed"),
        _personas,
        persona_inputs,
        outputs=(PERSONAS, HELD_OUT),
        check=check_personas,
        free=(FREE | {*GAME}) - {"concurrency", "author"},  # a pool depends on how many rounds run at once
        paid=(f"{CALLS}.jsonl",),
    ),
    Stage(
        "conversations",
        ("personas",),
        ("model", "template", "serve", "roles", "tree", "conversations", "seed"),
        _conversations,
        _inputs,
        (TREES,),
        _check_conversations,
        free=FREE,
        paid=(f"{CALLS}.jsonl",),
    ),
)

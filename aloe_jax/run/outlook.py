"""What a call of `aloe run` would do with each stage, and why; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aloe_jax.run.manifest import Manifest, find_manifest
from aloe_jax.run.progress import duration
from aloe_jax.run.stage import Run, Stage, check_stages, chosen_stages, finished

RUN, CONTINUE, RESTART, SKIP, REFUSE, LATER = "run", "continue", "start over", "skip", "refuse", "decided then"


@dataclass(frozen=True)
class Outlook:
    """What would happen to a stage: one of the actions above and the reason, what it reads and writes, and the working
    time of earlier calls in words, empty if there was none."""

    stage: str
    action: str
    why: str
    reads: tuple[str, ...]  # earlier stages, and files or models from outside the run
    writes: tuple[str, ...]  # its folder, and the files in it that count later
    time: str


def expected(stages: Sequence[Stage], run: Run, selected: Sequence[str], fresh: bool) -> list[Outlook]:
    """What each selected stage would do, in order. InputError as `run_stages` where it refuses before it begins."""
    check_stages(stages, run, selected, fresh)
    found: list[Outlook] = []
    for stage in chosen_stages(stages, selected):
        changed = {each.stage for each in found if each.action not in (SKIP, REFUSE)}
        action, why, time = _action(stage, run, fresh, changed)
        places = () if stage.skips(run) else (place for paths in stage.places(run).values() for place in paths if place)
        reads = tuple(dict.fromkeys((*stage.reads(run), *places)))
        folder = run.directory(stage.name)
        writes = () if action in (SKIP, REFUSE) else (f"{folder}/", *stage.outputs)
        found.append(Outlook(stage.name, action, why, reads, writes, time))
    return found


def _action(stage: Stage, run: Run, fresh: bool, changed: set[str]) -> tuple[str, str, str]:
    """(action, reason, time) of a stage, if those in `changed` are worked on before it."""
    if why := stage.skips(run):
        return SKIP, why, ""
    before = find_manifest(run.directory(stage.name))
    if before is None:
        return RUN, "not started yet", ""
    spent = duration(before.seconds)
    remade = [name for name in stage.reads(run) if name in changed]
    changes = _changes(stage, run, before, changed)
    if before.status == "discarded":
        return RUN, "starts over after a change of settings", ""
    if changes and not stage.derived and not fresh and stage.holds_work(run.directory(stage.name), before):
        return REFUSE, "; ".join(changes), ""
    if changes:
        return RESTART, "; ".join(changes), f"took {spent} before"
    if remade and before.finished:
        why = f"done before; it starts over if {' or '.join(remade)} comes out different"
        return (RESTART if stage.derived else LATER), why, f"took {spent} before"
    if not before.finished:
        return CONTINUE, "interrupted", f"{spent} so far"
    if stage.unfinished and stage.unfinished(run):
        return CONTINUE, "finished, but these settings ask for more", f"{spent} so far"
    return SKIP, "finished before, unchanged", f"took {spent}"


def _changes(stage: Stage, run: Run, before: Manifest, changed: set[str]) -> list[str]:
    """What differs from the earlier call, in settings and inputs, without inputs that are worked on before it."""
    known = {name: finished(run, name, stage.name) for name in stage.reads(run) if name not in changed}
    inputs = known | stage.inputs(run)
    earlier = {name: value for name, value in before.inputs.items() if name not in changed}
    return stage.changes(run, before) + stage.changed_inputs(run, earlier, inputs)

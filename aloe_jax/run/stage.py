"""Stages in a run directory: finished ones are skipped, interrupted ones continue, changed ones are refused.

Each stage writes DIR/<stage>/ with a `manifest.json` (`manifest.py`): the hashes of its inputs and the settings that
decide its result. A rerun compares these two; later stages also depend on the hashes of its output files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from etils import epath

from aloe_jax import files, memory
from aloe_jax.bucket.mirror import Mirror
from aloe_jax.bucket.places import stored_at
from aloe_jax.errors import InputError, ResumableError, disk_full, failed_write
from aloe_jax.parallel import hosts
from aloe_jax.run.changes import Places, input_changes
from aloe_jax.run.config import differences
from aloe_jax.run.lock import exclusive
from aloe_jax.run.manifest import (
    MANIFEST,
    Manifest,
    Values,
    changed_output,
    check_outputs,
    find_manifest,
    output_hashes,
    read_manifest,
    versions,
)
from aloe_jax.run.progress import Progress
from aloe_jax.settings import decided, missing_key, nearest, plain, split

CONFIG = "config.json"  # the config of the last accepted call
CHECKPOINTS = "checkpoints"  # the folder of a training's, which a run in a bucket has there
SETTING, INPUT = "setting", "input"  # what a stage can have been run with another one of
S = TypeVar("S")


@dataclass(frozen=True)
class Run:
    """A run: its directory, its settings by section, its display. Passed to every stage."""

    workdir: epath.Path
    settings: Mapping[str, object]  # by section: a settings object, or a plain value such as the seed
    progress: Progress
    shard: tuple[int, int] = (0, 1)  # (number, count) of the machines that share the conversations
    # Of a run in a bucket, whose `workdir` is a local copy: what uploads it, on the primary process, and on the others
    # what brings it up to date.
    mirror: Mirror | None = None
    refresh: Callable[[], None] = lambda: None

    def commit(self) -> None:
        """Let no later kill take the run back behind this moment; in a bucket, upload what is new."""
        if self.mirror is not None:
            self.mirror.commit()

    def directory(self, stage: str) -> epath.Path:
        """The folder of a stage."""
        return self.workdir / stage

    def manifest(self, stage: str) -> Manifest:
        """The manifest of a stage that has started; InputError if it has not."""
        return read_manifest(self.directory(stage))

    def section(self, name: str, kind: type[S]) -> S:
        """The settings of a section, an object of class `kind`; InputError if the config file lacks the section."""
        if name not in self.settings:
            raise InputError(missing_key(f"config.{name}"))
        value = self.settings[name]
        assert isinstance(value, kind), f"config.{name} is of {type(value).__name__}, not of {kind.__name__}"
        return value

    @property
    def seed(self) -> int:
        """The seed of everything random."""
        return self.section("seed", int)


@dataclass(frozen=True)
class Stage:
    """A step of the pipeline.

    Attributes:
        name: of the stage and of its folder.
        needs: the stages whose files it reads; a function if the settings decide.
        sections: the sections of the config that it depends on.
        work: runs the stage, continuing an interrupted call, and returns the counts for the manifest.
        inputs: hashes of further inputs, by name.
        places: the files or folders behind those inputs, by the same names, for the sentence about one that changed.
        outputs: files on whose content later stages depend; they are verified before a later stage runs. Patterns
            with `*` match several.
        check: raises InputError for settings that cannot work. All selected stages are checked before the first one
            runs, so that a typo in the last one does not cost the hours of the others.
        everywhere: whether it runs on all processes of the run, not the primary process alone.
        assist: what the other processes do while the primary process alone works on the stage, until it sends
            `hosts.END`; None if nothing.
        unread: dotted names of settings in its sections that it does not read.
        paid: files with paid answers of servers, which are kept when the stage is started over with `fork`.
        unfinished: for a stage that grows: whether a finished one has less than this call asks for, and so goes on. Its
            inputs may grow too: one that is new, or not read any more, is no change.
        derived: whether it is made of other stages' files alone and quickly: it is made anew if they changed.
        skips: why there is nothing to do with these settings; empty if there is.
        dropped: stages that an earlier version read and this one may not: that is no change.
    """

    name: str
    needs: tuple[str, ...] | Callable[[Run], tuple[str, ...]]
    sections: tuple[str, ...]
    work: Callable[[Run], Values]
    inputs: Callable[[Run], dict[str, str]] = field(default=lambda run: {})
    outputs: tuple[str, ...] = ()
    check: Callable[[Run], None] = field(default=lambda run: None)
    everywhere: bool = False
    assist: Callable[[Run], None] | None = None
    unread: frozenset[str] = frozenset()
    paid: tuple[str, ...] = ()
    unfinished: Callable[[Run], bool] | None = None
    derived: bool = False
    places: Callable[[Run], Places] = field(default=lambda run: {})
    skips: Callable[[Run], str] = field(default=lambda run: "")
    dropped: tuple[str, ...] = ()

    @property
    def shared(self) -> bool:
        """Whether other processes take part in it."""
        return self.everywhere or self.assist is not None

    @property
    def resumes(self) -> bool:
        """Whether an interrupted call leaves something that the next one goes on with."""
        return self.everywhere or bool(self.paid) or self.unfinished is not None

    def holds_work(self, directory: epath.Path, before: Manifest) -> bool:
        """Whether starting over would lose work of an earlier call: it finished, or an interrupted one left more than
        its manifest for the next one to go on with."""
        return before.finished or (self.resumes and any(path.name != MANIFEST for path in directory.iterdir()))

    def reads(self, run: Run) -> tuple[str, ...]:
        """The stages whose files it reads in this run."""
        return self.needs(run) if callable(self.needs) else self.needs

    def settings(self, run: Run) -> tuple[Values, Values]:
        """Plain values by section: those that decide the stage's result, and those that do not."""
        decides, rest = {}, {}
        for name in self.sections:
            deciding, free = split(run.section(name, object), self.unread, name)
            if not _is_empty(deciding):
                decides[name] = deciding
            if free:
                rest[name] = free
        return decides, rest

    def changes(self, run: Run, before: Manifest) -> list[str]:
        """The differences to an earlier call in settings that decide the result, one line each."""
        stored = {
            name: decided(run.settings.get(name), value, self.unread, name) for name, value in before.config.items()
        }
        return differences(stored, self.settings(run)[0])

    def changed_inputs(self, run: Run, before: Mapping[str, str], inputs: Mapping[str, str]) -> list[str]:
        """The differences of inputs to those of an earlier call, a clause each."""
        if self.unfinished is not None:
            before, inputs = {**inputs, **before}, {**before, **inputs}
        else:
            inputs = {**{name: before[name] for name in self.dropped if name in before}, **inputs}
        return input_changes(before, inputs, self.reads(run), self.places(run)) if before != inputs else []


def _is_empty(value: object) -> bool:
    """Whether a section, and each section inside it, has nothing."""
    return isinstance(value, Mapping) and all(map(_is_empty, value.values()))


def run_stages(
    stages: Sequence[Stage], run: Run, selected: Sequence[str], fresh: bool = False, fork: bool = False
) -> None:
    """Run the selected stages in order. With `fresh`, stages whose config or inputs changed start over; with `fork`
    too, but they keep the answers that were paid for.

    Raises InputError for an unknown stage, for missing inputs, for a config or inputs that changed since the stage ran
    (unless `fresh` or `fork`), and for a run directory in use by another process. A changed config, and a stage that is
    needed and neither finished nor selected, are refused before anything is written.
    """
    chosen = chosen_stages(stages, selected)
    shared = (plain(run.settings), list(selected), versions())
    hosts.check_same([files.canonical(part) for part in shared], "the config, the stages or the packages")
    if not hosts.is_primary():
        _follow(chosen, run)
        return
    with exclusive(run.workdir) as sign:
        check_stages(stages, run, selected, fresh or fork)
        _check_own(run.workdir / CONFIG)
        sign()
        files.write_json(run.workdir / CONFIG, plain(run.settings))
        _finish(run)
        for stage in chosen:
            _run_stage(stage, run, fresh or fork, stage.paid if fork else ())
        hosts.lead(hosts.SKIP)  # the end of the run


def chosen_stages(stages: Sequence[Stage], selected: Sequence[str]) -> list[Stage]:
    """The stages of the selected names, in the order of `stages`. InputError for an unknown name."""
    known = [stage.name for stage in stages]
    for name in selected:
        if name not in known:
            raise InputError(f"--stages: '{name}' is unknown; the stages are {', '.join(known)}{nearest(name, known)}")
    return [stage for stage in stages if stage.name in selected]


def _follow(stages: Sequence[Stage], run: Run) -> None:
    """Run, on a process other than the primary one, its part of the stages that run everywhere."""
    run.refresh()
    for stage in stages:
        if not stage.skips(run):
            stage.check(run)
    for stage in stages:
        if stage.shared and hosts.follow():
            run.refresh()
            (stage.assist or stage.work)(run)
    hosts.follow()  # the end of the run


def check_stages(stages: Sequence[Stage], run: Run, selected: Sequence[str], fresh: bool) -> None:
    """Raise InputError if a selected stage cannot work, needs another that is neither finished nor selected before it,
    or was run with another config, as one that it reads may have been; nothing is written."""
    read: set[str] = set()  # selected stages and those they need
    for stage in reversed(stages):
        if (stage.name in selected and not stage.skips(run)) or stage.name in read:
            read |= {stage.name, *stage.reads(run)}
    for stage in stages:
        if stage.name in selected and not stage.skips(run):
            stage.check(run)
        before = find_manifest(run.directory(stage.name)) if stage.name in read else None
        if before is None or not stage.holds_work(run.directory(stage.name), before):
            continue
        if changes := stage.changes(run, before):
            _refuse(stage, run, changes, fresh, chosen=stage.name in selected)
    skipped = {stage.name: why for stage in stages if stage.name in read and (why := stage.skips(run))}
    coming: set[str] = set()
    for stage in chosen_stages(stages, selected):
        if stage.skips(run):
            continue
        for name in stage.reads(run):
            if name in skipped:
                raise InputError(f"stage '{stage.name}' needs '{name}', which does not run: {skipped[name]}")
            if name not in coming:
                finished(run, name, stage.name)
        coming.add(stage.name)


def _check_own(path: epath.Path) -> None:
    """Raise InputError if there is a config.json of something else, such as a model, which would be replaced."""
    if path.exists() and run_config(path) is None:
        raise InputError(f"--workdir: '{path}' is no config of a run and would be replaced; choose another folder")


def run_config(path: epath.Path) -> dict[str, object] | None:
    """The content of a config.json; None if it is of something else than a run, such as a model. InputError if it is no
    JSON."""
    found = files.read_json(path)
    return found if isinstance(found, dict) and "seed" in found else None


def _refuse(
    stage: Stage,
    run: Run,
    changes: Sequence[str],
    fresh: bool,
    chosen: bool = True,
    what: str = SETTING,
) -> None:
    """Raise InputError for a changed stage unless it may start over."""
    if fresh and chosen:
        return
    keep = " (--fork keeps the answers that were paid for)" if stage.paid else ""
    remedy = f"--fresh to start this stage over{keep}"
    if not chosen:
        remedy = "name it in --stages and give --fresh to start it over"
    raise InputError(
        f"stage '{stage.name}' in {run.workdir} was run with another {what} ({'; '.join(changes)}); "
        f"{'put that back, ' if what == INPUT else ''}use another --workdir, or {remedy}"
    )


def _run_stage(stage: Stage, run: Run, fresh: bool, paid: Sequence[str] = ()) -> None:
    if why := stage.skips(run):
        if stage.shared:
            hosts.lead(hosts.SKIP)
        run.progress.line(f"{stage.name}: skipped, {why}")
        return
    directory = run.directory(stage.name)
    inputs = {name: finished(run, name, stage.name) for name in stage.reads(run)} | stage.inputs(run)
    before = _earlier(stage, run, inputs, fresh, paid)
    if before is not None and before.finished and not (stage.unfinished and stage.unfinished(run)):
        if stage.shared:
            hosts.lead(hosts.SKIP)
        run.progress.skipped(stage.name)
        _finish(run, stage.name)
        return
    for name in stage.reads(run):
        check_outputs(run.directory(name), run.manifest(name))
    config, free = stage.settings(run)
    used = before.free if before else ()
    manifest = Manifest(
        stage=stage.name,
        inputs={**before.inputs, **inputs} if before else inputs,
        config=config,
        free=used if used[-1:] == (free,) else (*used, free),
        versions=versions(),
        seed=run.seed,
        seconds=before.seconds if before else 0.0,
    )
    manifest.write(directory)
    if run.mirror is not None:
        run.mirror.commit(whole=True)
    began, earlier = time.monotonic(), manifest.seconds
    with run.progress.stage(stage.name):
        if before is not None and not before.finished:
            run.progress.line(f"{stage.name}: was interrupted, {'continuing' if stage.resumes else 'starting over'}")
        try:
            if stage.shared:
                hosts.lead(hosts.WORK)
            counts = stage.work(run)
            if stage.assist:
                hosts.send(hosts.END)
            memory.release()  # for the next stage
            outputs = output_hashes(directory, stage.outputs)
            manifest = dataclasses.replace(manifest, counts=counts, outputs=outputs, status="finished")
        except Exception as error:
            if disk_full(error):  # whatever exception the writing library raised
                raise failed_write(directory, error) from error
            raise
        finally:
            seconds = round(earlier + time.monotonic() - began, 1)
            # If no result is being recorded, an earlier error says more than a disk that has no room for this either.
            failing = contextlib.nullcontext() if manifest.finished else contextlib.suppress(ResumableError)
            if directory.exists():
                with failing:
                    dataclasses.replace(manifest, seconds=seconds).write(directory)
    _finish(run, stage.name)


def _finish(run: Run, stage: str = "") -> None:
    """Upload a finished stage of a run in a bucket, or what is at the top of its directory."""
    if run.mirror is not None:
        run.mirror.finish(stage)


def _earlier(stage: Stage, run: Run, inputs: Mapping[str, str], fresh: bool, paid: Sequence[str]) -> Manifest | None:
    """The manifest of earlier calls, finished or interrupted; None if the stage starts anew. With `fresh` the files of
    a changed setting, or of a stage with a damaged output, are removed; without it a changed setting is an InputError,
    unless there is no work to lose, as after a call that refused its data."""
    before = find_manifest(run.directory(stage.name))
    if before is None:
        return None
    settings, others = stage.changes(run, before), stage.changed_inputs(run, before.inputs, inputs)
    changes = settings + others
    if changes and not stage.derived and stage.holds_work(run.directory(stage.name), before):
        _refuse(stage, run, changes, fresh, what=SETTING if settings else INPUT)
    damaged = fresh and before.finished and changed_output(run.directory(stage.name), before) is not None
    if changes or damaged or before.status == "discarded":
        _discard(run, stage.name, before, paid)
        return None
    return before


def _discard(run: Run, stage: str, manifest: Manifest, paid: Sequence[str]) -> None:
    """Remove the files of a stage, except those in `paid`. The manifest records this first and is kept, so that after a
    kill files of the old setting are never taken for those of the new one."""
    directory = run.directory(stage)
    dataclasses.replace(manifest, status="discarded").write(directory)
    if run.mirror is not None:
        run.mirror.commit(whole=True)
        stored_at(directory / CHECKPOINTS).rmtree(missing_ok=True)
    for path in directory.iterdir():
        if path.name not in (MANIFEST, *paid):
            path.rmtree() if path.is_dir() else path.unlink()


def finished(run: Run, name: str, needed_by: str) -> str:
    """The identity of a finished stage, which the stage `needed_by` reads. InputError if it is not finished."""
    manifest = find_manifest(run.directory(name))
    if manifest is None or not manifest.finished:
        raise InputError(
            f"stage '{needed_by}' needs '{name}', which is not finished in {run.workdir}; run it first, or name it in "
            "--stages too"
        )
    return manifest.identity

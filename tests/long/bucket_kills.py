"""A run in a bucket that is killed in every stage and goes on from the bucket alone. Run by hand:

    JAX_PLATFORMS=cpu PYTHONPATH=tests uv run python tests/long/bucket_kills.py --out=bucket_kills.log

`whole`: nothing happens to it. `SIGKILL`, `SIGTERM`: the same command is started again and again, is killed in the next
stage, and its local copy is deleted each time, as if the machine were gone. `hosts`: two processes with a copy each, of
which the second is killed while they train; both copies are deleted. What a reader downloads from the bucket at the end
must equal a local run that nothing happened to; of two hosts the losses, to 1e-4. `late`: a process is halted until
another one has the run, and goes on: it has to end by itself and must have changed nothing. A line per event says where
the run was, and what the bucket had.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from aloe_jax.bucket.lease import acquire, read_lease
from aloe_jax.bucket.places import local_copy
from aloe_jax.bucket.reading import readable
from aloe_jax.bucket.snapshot import read_snapshot, size_of
from aloe_jax.bucket.store import Store
from aloe_jax.run.manifest import find_manifest
from helpers import aloe_command, tiny
from helpers.aloe_command import STAGES, Aloe, free_port, has_lines, lines, run_arguments, says
from helpers.bucket_servers import BUCKET, storage_emulator, strict_server
from helpers.long_log import saying, went_on
from helpers.run_files import EQUAL, assert_equal_runs, steps
from helpers.same_trees import assert_same_trees
from helpers.waiting import until

LONGEST = 3600  # seconds for a command
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM}
# A file of the stage and the lines in it at which it is killed; a stage without one as soon as it has begun.
POINTS = {
    "conversations": ("conversations/trees.jsonl", 2),
    "sft": ("sft/metrics.jsonl", 5),
    "preference": ("preference/metrics.jsonl", 5),
    "benchmark": ("benchmark/sft/trees.jsonl", 1),
}
# So that the bucket has something of a stage that takes seconds, on a machine that may be busy.
OFTEN = (
    "--config.bucket.upload_seconds=1",
    "--config.bucket.lease_seconds=600",
    "--config.sft.checkpoint_every=2",
    "--config.preference.checkpoint_every=2",
)
LEASE = 30.0  # seconds, of a process that is halted


@dataclass
class Trial:
    """What every part works with: a command and its folder, a model, a local run, and where to say what happened."""

    aloe: Aloe
    model: Path
    local: Path
    say: Callable[[str], None]

    def called(self, arguments: list[str]) -> None:
        """Run the command to its end, and say where it went on."""
        result = self.aloe.call(arguments)
        assert result.returncode == 0, result.stderr
        went_on(self.say, result.stderr)


def point(stage: str, copy: Path) -> Callable[[Path], bool]:
    """Whether the run is in the middle of the stage."""
    if stage not in POINTS:
        return says(f"{stage}: started")
    file, count = POINTS[stage]
    return has_lines(copy / file, count)


def whole(trial: Trial) -> None:
    """A run in a bucket that nothing happens to."""
    url = f"gs://{BUCKET}/whole"
    trial.called(run_arguments(trial.model, url))
    equal(trial, url)


def equal(trial: Trial, url: str) -> None:
    """Hold the run in the bucket to be equal to the local one."""
    assert_equal_runs(Path(readable(url)), trial.local)
    trial.say(f"{url}: all {len(EQUAL)} files and both trainings are those of the local run")


def kills(trial: Trial, name: str) -> None:
    """A run that is killed in every stage."""
    url = f"gs://{BUCKET}/{name.lower()}"
    arguments, copy = run_arguments(trial.model, url, *OFTEN), local_copy(url, "run")
    for stage in STAGES:
        code, errors = trial.aloe.stopped(arguments, point(stage, copy), SIGNALS[name])
        assert code == (-signal.SIGKILL if name == "SIGKILL" else 75), errors
        went_on(trial.say, errors)
        found = find_manifest(copy / stage)
        had = {file: len(lines(copy / file)) for file, _ in POINTS.values() if (copy / file).exists()}
        shutil.rmtree(copy)
        stored = [size_of(parts) for parts in read_snapshot(Store(url))[0].files.values()]
        trial.say(
            f"{name} in {stage} ({found.status if found else 'not begun'}; lines: {had or 'none'}): "
            f"{len(stored)} files of {sum(stored):,} bytes in the bucket"
        )
    trial.called(arguments)
    equal(trial, url)


def late(trial: Trial) -> None:
    """A process that is halted until its lease has expired and another one has it. This server minds generations."""
    with strict_server() as server:
        trial.aloe.environment["STORAGE_EMULATOR_HOST"] = server
        url = f"gs://{BUCKET}/late"
        arguments = run_arguments(
            trial.model, url, "--stages=personas,conversations", f"--config.bucket.lease_seconds={LEASE}", OFTEN[0]
        )
        errors, trees = trial.aloe.folder / "late", local_copy(url, "run") / "conversations/trees.jsonl"
        process = trial.aloe.started(arguments, errors)
        assert until(lambda: has_lines(trees, 2)(errors), LONGEST), errors.read_text()
        process.send_signal(signal.SIGSTOP)
        lease = acquire(Store(url), "the next process", "", LEASE, trial.say, pytest.fail)
        before = read_snapshot(Store(url))
        process.send_signal(signal.SIGCONT)
        assert process.wait(LONGEST) == 75, errors.read_text()
        trial.say(f"  the late process: {errors.read_text().splitlines()[-1]}")
        assert read_lease(Store(url))[0].who == "the next process"
        assert read_snapshot(Store(url)) == before
        lease.release()
        shutil.rmtree(local_copy(url, "run"))
        trial.called(arguments)
        assert_same_trees(Path(readable(url)) / "conversations/trees.jsonl", trial.local / "conversations/trees.jsonl")
        trial.say("late: exit 75, nothing changed, and the trees are those of the local run")


def hosts(trial: Trial) -> None:
    """Two processes, each with a cache of its own as on two machines, that train together."""
    url, caches = f"gs://{BUCKET}/hosts", [trial.aloe.folder / f"host-{number}" for number in range(2)]
    trial.called(run_arguments(trial.model, url, "--stages=personas,conversations,dataset"))

    def both() -> list[tuple[subprocess.Popen[bytes], Path]]:
        port, started, before = free_port(), [], trial.aloe.environment
        for number, cache in enumerate(caches):
            more = ("--stages=sft,preference,export", f"--distributed=localhost:{port},2,{number}", *OFTEN)
            trial.aloe.environment = before | {"ALOE_CACHE": str(cache)}
            errors = trial.aloe.folder / f"stderr-{number}"
            started.append((trial.aloe.started(run_arguments(trial.model, url, *more), errors), errors))
        trial.aloe.environment = before
        return started

    (first, errors), (second, _) = both()
    copy = caches[0] / local_copy(url, "run").relative_to(os.environ["ALOE_CACHE"])
    assert until(lambda: has_lines(copy / "sft/metrics.jsonl", 5)(errors), LONGEST), errors.read_text()
    second.kill()
    assert first.wait(LONGEST) == 75, errors.read_text()
    trial.say(f"SIGKILL to the second of two hosts: {errors.read_text().splitlines()[-1]}")
    for cache in caches:
        shutil.rmtree(cache)
    for process, errors in both():
        assert process.wait(LONGEST) == 0, errors.read_text()
        went_on(trial.say, errors.read_text())
    for stage in ("sft", "preference"):
        found, expected = ([step["loss"] for step in steps(run, stage)] for run in (Path(readable(url)), trial.local))
        assert found == pytest.approx(expected, abs=1e-4)
    trial.say("two hosts: all losses are those of the local run to 1e-4")


def main() -> None:
    parts: dict[str, Callable[[Trial], None]] = {
        "late": late,
        "whole": whole,
        **{name: lambda trial, name=name: kills(trial, name) for name in SIGNALS},  # type: ignore[misc]
        "hosts": hosts,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(parts), help="some of: " + ", ".join(parts))
    parser.add_argument("--local", type=Path, help="a local run of before to compare with (default: made)")
    parser.add_argument("--out", type=Path, help="file for the lines that are printed")
    options = parser.parse_args()
    aloe_command.DEADLINE = LONGEST
    with tempfile.TemporaryDirectory() as made, saying(options.out, made) as say:
        folder = Path(made)
        model = tiny.write_folder(folder / "model")
        trial = Trial(Aloe(folder), model, options.local or folder / "local", say)
        if options.local is None:
            trial.called(run_arguments(model, trial.local))
            say("a local run: done")
        for name in options.parts.split(","):
            with contextlib.nullcontext({}) if name == "late" else storage_emulator() as environment:
                environment = environment | {"ALOE_CACHE": str(folder / "cache")}
                os.environ |= environment
                trial.aloe.environment |= environment
                parts[name](trial)


if __name__ == "__main__":
    main()

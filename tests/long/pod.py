"""The task that `aloe launch` writes, on two hosts of which one is killed in every stage. Run by hand:

    JAX_PLATFORMS=cpu PYTHONPATH=tests uv run python tests/long/pod.py --out=pod.log

The hosts are two processes of this machine, each with a home, a working folder and a cache of its own. They share a
bucket, on a server of this machine, and nothing else. Each gives the `run` section of the task to a shell as it stands,
with the variables of `envs` and those that SkyPilot adds. Different from a slice: JAX computes on CPUs, and finds the
other process by the variables of Slurm, where on Cloud TPU it asks the metadata server.

`whole`: `aloe preflight` on both, then a run that nothing happens to. It must be equal to a run of one process in a
folder: personas and trees, the losses of both trainings to 1e-4, and of the benchmark the scores of the model that is
not trained. The other parts, as `SIGKILL-1`: in every stage that host gets that signal, both end, all that it had on
its disk is deleted, and the same command is started on both. At the end all results must be those of `whole`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from bucket_kills import OFTEN, POINTS, SIGNALS, point

from aloe_jax.bucket.places import local_copy
from aloe_jax.bucket.reading import readable
from aloe_jax.run.manifest import find_manifest
from helpers import aloe_command, tiny
from helpers.aloe_command import ROOT, SMALL, STAGES, Aloe, free_port, lines
from helpers.bucket_servers import BUCKET, storage_emulator
from helpers.long_log import saying, went_on
from helpers.run_files import EQUAL, assert_equal_files, assert_equal_runs, steps
from helpers.waiting import until

HOSTS = 2
TOPOLOGY = "v5p:2x2x2"  # two hosts of four chips
LONGEST = 3600  # seconds for a command
CONFIG = ("--config=configs/demo.py:debug", "--config.model.source=model", *SMALL, *OFTEN)
PARTS = ("whole", *(f"{name}-{host}" for name in SIGNALS for host in range(HOSTS)))


@dataclass(frozen=True)
class Host:
    """A machine: where it has its files, and what runs on it."""

    folder: Path
    number: int

    @property
    def errors(self) -> Path:
        """The stderr of what runs on it."""
        return self.folder / "stderr"

    def copy(self, url: str) -> Path:
        """The local copy of the run directory."""
        kind = "run" if self.number == 0 else f"process-{self.number}"
        return local_copy(url, kind, str(self.folder / "cache/buckets"))

    def start(self, script: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Run a script as SkyPilot does, in the folder that it copied to this host."""
        folder = self.folder / "sky_workdir"
        if not folder.exists():
            shutil.copytree(self.folder.parent / "clone", folder, symlinks=True)
        mine = {
            "HOME": str(self.folder),
            "ALOE_CACHE": str(self.folder / "cache"),
            "SKYPILOT_NODE_RANK": f"{self.number}",
        }
        with open(self.errors, "w") as file:
            return subprocess.Popen(
                ["bash", "-c", script],
                cwd=folder,
                env=environment | mine | {"SLURM_PROCID": str(self.number)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )


@dataclass
class Pod:
    """Two hosts, a command for what is done beside them, a run of one process, and where to say what happened."""

    aloe: Aloe
    hosts: Sequence[Host]
    local: Path
    say: Callable[[str], None]

    def task(self, url: str) -> dict[str, Any]:
        """The task that `aloe launch` writes for a run in `url`."""
        where = (f"--topology={TOPOLOGY}", f"--workdir={url}", "--out=task.yaml", "--overwrite", "--plan=no")
        result = self.aloe.call(["launch", "--on=skypilot", *CONFIG, *where])
        assert result.returncode == 0, result.stderr
        task: dict[str, Any] = yaml.safe_load((self.aloe.folder / "task.yaml").read_text())
        assert task["run"].rstrip().endswith("--distributed")
        return task

    @contextlib.contextmanager
    def running(self, task: dict[str, Any], script: str) -> Iterator[list[subprocess.Popen[bytes]]]:
        """The script on all hosts, in the environment of the task; at the end none runs any more."""
        slurm = {
            "SLURM_JOB_ID": "1",
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_NTASKS": f"{HOSTS}",
            "SLURM_LOCALID": "0",
            "JAX_COORDINATOR_PORT": str(free_port()),
        }
        sky = {"SKYPILOT_NODE_IPS": "\n".join(["127.0.0.1"] * HOSTS), "SKYPILOT_NUM_NODES": f"{HOSTS}"}
        environment = self.aloe.environment | task["envs"] | {"JAX_PLATFORMS": "cpu"} | sky | slurm
        started: list[subprocess.Popen[bytes]] = []
        try:
            for host in self.hosts:
                started.append(host.start(script, environment))
            yield started
        finally:
            for process in started:
                process.kill()
                process.wait()

    def to_the_end(self, task: dict[str, Any], script: str) -> str:
        """Run the script on all hosts, which have to succeed; the output of the first."""
        with self.running(task, script) as processes:
            for process in processes:
                assert process.wait(LONGEST) == 0, self.outputs()
        return self.hosts[0].errors.read_text()

    def outputs(self) -> str:
        """What the hosts printed, for a failure."""
        return "\n".join(f"host {host.number}:\n{host.errors.read_text()}" for host in self.hosts)


def whole(pod: Pod) -> None:
    """The preflight, and a run that nothing happens to."""
    url = f"gs://{BUCKET}/pod/whole"
    task = pod.task(url)
    printed = pod.to_the_end(task, f".venv/bin/aloe preflight --distributed --workdir={shlex.quote(url)}")
    pod.say(f"preflight: {printed.splitlines()[-1].strip()}")
    pod.to_the_end(task, task["run"])
    found = Path(readable(url))
    for part in ("personas", "conversations", "benchmark/base"):
        assert_equal_files(found, pod.local, part)
    for stage in ("sft", "preference"):
        losses, expected = ([step["loss"] for step in steps(run, stage)] for run in (found, pod.local))
        assert losses == pytest.approx(expected, abs=1e-4), stage
    pod.say("whole: personas, trees, losses and scores of the base model are those of one process")


def kills(pod: Pod, part: str) -> None:
    """A run in every stage of which one host gets a signal and loses its disk."""
    name, _, number = part.partition("-")
    url, victim = f"gs://{BUCKET}/pod/{part.lower()}", pod.hosts[int(number)]
    task = pod.task(url)
    for stage in STAGES:
        codes = disturbed(pod, task, url, stage, victim, SIGNALS[name])
        expected = [75] * HOSTS
        if name == "SIGKILL":
            expected[victim.number] = -signal.SIGKILL
        assert codes == expected, pod.outputs()
        copy, other = pod.hosts[0].copy(url), lines(pod.hosts[1 - victim.number].errors)
        found = find_manifest(copy / stage)
        had = {file: len(lines(copy / file)) for file, _ in POINTS.values() if (copy / file).exists()}
        pod.say(
            f"{name} to host {number} in {stage} ({found.status if found else 'not begun'}; lines: {had or 'none'}), "
            f"exit codes {codes}: {other[-1].strip() if other else 'no word'}"
        )
        shutil.rmtree(victim.folder)
        victim.folder.mkdir()
    went_on(pod.say, pod.to_the_end(task, task["run"]))
    assert_equal_runs(Path(readable(url)), Path(readable(f"gs://{BUCKET}/pod/whole")))
    pod.say(f"{part}: killed in {len(STAGES)} stages; all {len(EQUAL)} files and both trainings are those of 'whole'")


def disturbed(pod: Pod, task: dict[str, Any], url: str, stage: str, victim: Host, number: int) -> list[int]:
    """Start the task and send a signal to a host in the middle of a stage; the exit codes of all."""
    reached, first = point(stage, pod.hosts[0].copy(url)), pod.hosts[0].errors
    with pod.running(task, task["run"]) as processes:

        def ended() -> bool:
            return any(process.poll() is not None for process in processes)

        assert until(lambda: ended() or reached(first), LONGEST, aloe_command.LOOK_EVERY), pod.outputs()
        assert not ended(), pod.outputs()
        processes[victim.number].send_signal(number)
        codes = [process.wait(LONGEST) for process in processes]
    went_on(pod.say, first.read_text())
    return codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parts", default=",".join(PARTS), help="some of: " + ", ".join(PARTS) + "; whole is the first"
    )
    parser.add_argument("--out", type=Path, help="file for the lines that are printed")
    options = parser.parse_args()
    aloe_command.DEADLINE = LONGEST
    with tempfile.TemporaryDirectory() as made, saying(options.out, made) as say, contextlib.ExitStack() as opened:
        folder = Path(made)
        clone = folder / "clone"  # what SkyPilot copies to every host, set up
        clone.mkdir()
        for name in (".venv", "configs"):
            (clone / name).symlink_to(ROOT / name)
        (clone / "model").symlink_to(tiny.write_folder(folder / "model"))
        os.environ |= opened.enter_context(storage_emulator()) | {"ALOE_CACHE": str(folder / "reader")}
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # all programs are small
        hosts = [Host(folder / f"host-{number}", number) for number in range(HOSTS)]
        for host in hosts:
            host.folder.mkdir()
        pod = Pod(Aloe(clone), hosts, folder / "local", say)
        result = pod.aloe.call(["run", *CONFIG, f"--workdir={pod.local}"])
        assert result.returncode == 0, result.stderr
        say("a run of one process: done")
        for part in options.parts.split(","):
            if part == "whole":
                whole(pod)
            else:
                kills(pod, part)


if __name__ == "__main__":
    main()

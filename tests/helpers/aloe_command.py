"""The `aloe` command as a process of its own, on a tiny model, and ways to stop it at a chosen point."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.xla_flags import QUICK

ROOT = Path(__file__).parents[2]
HELPERS = Path(__file__).parent  # contains the programs that tests start
DEADLINE = 300  # seconds after which a command that hangs fails its test
LOOK_EVERY = 0.002  # seconds between two looks at the files of a running command
ALOE = "from aloe_jax.cli.main import entry; entry()"  # as the console script does
LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes}, {bytes})); "

# `configs/demo.py:debug` for the tiny model: shorter, with several steps per training, and one tree or dialogue at a
# time, so that a stage can be stopped between two of them.
SMALL = (
    "--config.seed=2",  # with it most of the six trees have pairs: an untrained model's replies are often equally bad
    "--config.serve.slots=6",
    "--config.serve.context=1024",
    "--config.personas.profiles=6",
    "--config.personas.personalities=8",
    "--config.personas.benchmark_profiles=3",
    "--config.personas.benchmark_personalities=2",
    "--config.conversations.trees=6",
    "--config.conversations.turns=2",
    "--config.roles.responder.temperature=0.7",
    "--config.roles.responder.top_p=0.9",
    "--config.roles.responder.max_tokens=8",
    "--config.conversations.concurrency=1",
    "--config.conversations.mix.hinted=2",  # by the model, so that there are calls
    "--config.conversations.mix.plain=1",
    "--config.conversations.mix.other_persona=0",
    "--config.roles.teacher.player=responder",
    "--config.dataset.max_path=1024",
    "--config.dataset.row.tokens=1024",
    "--config.dataset.row.targets=256",
    "--config.sft.batch=1",
    "--config.sft.epochs=2",
    "--config.sft.async_checkpoint=True",
    "--config.preference.async_checkpoint=True",
    "--config.preference.batch=1",
    "--config.preference.epochs=2",
    "--config.preference.held_out=0.2",  # one of the six trees
    "--config.benchmark.turns=2",
    "--config.benchmark.max_tokens=8",
    "--config.benchmark.concurrency=1",
    "--config.benchmark.resamples=50",
)
TURNS, CALLS_A_TURN = 2, 2  # one call for the hinted candidates and one for the plain ones
STAGES = ("personas", "conversations", "dataset", "sft", "preference", "benchmark", "export", "report")


def run_arguments(model: Path, workdir: Path | str, *more: str) -> list[str]:
    """Arguments of a small `aloe run`."""
    config = f"--config={ROOT / 'configs/demo.py'}:debug"
    return ["run", config, f"--workdir={workdir}", f"--config.model.source={model}", *SMALL, *more]


class Aloe:
    """Starts `aloe` outside the repository, with the session's cache of compiled programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "ALOE_API_KEY")}
        self.environment = kept | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK}

    def call(
        self, arguments: Sequence[str], stdin: str = "", largest_file: int | None = None, flags: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """The command to its end. `largest_file` is the size in bytes beyond which the system refuses a write, `flags`
        are XLA's, besides those of all tests."""
        limit = "" if largest_file is None else LIMIT.format(bytes=largest_file)
        return subprocess.run(
            [sys.executable, "-c", limit + ALOE, *arguments],
            cwd=self.folder,
            env=self.environment | {"XLA_FLAGS": f"{QUICK} {flags}"},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )

    def started(self, arguments: Sequence[str], errors: Path, flags: str = "") -> subprocess.Popen[bytes]:
        """Start the command as a process, with its stderr in the file `errors`. `flags` are as in `call`."""
        with open(errors, "w") as file:
            return subprocess.Popen(
                [sys.executable, "-c", ALOE, *arguments],
                cwd=self.folder,
                env=self.environment | {"XLA_FLAGS": f"{QUICK} {flags}"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
            )

    def stopped(
        self, arguments: Sequence[str], reached: Callable[[Path], bool], number: int = signal.SIGKILL
    ) -> tuple[int, str]:
        """Start the command and send it a signal as soon as `reached(its stderr file)`; returns its exit code and
        stderr. AssertionError if it ends before."""
        errors = self.folder / "stderr"
        process = self.started(arguments, errors)
        try:
            deadline = time.monotonic() + DEADLINE
            while not reached(errors):
                assert process.poll() is None, f"ended before the point to stop it:\n{errors.read_text()}"
                assert time.monotonic() < deadline, f"did not get to the point to stop it:\n{errors.read_text()}"
                time.sleep(LOOK_EVERY)
            process.send_signal(number)
            return process.wait(DEADLINE), errors.read_text()
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def lines(path: Path) -> list[str]:
    """The complete lines of a file that may be being written; none if it does not exist yet."""
    return path.read_text().splitlines(keepends=True)[: path.read_text().count("\n")] if path.exists() else []


def says(text: str) -> Callable[[Path], bool]:
    """Whether the command has written `text` to stderr."""
    return lambda errors: text in errors.read_text()


def has_lines(path: Path, count: int) -> Callable[[Path], bool]:
    """Whether `path` has that many lines."""
    return lambda errors: len(lines(path)) >= count


def copy_stages(source: Path, target: Path, *stages: str) -> Path:
    """A run directory with some finished stages of another one."""
    for stage in stages:
        shutil.copytree(source / stage, target / stage)
    return target


def sampled(stderr: str) -> int:
    """The number of calls that the stage `conversations` displayed."""
    return int(re.findall(r"conversations: .* (\d+) calls", stderr)[-1])

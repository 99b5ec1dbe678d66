"""Runs of two processes each, with one shared stage in which one of the two fails; test_exit_codes.py starts them all.

Arguments: FOLDER, then HOW:NUMBER:PORT for every run. The process of that number fails after some work together, in
the way HOW. Each of the two is `aloe run`, forked after the imports, which take most of the time. Its stderr is
FOLDER/HOW-NUMBER/stderr-0 or -1; FOLDER/HOW-NUMBER/ends.json has the pairs of exit code and seconds after the failure.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import data_gen.game.scheduler  # noqa: F401  # before the forks
from aloe_jax.cli import experiment, running  # noqa: F401
from aloe_jax.cli.main import entry
from aloe_jax.errors import InputError
from aloe_jax.parallel import hosts
from aloe_jax.run.stage import Run, Stage
from aloe_jax.train.stop import stopped

CLOSING_SECONDS = hosts.END_SECONDS + 2  # of the other one, after both have agreed to stop


def stage(how: str, failing: int, stamp: Path) -> Stage:
    def work(run: Run) -> dict[str, object]:
        mine = hosts.process_index()
        for step in range(3):
            assert hosts.largest(mine + step) == 1 + step
        if mine == failing:
            stamp.write_text(str(time.time()))
            if how == "input":
                raise InputError("config.seed: -1 must be at least 0")
            if how == "exception":
                raise ZeroDivisionError("division by zero")
            if how == "together":
                raise stopped("after step 3")
            os.kill(os.getpid(), signal.Signals[how])
        if how == "together":
            error = stopped("after step 3")
            time.sleep(CLOSING_SECONDS)
            raise error
        if how == "input":
            threading.Event().wait()  # as in a computation on devices that never ends
        while True:
            hosts.largest(0)

    return Stage("sft", (), (), work, everywhere=True)


def start(folder: Path, how: str, failing: int, port: str, number: int) -> int:
    """The process id of one of two processes."""
    if child := os.fork():
        return child
    os.dup2(os.open(folder / f"stderr-{number}", os.O_CREAT | os.O_WRONLY), 2)
    running.pipeline = lambda: [stage(how, failing, folder / "stamp")]
    where = f"--distributed=localhost:{port},2,{number}"
    if how == "SIGTERM":  # found by JAX, with our port
        names = {"JOB_ID": 1, "STEP_NODELIST": "localhost", "NTASKS": 2, "PROCID": number, "LOCALID": number}
        os.environ |= {f"SLURM_{name}": str(value) for name, value in names.items()}
        where = "--distributed"
    ports = (f"--config.hosts.port={port}", "--config.hosts.control_port=0")
    sys.argv[1:] = ["run", "--config=demo:debug", f"--workdir={folder / 'run'}", "--stages=sft", where, *ports]
    try:
        entry()
    except SystemExit as error:
        os._exit(int(error.code or 0))
    finally:
        os._exit(99)


def main(folder: str, *runs: str) -> None:
    started: dict[int, tuple[Path, int]] = {}
    for run in runs:
        how, failing, port = run.split(":")
        own = Path(folder) / f"{how}-{failing}"
        own.mkdir()
        started |= {start(own, how, int(failing), port, number): (own, number) for number in (0, 1)}
    ends: dict[Path, dict[int, tuple[int, float]]] = {own: {} for own, _ in started.values()}
    for _ in started:
        child, status = os.wait()
        own, number = started[child]
        ends[own][number] = os.waitstatus_to_exitcode(status), time.time() - float((own / "stamp").read_text())
    for own, found in ends.items():
        (own / "ends.json").write_text(json.dumps([found[0], found[1]]))


if __name__ == "__main__":
    main(*sys.argv[1:])

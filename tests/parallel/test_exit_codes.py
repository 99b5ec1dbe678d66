"""Two processes of a run: whichever fails, in whatever way, both end with the same code and say why."""

import contextlib
import os
import subprocess
import sys
import time

import pytest

from helpers import xla_flags
from helpers.aloe_command import HELPERS, ROOT, free_port

pytestmark = pytest.mark.slow
DEADLINE = 200  # seconds to start two processes and to end them
SOON = 20  # seconds from the failure of one to the end of both
CODES = {"exception": 1, "input": 2, "SIGTERM": 75, "SIGKILL": 75}
# What the other one says of it.
SAYS = {
    "exception": "stopped: process {} failed (ZeroDivisionError: division by zero)",
    "input": "stopped: process {} refused its input (config.seed: -1 must be at least 0)",
    "SIGTERM": "stopped: process {} stopped (stopped; the same command continues where it was)",
    "SIGKILL": "went away: process {} closed its connection without a reason",
}


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("how", CODES)
def test_all_end_with_the_code_of_the_first_that_fails(how, place, tmp_path):
    port, stamp = free_port(), tmp_path / "stamp"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": xla_flags.QUICK,
    }
    started = []
    with contextlib.ExitStack() as stack:
        for number in range(2):
            where = f"--distributed=localhost:{port},2,{number}"
            if how == "SIGTERM":  # found by JAX, with our port
                names = {"JOB_ID": 1, "STEP_NODELIST": "localhost", "NTASKS": 2, "PROCID": number, "LOCALID": number}
                environment |= {f"SLURM_{name}": str(value) for name, value in names.items()}
                where = "--distributed"
            command = [sys.executable, HELPERS / "failing_stage.py", str(place), how, stamp, "run"]
            command += ["--config=demo:debug", f"--workdir={tmp_path / 'run'}", "--stages=sft", where]
            command += [f"--config.hosts.port={port}", "--config.hosts.control_port=0"]
            process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            started.append(process)
        for process in started:
            process.wait(DEADLINE)
        took = time.time() - float(stamp.read_text())
        outputs = [process.stderr.read() for process in started]
        codes = [process.returncode for process in started]
    assert codes[1 - place] == CODES[how], outputs[1 - place]
    assert codes[place] == (-9 if how == "SIGKILL" else CODES[how]), outputs[place]
    last = outputs[1 - place].splitlines()[-1]
    assert last.startswith(f"aloe: another process of this run {SAYS[how].format(place)}")
    assert ("Traceback" in outputs[place]) == (how == "exception")
    assert took < SOON

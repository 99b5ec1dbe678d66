"""Two processes of a run: whichever fails, in whatever way, both end with the same code, and the other one says why."""

import json
import os
import signal
import subprocess
import sys

import pytest

from helpers import xla_flags
from helpers.aloe_command import HELPERS, ROOT, free_port

pytestmark = pytest.mark.slow
DEADLINE = 300  # seconds for all runs, which start at the same time
SOON = 20  # seconds from the failure of one to the end of both
CODES = {"exception": 1, "input": 2, "SIGTERM": 75, "SIGKILL": 75}
# What the other one says of it.
SAYS = {
    "exception": "stopped: process {} failed (ZeroDivisionError: division by zero)",
    "input": "stopped: process {} refused its input (config.seed: -1 must be at least 0)",
    "SIGTERM": "stopped: process {} stopped (stopped; the same command continues where it was)",
    "SIGKILL": "went away: process {} closed its connection without a reason",
}
STOPPED = "aloe: stopped after step 3; the same command continues"


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder with what is left of all runs."""
    folder = tmp_path_factory.mktemp("ended")
    runs = [f"{how}:{failing}:{free_port()}" for how in (*CODES, "together") for failing in (0, 1)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": xla_flags.QUICK,
    }
    command = [sys.executable, HELPERS / "failing_stage.py", folder, *runs]
    process = subprocess.Popen(command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        assert process.wait(DEADLINE) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return folder


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("how", CODES)
def test_all_end_with_the_code_of_the_first_that_fails(how, failing, ended):
    """The other one is blocked without end where the input is wrong, in collectives otherwise."""
    left = ended / f"{how}-{failing}"
    outputs = [(left / f"stderr-{number}").read_text() for number in (0, 1)]
    ends = json.loads((left / "ends.json").read_text())
    (code, took), (other_code, other_took) = ends[failing], ends[1 - failing]
    assert code == (-signal.SIGKILL if how == "SIGKILL" else CODES[how]), outputs[failing]
    assert other_code == CODES[how], outputs[1 - failing]
    assert max(took, other_took) < SOON
    last = outputs[1 - failing].splitlines()[-1]
    assert last.startswith(f"aloe: another process of this run {SAYS[how].format(failing)}")
    assert ("Traceback" in outputs[failing]) == (how == "exception")
    assert "Traceback" not in outputs[1 - failing]


@pytest.mark.parametrize("first", [0, 1])
def test_a_stop_that_all_agreed_to_leaves_each_the_time_to_close_its_files(first, ended):
    left = ended / f"together-{first}"
    assert [code for code, _ in json.loads((left / "ends.json").read_text())] == [75, 75]
    for number in (0, 1):
        assert (left / f"stderr-{number}").read_text().splitlines()[-1] == STOPPED

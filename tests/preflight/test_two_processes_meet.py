"""`aloe preflight` and `aloe run` as two processes on loopback, and with one of them missing."""

import os
import subprocess
import sys

import pytest

from helpers.aloe_command import ALOE, DEADLINE, ROOT, free_port
from helpers.xla_flags import QUICK

pytestmark = pytest.mark.slow


@pytest.fixture
def start(tmp_path):
    """Starts `aloe` outside the repository, with one CPU device."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK}
    started = []

    def go(*arguments):
        command = [sys.executable, "-c", ALOE, *arguments]
        started.append(
            subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
        return started[-1]

    yield go
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_all_rows_of_two_hosts(start, tmp_path):
    where = f"--distributed=localhost:{free_port()},2"
    both = [start("preflight", f"{where},{number}", "--workdir=run", "--wait=120") for number in (0, 1)]
    outputs = [process.communicate(timeout=DEADLINE) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    first, second = (stdout.splitlines() for stdout, _ in outputs)
    rows = {line[:16].strip(): line[25:] for line in first}
    assert rows["hosts"] == "2 of 2 hosts"
    assert rows["coordinator"].startswith("all 2 hosts reach localhost:")
    assert rows["same packages"].endswith("equal on 2 hosts")
    assert rows["clocks"].startswith("within ")
    assert rows["devices"] == "2 x cpu"
    assert rows["collective"].startswith("the sum over all 2 takes ")
    assert first[-1].split() == second[-1].split() == ["all", "ok", "ready"]
    assert not list(tmp_path.iterdir())


def test_a_run_of_two_begins(start, tmp_path):
    """The roll call, the connection and the sum, each on the same port; then the stages, here one that is not made."""
    where = f"--distributed=localhost:{free_port()},2"
    common = ("run", "--config=demo:debug", "--workdir=run", "--stages=report", "--config.hosts.control_port=0")
    both = [start(*common, f"{where},{number}") for number in (0, 1)]
    outputs = [process.communicate(timeout=DEADLINE) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][1].splitlines()[:2] == [f"hosts           ...      {count} of 2 hosts" for count in (1, 2)]
    assert (tmp_path / "run/report/index.html").exists()


def test_one_of_two_is_missing(start, tmp_path):
    port = free_port()
    common = ("run", "--config=demo:debug", "--workdir=run", "--config.hosts.meet_seconds=2")
    first = start(*common, f"--distributed=localhost:{port},2,0")
    _, stderr = first.communicate(timeout=DEADLINE)
    assert first.returncode == 2
    count, sentence = stderr.splitlines()
    assert count == "hosts           ...      1 of 2 hosts"
    assert sentence == (
        "aloe: 1 of 2 hosts within 2 seconds, without process 1; start the same command on every host, and let TCP "
        f"{port} through between them: `gcloud compute firewall-rules create aloe --allow=tcp:{port} "
        "--source-ranges=10.0.0.0/8`"
    )
    second = start(*common, f"--distributed=localhost:{port},2,1")
    _, stderr = second.communicate(timeout=DEADLINE)
    assert second.returncode == 2
    assert stderr.startswith(f"aloe: process 0 did not answer on port {port} of localhost within 2 seconds (")
    assert not list(tmp_path.iterdir())

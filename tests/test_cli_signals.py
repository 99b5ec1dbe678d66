"""Commands that are interrupted while they start, and commands whose reader exits."""

import signal
import subprocess
import sys
import time

import pytest

from helpers.aloe_command import ALOE, DEADLINE, ROOT
from helpers.xla_flags import QUICK

CONFIG = ["config", f"--config={ROOT / 'configs/demo.py'}"]


def start(arguments, tmp_path, **streams):
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK}
    command = [sys.executable, "-c", ALOE, *arguments]
    return subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE, **streams)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_imports_is_one_sentence(tmp_path, number):
    """At any moment: no traceback of a library whose import was cut, and no request that is lost."""
    for tenths in (3, 6, 9, 13, 18, 24):
        process = start(CONFIG, tmp_path, stdout=subprocess.DEVNULL)
        time.sleep(tenths / 10)
        process.send_signal(number)
        said = process.communicate(timeout=DEADLINE)[1]
        if process.returncode == -number:  # Python itself was still starting
            continue
        assert (process.returncode, said) in [(75, "aloe: stopped; the same command continues where it was\n"), (0, "")]


def test_a_reader_that_exits_is_no_failure(tmp_path):
    process = start(CONFIG, tmp_path, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert (process.stderr.read(), process.wait(DEADLINE)) == ("", 0)

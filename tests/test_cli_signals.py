"""Commands that are interrupted while they start, and commands whose reader exits."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from helpers import tiny
from helpers.aloe_command import ALOE, DEADLINE, ROOT
from helpers.waiting import until
from helpers.xla_flags import QUICK

CONFIG = ["config", f"--config={ROOT / 'configs/demo.py'}"]


@contextlib.contextmanager
def started(arguments, tmp_path, **streams):
    """A process that is ended behind the block, if it still runs."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK}
    command = [sys.executable, "-c", ALOE, *arguments]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE, **streams)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_imports_is_one_sentence(tmp_path, number):
    """At any moment: no traceback of a library whose import was cut, and no request that is lost."""
    for tenths in (3, 6, 9, 13, 18, 24):
        with started(CONFIG, tmp_path, stdout=subprocess.DEVNULL) as process:
            time.sleep(tenths / 10)
            process.send_signal(number)
            said = process.communicate(timeout=DEADLINE)[1]
        if process.returncode == -number:  # Python itself was still starting
            continue
        assert (process.returncode, said) in [(75, "aloe: stopped; the same command continues where it was\n"), (0, "")]


def test_a_reader_that_exits_is_no_failure(tmp_path):
    with started(CONFIG, tmp_path, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(DEADLINE)) == ("", 0)


def health(port):
    """What a server says at /health."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=DEADLINE) as response:
            return json.load(response)["status"]
    except urllib.error.HTTPError as error:
        return json.load(error)["status"]


@pytest.mark.slow
@pytest.mark.parametrize("second", [False, True])
def test_a_server_drains_and_a_second_signal_ends_it(tmp_path, second):
    """Half a request is under way when the signal comes. Its client leaves, or a second signal ends the server long
    before its hour is over."""
    model = tiny.write_folder(tmp_path / "model")
    arguments = ["serve", f"--model={model}", "--port=0", "--context=64", "--slots=1", "--drain=3600"]
    with started(arguments, tmp_path, stdout=subprocess.PIPE) as process:
        line = next(line for line in process.stdout if "serving" in line)
        port = int(line.split("127.0.0.1:")[1].split("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
            assert health(port) == "ok"  # asked later, so that the other one is under way
            process.send_signal(signal.SIGTERM)
            assert until(lambda: health(port) == "draining", DEADLINE)
            assert process.poll() is None
            if second:
                process.send_signal(signal.SIGTERM)
                process.wait(DEADLINE)
        said = process.communicate(timeout=DEADLINE)[1]
    assert "Traceback" not in said
    assert process.returncode == (75 if second else 0)

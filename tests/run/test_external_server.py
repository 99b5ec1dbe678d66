"""Data generation with an external server: unreachable, lost in the middle, back again."""

import json
import signal
import socket
import threading

import pytest

from aloe_jax.cli import main as cli
from aloe_jax.decode.engine import Engine
from aloe_jax.serve.client import client
from aloe_jax.serve.server.server import Server
from aloe_jax.tree.schema import Message
from helpers import tiny
from helpers.aloe_command import CALLS_A_TURN, TURNS, lines, run_arguments

# Prompts that probe the features of a server.
GREETING = [Message(role="system", content="Be brief."), Message(role="user", content="Hello!")]
PROBES = [tuple(tiny.CHAT.prompt_ids(messages)) for messages in (GREETING, GREETING[1:])]


class Counting(Engine):
    """The real engine; records its requests and sets an event at the `leave_at`-th one."""

    def __init__(self, leave_at):
        end = tiny.CHAT.tokenizer.end_of_turn_ids
        super().__init__(tiny.MODEL, tiny.params(), slots=6, context=1024, end_of_turn=end)
        self.calls = 0  # without the probes
        self.leave_at = leave_at
        self.leave = threading.Event()

    def submit(self, request):
        self.calls += tuple(request.prompt) not in PROBES
        if self.calls == self.leave_at:
            self.leave.set()
        return super().submit(request)


@pytest.fixture
def call(tiny_model, tmp_path, monkeypatch, capsys):
    """`call(base_url)` grows the trees in this process with that server; returns exit code and stderr."""
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.001)  # seconds before the first retry; it doubles each time
    monkeypatch.delenv("ALOE_API_KEY", raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def run(base_url):
        server = (f"--config.serve.base_url={base_url}", "--config.serve.model=tiny", "--config.serve.patience=0.5")
        code = cli.main(run_arguments(tiny_model, tmp_path / "run", *server, "--stages=personas,conversations"))
        return code, capsys.readouterr().err

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_server_that_is_not_there(call, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nothing listens
        base_url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        code, errors = call(base_url)
    assert code == 75
    assert errors.splitlines()[-1].startswith(f"aloe: {base_url}: the server cannot be reached")
    assert "run the same command again" in errors
    assert json.loads((tmp_path / "run/personas/manifest.json").read_text())["status"] == "finished"


def test_a_server_that_goes_in_the_middle_and_comes_back(call, tmp_path):
    """The server answers the calls of three trees, finishes running requests and stops. The second command, with a
    server at the same address, sends only the remaining calls."""
    trees = tmp_path / "run/conversations/trees.jsonl"
    first = Counting(leave_at=3 * TURNS * CALLS_A_TURN + 1)
    server = Server(first, tiny.CHAT, "tiny")
    server.start()
    leaving = threading.Thread(target=lambda: (first.leave.wait(), server.stop()))
    leaving.start()
    code, errors = call(server.base_url)
    leaving.join()
    assert code == 75
    assert "the server cannot be reached" in errors.splitlines()[-1]
    first_stored = len(lines(tmp_path / "run/conversations/calls.jsonl"))
    assert first_stored >= 3 * TURNS * CALLS_A_TURN
    accepted = lines(trees)
    assert len(accepted) >= 3
    assert len(accepted) < 6

    second = Counting(leave_at=None)
    with Server(second, tiny.CHAT, "tiny", port=server.port) as again:
        assert again.base_url == server.base_url
        code, errors = call(again.base_url)
    assert code == 0, errors
    stored = (tmp_path / "run/conversations/calls.jsonl").read_text().splitlines()
    assert len(stored) == len({json.loads(line)["id"] for line in stored}) == 6 * TURNS * CALLS_A_TURN
    assert second.calls == 6 * TURNS * CALLS_A_TURN - first_stored
    assert set(accepted) <= set(lines(trees))
    assert len({json.loads(line)["id"] for line in lines(trees)}) == 6


def test_a_model_that_is_not_served_there(call):
    with Server(Counting(None), tiny.CHAT, "another") as server:
        code, errors = call(server.base_url)
    assert code == 2
    assert "model 'tiny' is not served here; this server has 'another'" in errors.splitlines()[-1]

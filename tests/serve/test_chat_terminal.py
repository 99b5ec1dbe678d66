"""`aloe chat` in a terminal of its own and between pipes, with a served model."""

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time

import pytest

from aloe_jax.errors import AloeError, InputError
from aloe_jax.serve.chat.served_speaker import ServedSpeaker
from aloe_jax.serve.server.server import Server
from aloe_jax.tree.schema import Message, read_trees
from helpers.aloe_command import ALOE, ROOT
from helpers.streaming_server import HELD, LOST, MODELS, REFUSED, SHOWN, StreamingServer
from helpers.waiting import until

WAIT = 60  # seconds until a test gives up on a process
HELLO = [Message(role="user", content="hello")]


@pytest.fixture
def server():
    with StreamingServer() as server:
        yield server


def command(server, *arguments):
    url = f"--url={server.http.url}/v1"
    return [sys.executable, "-c", ALOE, "chat", url, "--seed=3", *arguments]


ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "dumb", "INPUTRC": "/dev/null"}


class Terminal:
    """A process with a terminal: `screen` is all that it has written."""

    def __init__(self, arguments):
        self.screen = ""
        self._end, other = pty.openpty()
        attributes = termios.tcgetattr(other)
        attributes[1] &= ~termios.OPOST  # lines end as they are written
        termios.tcsetattr(other, termios.TCSANOW, attributes)
        self.process = subprocess.Popen(
            arguments, stdin=other, stdout=other, stderr=other, env=ENVIRONMENT, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(other)

    def type(self, text):
        os.write(self._end, text.encode())

    def until(self, text, after=0):
        """Read until the screen shows `text` behind position `after`; the position behind it."""
        deadline = time.monotonic() + WAIT
        while text not in self.screen[after:]:
            assert time.monotonic() < deadline, self.screen
            if select.select([self._end], [], [], 0.1)[0]:
                try:
                    self.screen += os.read(self._end, 4096).decode("utf-8", "replace")
                except OSError:
                    break
        assert text in self.screen[after:], self.screen
        return self.screen.index(text, after) + len(text)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._end)


@pytest.fixture
def terminal(server):
    found = Terminal(command(server))
    yield found
    found.close()


def test_a_conversation_in_a_terminal(terminal, server, tmp_path):
    """Editing, history, Ctrl-C in mid-reply, /save and Ctrl-D."""
    file = tmp_path / "trees.jsonl"
    at = terminal.until("> ")
    terminal.type("helo\x02l\n")  # Ctrl-B goes a character to the left
    at = terminal.until("\n> ", at)
    terminal.type("\x10\n")  # Ctrl-P is the line before
    at = terminal.until("\n> ", terminal.until("\n", at))
    assert [body["messages"][-1]["content"] for body in server.requests] == ["hello", "hello"]

    terminal.type(HELD + "\n")
    assert until(lambda: len(server.requests) == 3 and server.sent == SHOWN, WAIT)
    at = terminal.until(server.texts(-1)[SHOWN - 1], at)
    terminal.type("\x03")
    at = terminal.until("(stopped; what came is kept)\n> ", at)
    terminal.type("a line that is dropped\x03")
    at = terminal.until("/quit ends.\n> ", at)
    terminal.type(f"/save {file}\n")
    at = terminal.until("has 1 conversations)\n> ", at)
    terminal.type("\x04")
    assert terminal.process.wait(WAIT) == 0
    (tree,) = read_trees(file)
    assert [node.flags for node in tree.replies()] == [(), (), ("truncated",)]
    assert len(tree.replies()[2].token_ids) == SHOWN
    assert len(server.requests) == 3


def test_a_signal_ends_a_session_that_waits_for_a_line(terminal):
    terminal.until("> ")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(WAIT) == 0


def test_pipes_carry_messages_and_replies_alone(server):
    done = subprocess.run(
        command(server, f"--model={MODELS[1]}", "--system=Be brief."),
        input="hello\nand then?\n", capture_output=True, text=True, env=ENVIRONMENT, timeout=WAIT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join("".join(server.texts(number)) + "\n" for number in (0, 1))
    assert [body["model"] for body in server.requests] == [MODELS[1]] * 2
    assert [message["role"] for message in server.requests[1]["messages"]] == ["system", "user", "assistant", "user"]


def test_a_served_model_replies_with_its_tokens(server, engine, chat_format):
    speaker = ServedSpeaker(f"{server.http.url}/v1/", None, {"temperature": 0.5}, seed=4)
    assert speaker.name == MODELS[0]
    pieces = list(speaker.pieces(HELLO, 2))
    assert pieces[-1].finish_reason == "stop"
    assert (server.requests[0]["seed"], server.requests[0]["temperature"]) == (6, 0.5)
    assert "".join(piece.text for piece in pieces) == "".join(server.texts(0))
    with Server(engine, chat_format, "tiny") as ours:
        speaker = ServedSpeaker(ours.base_url, "tiny", {"max_tokens": 20}, seed=4)
        pieces = list(speaker.pieces(HELLO, 0))
        ids = [token for piece in pieces for token in piece.token_ids]
        assert "".join(piece.text for piece in pieces) == chat_format.tokenizer.decode(ids[:-1])
        assert sum(len(piece.log_probs) for piece in pieces) == len(ids) == 13
        assert pieces[0].tokenizer == chat_format.tokenizer.hash


def test_failures_of_a_server_are_sentences(server, engine, chat_format, monkeypatch):
    url = f"{server.http.url}/v1"
    with pytest.raises(InputError, match=f"does not serve 'other'; it has {MODELS[0]}, "):
        ServedSpeaker(url, "other", {})
    speaker = ServedSpeaker(url, None, {})
    with pytest.raises(InputError, match=r"refused \(429\): too many requests are waiting"):
        next(speaker.pieces([Message(role="user", content=REFUSED)], 0))
    lost = speaker.pieces([Message(role="user", content=LOST)], 0)
    assert [next(lost).text for _ in range(SHOWN)] == server.texts(-1)[:SHOWN]
    server.release()
    with pytest.raises(AloeError, match="connection was lost"):
        next(lost)
    for address in ("ftp://127.0.0.1/v1", "file:///etc/passwd", "127.0.0.1:8000/v1"):
        with pytest.raises(InputError, match="no address of a server"):
            ServedSpeaker(address, None, {})
    with pytest.raises(InputError, match=r"refused \(404\): Not Found; such an address ends with /v1 as a rule"):
        ServedSpeaker(server.http.url, None, {})
    monkeypatch.setenv("ALOE_API_KEY", "sesame")
    with Server(engine, chat_format, "tiny") as ours:
        with pytest.raises(InputError, match=r"refused \(401\): missing or wrong API key"):
            ServedSpeaker(ours.base_url, None, {}, key="simsim")
        assert ServedSpeaker(ours.base_url, None, {}, key="sesame").name == "tiny"
    with pytest.raises(InputError, match="cannot be reached"):
        ServedSpeaker(ours.base_url, None, {})

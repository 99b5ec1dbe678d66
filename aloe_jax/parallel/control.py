"""The control connection: every process of a run is connected to process 0, the primary one, from start to end.

It says within seconds who has left and why. A process that fails sends its exit code before it ends; a connection that
closes without one belongs to a process that died. Process 0 takes the first failure as that of the run and sends it to
all others, which end with its code. The same connection carries messages from process 0 to the others.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aloe_jax.errors import AloeError, InputError, ResumableError
from aloe_jax.parallel import frames
from aloe_jax.parallel.frames import Message

PRIMARY = 0
TELL_SECONDS = 5  # for process 0 to say which failure is that of the run
LONGEST_REASON = 2_000  # characters
# A host that vanishes closes no connection: after 20 seconds of silence it is probed, and given up 40 seconds later.
IDLE_SECONDS, PROBE_SECONDS, PROBES = 20, 10, 4
_MESSAGE, _FAILED, _ENDED = "message", "failed", "ended"  # kinds of frames


@dataclass(frozen=True)
class Failure:
    """The reason for which a process left the run.

    Attributes:
        process: its number.
        code: the exit code of the whole run.
        why: its own sentence.
        lost: whether it left without one.
    """

    process: int
    code: int
    why: str = ""
    lost: bool = False

    def sentence(self) -> str:
        """What happened, for the terminals of the other processes."""
        if self.lost:
            return (
                f"another process of this run went away: process {self.process} closed its connection without a "
                "reason, as when it is killed or its host stops; the same command on all hosts continues"
            )
        if self.code == InputError.exit_code:
            what, remedy = "refused its input", "correct it, and start all of them again"
        elif self.code == ResumableError.exit_code:
            what, remedy = "stopped", "the same command on all hosts continues"
        else:
            what, remedy = "failed", "its messages say where"
        return f"another process of this run stopped: process {self.process} {what} ({self.why}); {remedy}"


class OtherProcessError(AloeError):
    """This process cannot go on since another one has left; it ends with the exit code of that one."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.sentence())
        self.failure, self.exit_code = failure, failure.code


class Control:
    """One process's end of the control connection: on process 0 a socket for each other process, on those one to it.

    `on_failure` is called once, in a thread, with the failure of the run, unless it is this process's own.
    """

    def __init__(
        self, number: int, connections: Mapping[int, socket.socket], on_failure: Callable[[Failure], None]
    ) -> None:
        self.number = number
        self._connections, self._on_failure = dict(connections), on_failure
        self._sending = {process: threading.Lock() for process in connections}
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()  # None: there has been a failure
        self._deciding, self._failed = threading.Lock(), threading.Event()
        self._failure: Failure | None = None
        self._readers = []
        for process, connection in self._connections.items():
            keep_alive(connection)
            reader = threading.Thread(target=self._read, args=(process, connection), daemon=True)
            self._readers.append(reader)
            reader.start()

    def send(self, message: Sequence[np.ndarray] | bytes) -> None:
        """Send a message from process 0 to all others. OtherProcessError if one of them has left before, or before all
        of the message was sent to it: the message may be what it leaves after. ValueError as `frames.encode`."""
        assert self.number == PRIMARY
        buffers = frames.encode(_MESSAGE, message)
        self._raise_failure()
        for process, connection in self._connections.items():
            try:
                with self._sending[process]:
                    for buffer in buffers:
                        connection.sendall(buffer)
            except OSError:
                self._decide(Failure(process, ResumableError.exit_code, lost=True))
                self._raise_failure()

    def receive(self) -> Message:
        """The next message of process 0, in the order in which they were sent. Blocks until it is there; raises
        OtherProcessError once a process has left and all that arrived before has been received."""
        message = self._inbox.get()
        if message is None:
            self._inbox.put(None)  # for the next call
            self._raise_failure()
        assert message is not None
        return message

    def failure(self, seconds: float) -> Failure | None:
        """The failure of the run, after at most that time; None if there is none by then."""
        self._failed.wait(seconds)
        return self._failure

    def report(self, code: int, why: str) -> Failure:
        """Report that this process has failed; returns the failure of the run, which another process may have reported
        before."""
        own = Failure(self.number, code, why[:LONGEST_REASON])
        if self.number == PRIMARY:
            self._decide(own)
        elif not self._failed.is_set():
            self._post(PRIMARY, _FAILED, own)
            self._failed.wait(TELL_SECONDS)
        found = self._failure
        # Without process 0 nobody compares the reasons.
        return own if found is None or (found.lost and found.process == PRIMARY) else found

    def end(self) -> None:
        """Say that this process ends because its work is done."""
        for process in self._connections:
            self._post(process, _ENDED)

    def wait_for_others(self, seconds: float) -> None:
        """Wait until all processes at the other ends are gone, or that time is over."""
        deadline = time.monotonic() + seconds
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise OtherProcessError(self._failure)

    def _read(self, process: int, connection: socket.socket) -> None:
        """Take what one other process sends, to the end of its connection."""
        ended = False
        with contextlib.suppress(OSError, frames.FrameError):
            while (frame := frames.read(connection)) is not None:
                if frame.kind == _MESSAGE and process == PRIMARY:
                    self._inbox.put(frame.message)
                elif frame.kind == _FAILED:
                    self._decide(_failure_in(frame, None if process == PRIMARY else process))
                elif frame.kind == _ENDED:
                    ended = True
        if not ended:
            self._decide(Failure(process, ResumableError.exit_code, lost=True))

    def _decide(self, failure: Failure) -> None:
        """Take a failure as that of the run if it is the first one, and tell all others, if this is process 0."""
        with self._deciding:
            if self._failure is not None:
                return
            self._failure = failure
        if self.number == PRIMARY:
            for process in self._connections:
                self._post(process, _FAILED, failure)
        self._failed.set()
        self._inbox.put(None)
        if failure.process != self.number:
            threading.Thread(target=self._on_failure, args=(failure,), daemon=True).start()

    def _post(self, process: int, kind: str, failure: Failure | None = None) -> None:
        """Send a small frame without waiting for a process that takes nothing: the closed connection tells it."""
        (buffer, _) = frames.encode(kind, fields=None if failure is None else vars(failure))
        if self._sending[process].acquire(timeout=1.0):
            with contextlib.suppress(OSError):
                self._connections[process].send(buffer, socket.MSG_DONTWAIT)
            self._sending[process].release()


def _failure_in(frame: frames.Frame, sender: int | None) -> Failure:
    """The failure that a frame reports: of its sender or, from process 0, of any process."""
    try:
        given = frame.fields
        process = int(given["process"]) if sender is None else sender
        return Failure(process, int(given["code"]), str(given["why"]), bool(given["lost"]))
    except (KeyError, ValueError) as error:
        raise frames.FrameError(f"no failure: {error!r}") from None


def keep_alive(connection: socket.socket) -> None:
    """Send without delay, and detect a host that vanished; see `IDLE_SECONDS`."""
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    whole = 1000 * (IDLE_SECONDS + PROBE_SECONDS * PROBES)
    for name, value in (  # names that not every system has
        ("TCP_KEEPIDLE", IDLE_SECONDS),
        ("TCP_KEEPINTVL", PROBE_SECONDS),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", whole),  # for what was sent and not acknowledged
    ):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

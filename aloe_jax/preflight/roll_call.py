"""The hosts of a run meet before any device is touched: process 0 counts them and compares what they report.

They meet at the address of JAX's coordinator, whose port must be reachable anyway, and which is free again before JAX
listens there: the others close their connections first, so that none of them lingers at this end. What arrives is plain
JSON of limited size, and process 0 sends its clock's question and sentences.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from aloe_jax.errors import InputError
from aloe_jax.parallel import frames
from aloe_jax.parallel.joining import bound, own_address
from aloe_jax.parallel.meeting import Group

LARGEST_REPORT = 1 << 20  # bytes
RETRY_SECONDS = 0.1
REMIND_SECONDS = 30  # after which it is said who is missing; doubled each time
ANSWER_SECONDS = 10  # for an accepted connection to report
_QUESTION, _REPORT, _VERDICT = "question", "report", "verdict"  # kinds of frames
Finding = tuple[str, str]  # a failure: the name of its row, and the sentence


class Report(BaseModel, frozen=True):
    """What a process tells process 0: the name of its host, what it found wrong there, versions by package, and the
    variables that are compared."""

    name: str
    failures: tuple[str, ...]
    versions: dict[str, str]
    environment: dict[str, str]


Judge = Callable[[Mapping[int, Report], Mapping[int, float]], list[Finding]]


def roll_call(
    group: Group,
    report: Report,
    judge: Judge,
    seconds: float,
    say: Callable[[str], None],
) -> list[Finding]:
    """The failures of the whole run, on every process, as process 0 finds them.

    `judge` is called there with the reports by number and with the seconds by which each clock is ahead at least,
    negative behind. `say` gets "N of M hosts" there whenever one comes, and on all of them now and then what to do
    about those that do not. InputError if not all met in that time.
    """
    if group.number:
        return _attend(group, report, seconds, say)
    return _Caller(group, say).call(report, judge, seconds)


class _Caller:
    """Process 0: waits for the others."""

    def __init__(self, group: Group, say: Callable[[str], None]) -> None:
        self._group, self._say = group, say
        self._found: dict[int, tuple[socket.socket, Report, float]] = {}
        self._wrong = ""
        self._changed = threading.Condition()

    def call(
        self,
        report: Report,
        judge: Judge,
        seconds: float,
    ) -> list[Finding]:
        expected = set(range(1, self._group.processes))
        with _listening(self._group) as listening:
            self._count()
            threading.Thread(target=self._accept, args=(listening,), daemon=True).start()
            with self._changed:
                self._wait(expected, seconds)
                found, wrong = dict(sorted(self._found.items())), self._wrong
            listening.shutdown(socket.SHUT_RDWR)  # ends the thread's accept, which would keep the port
        missing = expected - set(found)
        if wrong or missing:
            failures = [("hosts", wrong or self._without(missing, f"within {seconds:g} seconds"))]
        else:
            reports = {0: report} | {number: one for number, (_, one, _) in found.items()}
            failures = judge(reports, {0: 0.0} | {number: ahead for number, (_, _, ahead) in found.items()})
        for connection, _, _ in found.values():
            with contextlib.suppress(OSError):
                _send(connection, _VERDICT, {"failures": failures})
                connection.recv(1)  # the other end closes first, so that the port is free at once
            connection.close()
        if wrong or missing:
            raise InputError(failures[0][1])
        return failures

    def _wait(self, expected: set[int], seconds: float) -> None:
        """Wait until all have come, in that time, and say now and then who has not; `_changed` is held."""
        start, reminder = time.monotonic(), float(REMIND_SECONDS)
        while (waited := time.monotonic() - start) < seconds:
            complete = self._changed.wait_for(
                lambda: self._wrong or set(self._found) == expected, min(reminder, seconds) - waited
            )
            if complete:
                return
            self._drop_gone()
            if reminder < seconds:
                self._say(self._without(expected - set(self._found), f"after {reminder:g} seconds"))
            reminder *= 2

    def _drop_gone(self) -> None:
        """Forget who has left again, as after a Ctrl-C: it may come back. `_changed` is held."""
        for number, (connection, _, _) in list(self._found.items()):
            if _has_ended(connection):
                connection.close()
                del self._found[number]

    def _without(self, missing: set[int], when: str) -> str:
        return (
            f"{self._group.processes - len(missing)} of {self._group.processes} hosts {when}, without process "
            f"{', '.join(map(str, sorted(missing)))}; start the same command on every host, and let TCP "
            f"{self._group.port} through between them: {_firewall(self._group.port)}"
        )

    def _count(self) -> None:
        self._say(f"{len(self._found) + 1} of {self._group.processes} hosts")

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        connection.settimeout(ANSWER_SECONDS)
        with contextlib.suppress(OSError, frames.FrameError, ValueError, TypeError, KeyError):
            asked = time.time()
            _send(connection, _QUESTION, {})
            given = _receive(connection, _REPORT)
            number, processes = int(given["number"]), int(given["processes"])
            report = Report.model_validate(given["report"])
            # The other one read its clock after the question and before this line.
            least, most = float(given["time"]) - time.time(), float(given["time"]) - asked
            ahead = least if least > 0 else min(most, 0.0)
            with self._changed:
                self._drop_gone()
                if processes != self._group.processes:
                    self._wrong = (
                        f"process {number} was started as one of {processes}, process 0 as one of "
                        f"{self._group.processes}; give --distributed the same number of processes everywhere"
                    )
                elif number in self._found or not 0 < number < processes:
                    self._wrong = f"two processes have number {number}; give each host its own in --distributed"
                else:
                    self._found[number] = connection, report, ahead
                    self._count()
                self._changed.notify()
            if self._found.get(number, (None,))[0] is connection:
                return
            _send(connection, _VERDICT, {"failures": [("hosts", self._wrong)]})
        connection.close()


def _attend(group: Group, report: Report, seconds: float, say: Callable[[str], None]) -> list[Finding]:
    """The other processes: report, and get the failures."""
    start, reminder, reason = time.monotonic(), float(REMIND_SECONDS), ""
    while (waited := time.monotonic() - start) < seconds:
        if waited > reminder:
            say(_no_answer(group, f"for {waited:.0f} seconds", reason))
            reminder *= 2
        try:
            with socket.create_connection(
                (group.host, group.port), timeout=min(seconds - waited, ANSWER_SECONDS)
            ) as to:
                to.settimeout(ANSWER_SECONDS)
                _receive(to, _QUESTION)
                mine = {"number": group.number, "processes": group.processes, "time": time.time()}
                _send(to, _REPORT, mine | {"report": report.model_dump()})
                to.settimeout(seconds - waited + ANSWER_SECONDS)
                return [(str(name), str(text)) for name, text in _receive(to, _VERDICT)["failures"]]
        except (
            OSError,
            frames.FrameError,
            ValueError,
            TypeError,
            KeyError,
        ) as error:  # process 0 may not have started yet
            reason = str(error) or type(error).__name__
            time.sleep(RETRY_SECONDS)
    raise InputError(_no_answer(group, f"within {seconds:g} seconds", reason))


def _has_ended(connection: socket.socket) -> bool:
    """Whether the other end, which sends nothing now, has closed the connection."""
    connection.setblocking(False)
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(ANSWER_SECONDS)


def _no_answer(group: Group, when: str, reason: str) -> str:
    return (
        f"process 0 did not answer on port {group.port} of {group.host} {when} ({reason}); start the same command on "
        f"every host, and let TCP through: {_firewall(group.port)}"
    )


def _listening(group: Group) -> socket.socket:
    """A listening socket on the address that names process 0, on all addresses only where that is none of this host's;
    InputError if the port is in use."""
    try:
        return bound(own_address(group.host), group.port)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise InputError(
            f"port {group.port}, where the hosts meet, is not free on process 0's host ({error.strerror}); "
            f"`ss -ltnp 'sport = :{group.port}'` names its process: end it, or set another port in "
            "config.hosts.port or the address"
        ) from None


def _firewall(port: int) -> str:
    return f"`gcloud compute firewall-rules create aloe --allow=tcp:{port} --source-ranges=10.0.0.0/8`"


def _send(connection: socket.socket, kind: str, content: Mapping[str, Any]) -> None:
    connection.sendall(b"".join(frames.encode(kind, json.dumps(content).encode())))


def _receive(connection: socket.socket, kind: str) -> dict[str, Any]:
    frame = frames.read(connection, LARGEST_REPORT)
    if frame is None or frame.kind != kind or not isinstance(frame.message, bytes):
        raise frames.FrameError("no answer")
    return dict(json.loads(frame.message))

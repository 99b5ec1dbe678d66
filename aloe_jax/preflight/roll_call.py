"""The hosts of a run meet before any device is touched: process 0 counts them and compares what they report.

They meet at the address of JAX's coordinator, whose port must be reachable anyway; it is free again afterwards. What
arrives is plain JSON of limited size, and process 0 sends nothing but sentences.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aloe_jax.errors import InputError
from aloe_jax.parallel import frames

LARGEST_REPORT = 1 << 20  # bytes
RETRY_SECONDS = 0.1
ANSWER_SECONDS = 10  # for an accepted connection to report
_REPORT, _VERDICT = "report", "verdict"  # kinds of frames
Report = Mapping[str, Any]


@dataclass(frozen=True)
class Group:
    """The processes of a run: the address of process 0 with its port, their number, and the number of this one."""

    host: str
    port: int
    processes: int
    number: int


def roll_call(
    group: Group,
    report: Report,
    judge: Callable[[Mapping[int, Report], Mapping[int, float]], list[str]],
    seconds: float,
    say: Callable[[str], None],
) -> list[str]:
    """The failures of the whole run, on every process, as process 0 finds them.

    `judge` is called there with the reports by number and with the seconds by which each clock is ahead, less the time
    that the report took. `say` gets "N of M hosts" there, whenever one comes. InputError if not all met in that time.
    """
    if group.number:
        return _attend(group, report, seconds)
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
        judge: Callable[[Mapping[int, Report], Mapping[int, float]], list[str]],
        seconds: float,
    ) -> list[str]:
        expected = set(range(1, self._group.processes))
        with _listening(self._group.port) as listening:
            threading.Thread(target=self._accept, args=(listening,), daemon=True).start()
            self._count()
            with self._changed:
                self._changed.wait_for(lambda: self._wrong or set(self._found) == expected, seconds)
                found, wrong = dict(sorted(self._found.items())), self._wrong
            listening.shutdown(socket.SHUT_RDWR)  # ends the thread's accept, which would keep the port
        missing = ", ".join(map(str, sorted(expected - set(found))))
        if wrong or missing:
            failures = [
                wrong
                or f"{len(found) + 1} of {self._group.processes} hosts within {seconds:g} seconds, without process "
                f"{missing}; start the same command on every host, and let TCP {self._group.port} through between "
                f"them: {_firewall(self._group.port)}"
            ]
        else:
            reports = {0: report} | {number: one for number, (_, one, _) in found.items()}
            failures = judge(reports, {0: 0.0} | {number: ahead for number, (_, _, ahead) in found.items()})
        for connection, _, _ in found.values():
            with contextlib.suppress(OSError):
                _send(connection, _VERDICT, {"failures": failures})
                connection.recv(1)  # the other end closes first, so that the port is free at once
            connection.close()
        if wrong or missing:
            raise InputError(failures[0])
        return failures

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
            given = _receive(connection, _REPORT)
            number, processes, report = int(given["number"]), int(given["processes"]), dict(given["report"])
            ahead = float(given["time"]) - time.time()
            with self._changed:
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
            _send(connection, _VERDICT, {"failures": [self._wrong]})
        connection.close()


def _attend(group: Group, report: Report, seconds: float) -> list[str]:
    """The other processes: report, and get the failures."""
    deadline, reason = time.monotonic() + seconds, ""
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((group.host, group.port), timeout=left) as connection:
                _send(
                    connection,
                    _REPORT,
                    {"number": group.number, "processes": group.processes, "time": time.time(), "report": report},
                )
                connection.settimeout(max(1.0, deadline - time.monotonic()) + ANSWER_SECONDS)
                return [str(one) for one in _receive(connection, _VERDICT)["failures"]]
        except (OSError, frames.FrameError, ValueError, KeyError) as error:  # process 0 may not have started yet
            reason = str(error) or type(error).__name__
            time.sleep(RETRY_SECONDS)
    raise InputError(
        f"process 0 did not answer on port {group.port} of {group.host} within {seconds:g} seconds ({reason}); start "
        f"the same command on every host, and let TCP through: {_firewall(group.port)}"
    )


def _listening(port: int) -> socket.socket:
    """A listening socket on all addresses; InputError if the port is in use."""
    try:
        return socket.create_server(("", port))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise InputError(
            f"port {port}, where the hosts meet, is not free on process 0's host ({error.strerror}); "
            f"`ss -ltnp 'sport = :{port}'` names its process: end it, or set another port in "
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

"""Opening the control connection: process 0 listens, the others connect with a token that only they can read."""

from __future__ import annotations

import contextlib
import errno
import hmac
import ipaddress
import secrets
import socket
import threading
import time
from dataclasses import dataclass

from aloe_jax.errors import InputError
from aloe_jax.parallel import frames
from aloe_jax.parallel.frames import Fields, Frame

LARGEST_GREETING = 0  # bytes after the header of a greeting
GREETING_SECONDS = 10  # for an accepted connection to say who it is
_HELLO, _WELCOME = "hello", "welcome"  # kinds of frames


@dataclass(frozen=True)
class Invitation:
    """What process 0 gives to the others: the port of its control connection, the run's token, and the number of
    processes that it was started with."""

    port: int
    token: str
    processes: int


class Listener:
    """The listening end on process 0, until all others have connected.

    It binds to the address that `host` names, so that loopback stays loopback. A name that this host resolves to
    loopback or to no address of its own, as that of a host behind a gateway, binds to all addresses; the token keeps
    strangers out. A port in use is replaced by a free one, and 0 takes any.
    """

    def __init__(self, host: str, port: int, processes: int) -> None:
        self._listening = _listening(own_address(host), port)
        self.invitation = Invitation(self._listening.getsockname()[1], secrets.token_hex(32), processes)
        self._found: dict[int, socket.socket] = {}
        self._changed = threading.Condition()

    def accept(self, seconds: float) -> dict[int, socket.socket]:
        """The connections of all processes but this one, by number. Others are closed; afterwards nobody can connect
        any more. InputError if not all came in that time."""
        expected = set(range(1, self.invitation.processes))
        threading.Thread(target=self._accept, args=(expected,), daemon=True).start()
        with self._changed:
            complete = self._changed.wait_for(lambda: set(self._found) == expected, seconds)
        self._listening.close()
        if not complete:
            missing = ", ".join(map(str, sorted(expected - set(self._found))))
            raise InputError(
                f"--distributed: process {missing} did not connect to port {self.invitation.port} of process 0 within "
                f"{seconds:g} seconds; let TCP through to it between the hosts, or set config.hosts.control_port to a "
                "port that is let through"
            )
        return self._found

    def _accept(self, expected: set[int]) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._greet, args=(connection, expected), daemon=True).start()

    def _greet(self, connection: socket.socket, expected: set[int]) -> None:
        connection.settimeout(GREETING_SECONDS)
        with contextlib.suppress(OSError, frames.FrameError):
            hello = frames.read(connection, LARGEST_GREETING)
            number = None if hello is None else self._admitted(hello)
            with self._changed:
                if number in expected and number not in self._found:
                    _send(connection, _WELCOME)
                    self._found[number] = connection
                    self._changed.notify()
                    return
        connection.close()

    def _admitted(self, hello: Frame) -> int | None:
        """The number of the process that greets; None if it does not have the token."""
        token, number = hello.fields.get("token"), hello.fields.get("process")
        if hello.kind != _HELLO or not isinstance(token, str) or not isinstance(number, int):
            return None
        return number if hmac.compare_digest(token.encode(), self.invitation.token.encode()) else None


def join(host: str, invitation: Invitation, number: int, seconds: float) -> socket.socket:
    """The connection of process `number` to process 0, which `host` names. InputError if it cannot be made."""
    deadline = time.monotonic() + seconds
    try:
        connection = socket.create_connection((host, invitation.port), timeout=seconds)
        connection.settimeout(max(1.0, deadline - time.monotonic()))
        _send(connection, _HELLO, {"token": invitation.token, "process": number})
        answer = frames.read(connection, LARGEST_GREETING)
    except (OSError, frames.FrameError) as error:
        raise _unreachable(host, invitation.port, str(error)) from None
    if answer is None or answer.kind != _WELCOME:
        raise _unreachable(host, invitation.port, "it closed the connection")
    return connection


def _unreachable(host: str, port: int, reason: str) -> InputError:
    return InputError(
        f"--distributed: process 0 cannot be reached on port {port} of {host} ({reason}); let TCP through to it "
        "between the hosts, or set config.hosts.control_port to a port that is let through"
    )


def _send(connection: socket.socket, kind: str, fields: Fields | None = None) -> None:
    connection.sendall(b"".join(frames.encode(kind, fields=fields)))


def own_address(host: str) -> str:
    """The address of this host that `host` names; empty for all of them."""
    try:
        found = str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
        named = host == "localhost" or _is_address(host)
        if ipaddress.ip_address(found).is_loopback and not named:
            return ""  # Debian's /etc/hosts has the host's own name there; others resolve it elsewhere
        bound(found, 0).close()
    except (OSError, ValueError):
        return ""
    return found


def _is_address(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(host))
    return False


def _listening(address: str, port: int) -> socket.socket:
    try:
        return bound(address, port)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        return bound(address, 0)


def bound(address: str, port: int) -> socket.socket:
    """A socket that listens there, on all addresses if `address` is empty. OSError if it cannot."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if not address and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server((address, port), family=family)

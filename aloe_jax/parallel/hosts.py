"""One run in several processes, each with its own devices: what they say to each other, and how they end together.

Process 0 is the primary one: it writes the files, prints, and decides which stages run. With a single process every
function here returns at once.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.parallel.control import PRIMARY, Control, Failure, OtherProcessError
from aloe_jax.parallel.frames import Message
from aloe_jax.parallel.meeting import HostSettings, meet

END_SECONDS = 3  # for this process to end by itself after the failure of another one
STOP_SECONDS = 120  # the same, once all have agreed to stop: this one may still close its files
LEAVE_SECONDS = 10  # for the others to end before process 0 does; JAX aborts those that are left
SKIP, WORK = range(2)  # the primary process's decision about the next shared stage
END = b""  # the message after which the others stop taking part in a stage of the primary process
_control: Control | None = None
_ending = threading.Event()  # set when this process ends
_stopping = threading.Event()  # set once all processes have agreed to stop


def connect(where: str, settings: HostSettings | None = None) -> None:
    """Connect this process with the others of its run; must precede any use of a device.

    `where` is "auto" on Cloud TPU slices and other clusters that JAX detects, else `ADDRESS:PORT,PROCESSES,NUMBER` with
    the address of process 0. Raises InputError if it has another form, if "auto" detects no cluster, or if the
    processes cannot be connected.
    """
    global _control
    _control = meet(where, settings or HostSettings(), _end_with)
    if _control is not None:
        _delay_aborts()
        atexit.register(_control.end)
        atexit.register(_ending.set)  # runs first


def _delay_aborts() -> None:
    """Let a thread that aborts this process sleep for a few seconds first.

    When process 0 dies, JAX aborts all others at once; so each has the time to end with the code of a lost process.
    The handler is the C library's own `sleep`, which a signal handler may call, and its argument is the number of the
    signal: six seconds. The abort then takes place as always. A handler that was there before stays.
    """
    library = ctypes.CDLL(None)
    library.signal.restype = ctypes.c_void_p
    library.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    before = library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))
    if before:
        library.signal(signal.SIGABRT, before)


def _end_with(failure: Failure) -> None:
    """End this process after another one has left, in a thread.

    This process may be blocked on a device computation with the other one, where no exception reaches it. Everything
    that it writes survives a kill.
    """
    if _ending.wait(END_SECONDS) or (_stopping.is_set() and _ending.wait(STOP_SECONDS)):
        return
    print(f"aloe: {failure.sentence()}", file=sys.stderr, flush=True)
    _exit(failure.code)


def _exit(code: int) -> NoReturn:
    if _control is not None and _control.number == PRIMARY:
        _control.wait_for_others(LEAVE_SECONDS)
    os._exit(code)


def is_multiprocess() -> bool:
    """Whether the run has more than one process."""
    return jax.process_count() > 1


def process_index() -> int:
    """The index of this process."""
    return jax.process_index()


def process_count() -> int:
    """The number of processes."""
    return jax.process_count()


def is_primary() -> bool:
    """Whether this is process 0, which writes files and prints."""
    return jax.process_index() == PRIMARY


def is_local(mesh: Mesh) -> bool:
    """Whether the run has several processes and all devices of the mesh belong to this one."""
    return is_multiprocess() and {device.process_index for device in mesh.devices.flat} == {jax.process_index()}


def send(message: Sequence[np.ndarray] | bytes) -> None:
    """Send bytes or arrays of numbers from the primary process to all others, each of which calls `receive`. Raises
    OtherProcessError if one of them has left, and ValueError for a message above `frames.LARGEST_BODY`."""
    if _control is not None:
        _control.send(message)


def receive() -> Message:
    """The next message of the primary process, on each of the others: bytes, or a list of arrays. Blocks until it is
    there; raises OtherProcessError, with the exit code to end with, as soon as a process has left."""
    assert _control is not None
    return _control.receive()


def receive_bytes() -> bytes:
    """`receive` of a message that is bytes."""
    message = receive()
    assert isinstance(message, bytes)
    return message


def lead(decision: int) -> None:
    """Send the primary process's decision about the next shared stage or part of one, or at the end; the others call
    `follow`."""
    send(bytes([decision]))


def follow() -> bool:
    """Whether to work on what is shared next, after the primary process has decided. Raises OtherProcessError if a
    process has left."""
    return receive() == bytes([WORK])


def wait_for_primary() -> None:
    """Block until the primary process has got here too."""
    broadcast_from_primary(0)


def failure_elsewhere(seconds: float) -> OtherProcessError | None:
    """The failure of another process, after which errors in this one are no wonder; None if there is none within that
    time."""
    failure = None if _control is None else _control.failure(seconds)
    return None if failure is None else OtherProcessError(failure)


def stop_together() -> None:
    """Note that all processes have agreed to stop here: each ends by itself, whoever is the first."""
    _stopping.set()


def leave(code: int, why: str = "") -> NoReturn:
    """End this process after a failure, with `code`, unless another one failed before: then with the code of that.

    Waiting for the others at exit could deadlock, since they may be blocked on this process. So they are told through
    the control connection first, with the sentence `why`, and end with the same code.
    """
    _ending.set()
    if _control is not None:
        first = _control.report(code, why)
        if first.code != code:
            print(f"aloe: {first.sentence()}", file=sys.stderr)
        code = first.code
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    _exit(code)


def broadcast_from_primary(value: int) -> int:
    """The primary process's value, on all processes: on the others a shared folder may lag behind."""
    return int(broadcast_array_from_primary(np.array([value]))[0])


def broadcast_array_from_primary(array: np.ndarray) -> np.ndarray:
    """The primary process's array, on all processes."""
    if _control is None or is_primary():
        send([array])
        return array
    (found,) = receive()
    assert isinstance(found, np.ndarray)
    return found


def on_host(array: jax.Array) -> np.ndarray:
    """The whole of an array, which may be sharded over the devices of all processes; these call it together."""
    if array.is_fully_addressable:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def largest(value: int) -> int:
    """The largest of all processes' values, on all processes."""
    return int(np.max(multihost_utils.process_allgather(np.int32(value)))) if is_multiprocess() else value


def check_same(parts: Sequence[bytes | str], what: str) -> None:
    """Raise InputError on every process if `parts` are not the same on all of them."""
    if not is_multiprocess():
        return
    digest = np.frombuffer(bytes.fromhex(files.sha256(*parts)), np.uint8)
    digests = multihost_utils.process_allgather(digest)
    others = [number for number, found in enumerate(digests) if (found != digests[0]).any()]
    if others:
        raise InputError(
            f"process {', '.join(map(str, others))} differs from process 0 in {what}; give all hosts the same "
            "packages, --config and --stages, and the same shared --workdir"
        )

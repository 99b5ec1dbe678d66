"""One run in several processes, each with its own devices: `jax.distributed`, broadcasts and barriers.

Process 0 is the primary one: it writes the files, prints, and decides which stages run. With a single process every
function here returns at once.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from aloe_jax import files
from aloe_jax.errors import InputError, ResumableError

AUTO = "auto"
CONNECT_SECONDS = 300  # time for all processes to connect
_NO_TIMEOUT = 30 * 24 * 3600  # seconds; a stage that only the primary process works on may take days
LEAVE_SECONDS = 10  # time that a leaving process gives the others to notice
POLL_SECONDS = 1.0  # between two polls of the leaving key
END_SECONDS = 5  # time for the others to end by themselves after that; below LEAVE_SECONDS, so that they end first
SKIP, WORK, _STOP = range(3)  # the primary process's decision about the next shared stage
_barriers = itertools.count()  # numbers of the barriers, the same sequence on every process
_in_shared_stage = False  # whether the primary process is working on a shared stage
_LEAVING = "aloe-leaving"  # the key that a leaving process sets in the coordination service
_ending = threading.Event()  # set when this process ends


def connect(where: str) -> None:
    """Connect this process with the others of its run through `jax.distributed`; must precede any use of a device.

    `where` is "auto" on Cloud TPU slices and other clusters that JAX detects, else `ADDRESS:PORT,PROCESSES,NUMBER` with
    the address of process 0. Raises InputError if it has another form, if "auto" detects no cluster, or if the
    processes cannot be connected.
    """
    arguments = {} if where == AUTO else _arguments(where)
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from the command line
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # At its own timeout JAX aborts the process; this timer ends it with a sentence before that.
    timer = threading.Timer(CONNECT_SECONDS, _exit_unconnected)
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            **arguments, initialization_timeout=2 * CONNECT_SECONDS, shutdown_timeout_seconds=CONNECT_SECONDS
        )
    except ValueError as error:
        raise InputError(
            f"--distributed: JAX cannot tell the processes of this cluster ({error}); "
            "give --distributed=ADDRESS:PORT,PROCESSES,NUMBER"
        ) from None
    except RuntimeError as error:
        raise InputError(
            f"--distributed: the processes cannot be joined ({str(error).splitlines()[0]}); the port has to be free on "
            "the host of process 0, and each process has a number of its own"
        ) from None
    finally:
        timer.cancel()
    watch = threading.Thread(target=_exit_with_others, daemon=True)
    watch.start()
    # At exit Python would stop the thread in the middle of JAX's code, which aborts the process.
    atexit.register(watch.join, LEAVE_SECONDS)
    atexit.register(_ending.set)  # runs first


def _multihost() -> ModuleType:
    """Orbax's helpers for several processes, loaded only there: that takes a second."""
    from orbax.checkpoint import multihost

    return multihost


def _exit_with_others() -> None:
    """End this process after another one has left.

    This process may be blocked on a device computation with the other one, where no exception reaches it and only JAX's
    heartbeat would end it. Everything that it writes survives a kill.
    """
    client, left = _multihost().get_jax_distributed_client(), None
    while left is None:
        if _ending.wait(POLL_SECONDS):
            return
        with contextlib.suppress(Exception):  # JAX raises for a missing key
            left = client.key_value_try_get(_LEAVING)
    if not _ending.wait(END_SECONDS):
        sentence = "another process of this run stopped; its message says why, and the same command on all continues"
        print(f"aloe: {sentence}", file=sys.stderr, flush=True)
        os._exit(ResumableError.exit_code)


def _exit_unconnected() -> None:
    print(
        f"aloe: --distributed: not all processes met within {CONNECT_SECONDS} seconds; start the same command on every "
        "host, each with a number of its own, and see that all reach the address of process 0",
        file=sys.stderr,
        flush=True,
    )
    os._exit(InputError.exit_code)


def _arguments(where: str) -> dict[str, object]:
    address, _, rest = where.partition(",")
    count, _, number = rest.partition(",")
    port = address.rpartition(":")[2]
    if not (address.rpartition(":")[0] and port.isdigit() and count.isdigit() and number.isdigit()):
        raise InputError(f"--distributed: '{where}' is not ADDRESS:PORT,PROCESSES,NUMBER, as 10.0.0.2:8476,4,0")
    if int(number) >= int(count):
        raise InputError(f"--distributed: number {number} of {count} processes; they are numbered from 0")
    return {"coordinator_address": address, "num_processes": int(count), "process_id": int(number)}


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
    return jax.process_index() == 0


def is_local(mesh: Mesh) -> bool:
    """Whether the run has several processes and all devices of the mesh belong to this one."""
    return is_multiprocess() and {device.process_index for device in mesh.devices.flat} == {jax.process_index()}


def lead(decision: int) -> None:
    """Broadcast the primary process's decision about the next shared stage, SKIP or WORK; the others call `follow`."""
    _broadcast_decision(decision)


def follow() -> bool:
    """Whether to work on the next shared stage, after the primary process has decided. Raises ResumableError if the
    primary process failed."""
    decision = _broadcast_decision(SKIP)
    if decision == _STOP:
        raise ResumableError("the first process stopped; its message says why, and the same command on all continues")
    return decision == WORK


@contextlib.contextmanager
def leading() -> Iterator[None]:
    """The primary process's part of a run: broadcasts at the end that it is over, and after a failure outside a shared
    stage, where the others are blocked in `follow`, that they have to stop."""
    try:
        yield
    except BaseException:
        if is_multiprocess() and not _in_shared_stage:
            with contextlib.suppress(Exception):
                _broadcast_decision(_STOP, LEAVE_SECONDS)
        raise
    lead(SKIP)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """The primary process's part of a shared stage, which all processes work on."""
    global _in_shared_stage
    lead(WORK)
    _in_shared_stage = True
    yield
    _in_shared_stage = False  # after a failure it stays set: the others are not in `follow`


def leave(code: int) -> NoReturn:
    """End this process with `code` after a failure.

    Waiting for the others at exit could deadlock, since they may be blocked on this process. So they are told through
    the coordination service first, except where this process stops in a resumable state: then mostly all of them stop
    at the same time, and one may still be writing the last checkpoint.
    """
    _ending.set()
    seconds = LEAVE_SECONDS
    with contextlib.suppress(Exception):
        if code != ResumableError.exit_code:
            _multihost().get_jax_distributed_client().key_value_set(_LEAVING, str(code), allow_overwrite=True)
            if not is_primary():
                seconds = END_SECONDS // 2  # JAX aborts the processes that are left when the primary one ends
        _barrier("aloe-leave", seconds)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _broadcast_decision(decision: int, seconds: int = _NO_TIMEOUT) -> int:
    if not is_multiprocess():
        return decision
    _barrier(f"aloe-{next(_barriers)}", seconds)
    return int(multihost_utils.broadcast_one_to_all(np.int32(decision)))


def _barrier(name: str, seconds: int) -> None:
    """Block until all processes have called this with the same `name`, each name once. The wait is in another thread,
    so that this one still handles signals."""
    everyone, failed = set(range(jax.process_count())), []

    def wait() -> None:
        try:
            _multihost().sync_global_processes(name, timeout=seconds, processes=everyone)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(1.0)
    if failed:
        raise failed[0]


def broadcast_from_primary(value: int) -> int:
    """The primary process's value, on all processes: on the others a shared folder may lag behind."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(value))) if is_multiprocess() else value


def largest(value: int) -> int:
    """The largest of all processes' values, on all processes."""
    return int(np.max(multihost_utils.process_allgather(np.int32(value)))) if is_multiprocess() else value


def broadcast_array_from_primary(array: np.ndarray) -> np.ndarray:
    """The primary process's array, on all processes. The arrays of the others give the type and the axes after the
    first; their length may differ."""
    if not is_multiprocess():
        return array
    length = broadcast_from_primary(len(array))
    if not length:
        return array[:0]
    own = array if is_primary() else np.zeros((length, *array.shape[1:]), array.dtype)
    return np.asarray(multihost_utils.broadcast_one_to_all(own))


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

"""Several processes that work on one run, each with its own devices: `jax.distributed`, and what they have to tell each
other. With one process everything here is free."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from orbax.checkpoint import multihost

from aloe_jax import files
from aloe_jax.errors import InputError, ResumableError

AUTO = "auto"
CONNECT_SECONDS = 300  # within which all processes have to be there
_AS_LONG_AS_IT_TAKES = 30 * 24 * 3600  # seconds; a stage of the first process may take days
LEAVE_SECONDS = 10  # for the others to hear that a process goes
LOOK_SECONDS = 1.0  # between two looks whether another process goes
END_SECONDS = 5  # for the others to end by themselves when they have heard it; less, so that they are gone before it
SKIP, WORK, _STOP = range(3)  # what the first process says of the next stage of all
_numbers = itertools.count()  # of the meetings so far, alike on every process
_together: list[bool] = []  # not empty while the first process works on a stage of all
_LEAVING = "aloe-leaving"  # the key under which a process that cannot go on says so
_over = threading.Event()  # set when this process ends


def connect(where: str) -> None:
    """Make this process one of several. `where` is "auto" on Cloud TPU slices and other clusters that JAX knows, else
    `ADDRESS:PORT,PROCESSES,NUMBER` with the address of process 0. To be called before anything asks for a device.

    Raises InputError if `where` has another form, if nothing tells "auto" what to do, or if the others do not come.
    """
    arguments = {} if where == AUTO else _arguments(where)
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from the command line
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX would abort the process when its own time is over.
    late = threading.Timer(CONNECT_SECONDS, _too_late)
    late.daemon = True
    late.start()
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
        late.cancel()
    watch = threading.Thread(target=_end_with_the_others, daemon=True)
    watch.start()
    # Python would cut the thread off at exit in the middle of JAX's code, which aborts the process.
    atexit.register(watch.join, LEAVE_SECONDS)
    atexit.register(_over.set)  # runs first


def _end_with_the_others() -> None:
    """End this process when another one has left that cannot go on. It may wait for that one on its devices, where no
    exception reaches it and JAX's heartbeat would be the first to notice. All that it writes survives a kill."""
    client, said = multihost.get_jax_distributed_client(), None
    while said is None:
        if _over.wait(LOOK_SECONDS):
            return
        with contextlib.suppress(Exception):  # JAX raises for a key that is not there
            said = client.key_value_try_get(_LEAVING)
    if not _over.wait(END_SECONDS):
        sentence = "another process of this run stopped; its message says why, and the same command on all continues"
        print(f"aloe: {sentence}", file=sys.stderr, flush=True)
        os._exit(ResumableError.exit_code)


def _too_late() -> None:
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
    """Whether there is more than one process."""
    return jax.process_count() > 1


def process_index() -> int:
    """The number of this process."""
    return jax.process_index()


def is_primary() -> bool:
    """Whether this is the process that writes files and speaks to people."""
    return jax.process_index() == 0


def is_local(mesh: Mesh) -> bool:
    """Whether only this process, of several, has devices of the mesh."""
    return is_multiprocess() and {device.process_index for device in mesh.devices.flat} == {jax.process_index()}


def lead(what: int) -> None:
    """The first process tells the others, which `follow`, whether to SKIP or WORK on the next stage of all."""
    _say(what)


def follow() -> bool:
    """Whether to work on the next stage of all, as soon as the first process says so. ResumableError if it cannot go
    on."""
    said = _say(SKIP)
    if said == _STOP:
        raise ResumableError("the first process stopped; its message says why, and the same command on all continues")
    return said == WORK


@contextlib.contextmanager
def leading() -> Iterator[None]:
    """The first process's part of a run: at the end it tells the others that it is over, and where it fails while they
    wait for it, that it cannot go on."""
    try:
        yield
    except BaseException:
        if is_multiprocess() and not _together:
            with contextlib.suppress(Exception):
                _say(_STOP, LEAVE_SECONDS)
        raise
    lead(SKIP)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """The first process works on a stage of all."""
    lead(WORK)
    _together.append(True)
    yield
    _together.clear()


def leave(code: int) -> NoReturn:
    """End this process, which cannot go on. One that waits for the others at exit would wait for ever: they may wait
    for it. They hear of it before it goes, unless it stops in a state to resume: mostly all do so together, and one of
    them may still be busy with the last checkpoint."""
    _over.set()
    seconds = LEAVE_SECONDS
    with contextlib.suppress(Exception):
        if code != ResumableError.exit_code:
            multihost.get_jax_distributed_client().key_value_set(_LEAVING, str(code), allow_overwrite=True)
            if not is_primary():
                seconds = END_SECONDS // 2  # JAX aborts a process that is there when the first one has ended
        _meet("aloe-leave", seconds)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _say(what: int, seconds: int = _AS_LONG_AS_IT_TAKES) -> int:
    if not is_multiprocess():
        return what
    _meet(f"aloe-{next(_numbers)}", seconds)
    return int(multihost_utils.broadcast_one_to_all(np.int32(what)))


def _meet(name: str, seconds: int) -> None:
    """Return when all processes have come here. Names are used once. Waiting in another thread lets signals through."""
    everyone, failed = set(range(jax.process_count())), []

    def meet() -> None:
        try:
            multihost.sync_global_processes(name, timeout=seconds, processes=everyone)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=meet, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(1.0)
    if failed:
        raise failed[0]


def broadcast_from_primary(value: int) -> int:
    """The first process's value, on all of them: they may see a shared folder a little later."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(value))) if is_multiprocess() else value


def broadcast_array_from_primary(array: np.ndarray) -> np.ndarray:
    """The first process's array, on all of them. Those of the others need only its type and its axes behind the first;
    they may be of another length."""
    if not is_multiprocess():
        return array
    length = broadcast_from_primary(len(array))
    if not length:
        return array[:0]
    mine = array if is_primary() else np.zeros((length, *array.shape[1:]), array.dtype)
    return np.asarray(multihost_utils.broadcast_one_to_all(mine))


def check_same(parts: Sequence[bytes | str], what: str) -> None:
    """InputError on every process if `parts` are not the same on all of them."""
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

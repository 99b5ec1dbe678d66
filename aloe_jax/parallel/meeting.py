"""The start of a run of several processes: `jax.distributed`, then the control connection."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import jax

from aloe_jax.errors import InputError
from aloe_jax.parallel.control import PRIMARY, Control, Failure
from aloe_jax.parallel.joining import Invitation, Listener, join
from aloe_jax.settings import setting

AUTO = "auto"
REFUSE, WARN = "refuse", "warn"
JOIN_SECONDS = 60  # to open the control connection, once the processes have met
SHUTDOWN_SECONDS = 300  # for all processes to end after the last stage
_INVITATION = "aloe-control"  # a key of JAX's coordination service
_LARGEST_PORT = 65535


@dataclass(frozen=True)
class HostSettings:
    """`config.hosts`: how the processes of a run of several hosts meet and watch each other."""

    # Slices of one job boot up to twelve minutes apart (marin-community/marin, pull requests 7030 and 7232).
    meet_seconds: int = setting(1800, "seconds that the processes wait for each other at the start", minimum=1)
    heartbeat_seconds: int = setting(
        900,
        "seconds without a sign of life after which JAX ends the run, where a lost connection has not done so; more "
        "than the longest compilation",
        minimum=1,
    )
    # The firewall rule of TPU pods lets 8470, 8471, 8474, 8476 and 11211 through (jax-ml/jax, issue 35905); libtpu
    # listens on 8471, and JAX's own choice since 0.8.1, 8482, is not among them.
    port: int = setting(
        8476,
        "port of JAX's coordinator on the first host with --distributed=auto; 0: JAX's own choice",
        minimum=0,
        maximum=_LARGEST_PORT,
    )
    control_port: int = setting(
        8474,
        "port on the first host through which the processes notice each other's end; if it is in use, or 0, any free "
        "one",
        minimum=0,
        maximum=_LARGEST_PORT,
    )
    topology: str = setting("", "TPU slice that has to be there, such as v5e:4x4; empty: not checked")
    preflight: str = setting(
        REFUSE,
        "what a failed check at the start does (docs/preflight.md): refuse the run, or warn and go on",
        choices=(REFUSE, WARN),
    )


@dataclass(frozen=True)
class Group:
    """The processes of a run: the address of process 0 with its port, their number, and the number of this one."""

    host: str
    port: int
    processes: int
    number: int


def group_of(where: str, settings: HostSettings) -> Group | None:
    """The processes of the run that `where` names, see `hosts.connect`; None if JAX detects none.

    Raises InputError if `where` has another form, and if the address of process 0 cannot be resolved in time.
    """
    if where == AUTO:
        _set_port(settings)
        address, processes, number = _detected(settings.meet_seconds)
        if address is None or processes is None or number is None:
            return None
    else:
        given = group_arguments(where)
        address, processes, number = given["coordinator_address"], given["num_processes"], given["process_id"]
    host, _, port = address.rpartition(":")
    return Group(host.strip("[]"), int(port), processes, number)


def _detected(seconds: int) -> tuple[str | None, int | None, int | None]:
    """Address of process 0, number of processes and number of this one, as `jax.distributed.initialize` will detect
    them; None for what it does not.

    JAX has no public name for it. A version of JAX that has moved it detects nothing here, so the processes meet
    without a roll call; tests/preflight/test_group.py notices.
    """
    try:
        from jax._src import distributed  # noqa: F401  # registers the clusters
        from jax._src.clusters import ClusterEnv

        found = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, seconds)
    except (ImportError, AttributeError, TypeError, ValueError):  # the last is JAX's own, for a wrong variable
        return None, None, None
    except RuntimeError as error:
        raise InputError(
            f"--distributed: JAX does not find the hosts of this run ({error}); `getent hosts NAME` has to find the "
            "one of process 0, or `unset MEGASCALE_COORDINATOR_ADDRESS TPU_WORKER_HOSTNAMES` if a job before left them"
        ) from None
    return found[0], found[1], found[2]


def _set_port(settings: HostSettings) -> None:
    """The only way to give JAX the coordinator's port alone."""
    if settings.port:
        os.environ.setdefault("JAX_COORDINATOR_PORT", str(settings.port))


def meet(where: str, settings: HostSettings, on_failure: Callable[[Failure], None]) -> Control | None:
    """Connect this process with the others of its run; see `hosts.connect`. Returns None if it is the only one."""
    arguments = {} if where == AUTO else group_arguments(where)
    if where == AUTO:
        _set_port(settings)
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from the command line
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # At its own timeout JAX aborts the process; this timer ends it with a sentence before that.
    timer = threading.Timer(settings.meet_seconds, _exit_unconnected, (settings.meet_seconds,))
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=2 * settings.meet_seconds,
            heartbeat_timeout_seconds=settings.heartbeat_seconds,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
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
    return _control(settings.control_port, on_failure)


def _control(port: int, on_failure: Callable[[Failure], None]) -> Control | None:
    """This process's end of the control connection. Process 0 publishes port and token in JAX's coordination service,
    which every process of the run can read."""
    state = jax_state()
    if state.num_processes == 1:
        return None
    host = state.coordinator_address.rpartition(":")[0].strip("[]")
    if state.process_id == PRIMARY:
        listener = Listener(host, port, state.num_processes)
        state.client.key_value_set(_INVITATION, json.dumps(asdict(listener.invitation)))
        return Control(PRIMARY, listener.accept(JOIN_SECONDS), on_failure)
    invitation = Invitation(**json.loads(state.client.blocking_key_value_get(_INVITATION, 1000 * JOIN_SECONDS)))
    connection = join(host, invitation, state.process_id, JOIN_SECONDS)
    control = Control(state.process_id, {PRIMARY: connection}, on_failure)
    if state.num_processes != invitation.processes:  # JAX only counts those that process 0 expects
        error = InputError(
            f"--distributed: {state.num_processes} processes for number {state.process_id}, where process 0 was "
            f"started with {invitation.processes}; give all of them the same number"
        )
        control.report(error.exit_code, str(error))
        raise error
    return control


def jax_state() -> Any:
    """JAX's record of the run: the address of its coordinator, the client, numbers. JAX has no public name for it;
    Orbax reads it too."""
    from jax._src import distributed

    return distributed.global_state


def _exit_unconnected(seconds: int) -> None:
    print(
        f"aloe: --distributed: not all processes met within {seconds} seconds (config.hosts.meet_seconds); start the "
        "same command on every host, each with a number of its own, and see that all reach the address of process 0",
        file=sys.stderr,
        flush=True,
    )
    os._exit(InputError.exit_code)


def group_arguments(where: str) -> dict[str, Any]:
    """`ADDRESS:PORT,PROCESSES,NUMBER` as arguments of `jax.distributed.initialize`; InputError for another form."""
    address, _, rest = where.partition(",")
    count, _, number = rest.partition(",")
    port = address.rpartition(":")[2]
    if not (address.rpartition(":")[0] and port.isdigit() and count.isdigit() and number.isdigit()):
        raise InputError(f"--distributed: '{where}' is not ADDRESS:PORT,PROCESSES,NUMBER, as 10.0.0.2:8476,4,0")
    if int(number) >= int(count):
        raise InputError(f"--distributed: number {number} of {count} processes; they are numbered from 0")
    return {"coordinator_address": address, "num_processes": int(count), "process_id": int(number)}

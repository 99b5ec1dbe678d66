"""Decoding on several hosts: the primary process sends every plan to the others, and all run it.

Programs of several devices have to start in the same order on all processes. So the primary process sends a plan and
starts its programs under one lock, whatever engine and thread it comes from.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator

import numpy as np

from aloe_jax.decode.executor import Executor
from aloe_jax.decode.plans import KINDS, Plan
from aloe_jax.parallel import hosts

_order = threading.RLock()
_numbers = itertools.count()
_CLOSED = -1  # in place of a plan's kind


class Relay:
    """One engine's way to the other processes, which `follow` takes part in."""

    def __init__(self) -> None:
        self._number = next(_numbers)

    @contextlib.contextmanager
    def opening(self, name: str) -> Iterator[None]:
        """A block in which all processes load the model `name` and make the engine's executor."""
        with _order:
            hosts.send(json.dumps([self._number, name]).encode())
            yield

    @contextlib.contextmanager
    def running(self, plan: Plan) -> Iterator[None]:
        """A block in which all processes run a plan."""
        with _order:
            hosts.send([np.array([self._number, KINDS.index(type(plan))]), *plan])
            yield

    def close(self) -> None:
        """Let the other processes free the memory of the engine."""
        with _order:
            hosts.send([np.array([self._number, _CLOSED])])


def follow(make: Callable[[str], Executor]) -> None:
    """Run what the primary process runs, on another process, until it says `hosts.END`. `make` loads the model of that
    name. Raises OtherProcessError if a process has left."""
    executors: dict[int, Executor] = {}
    try:
        while (message := hosts.receive()) != hosts.END:
            if isinstance(message, bytes):
                number, name = json.loads(message)
                executors[number] = make(name)
                continue
            (number, kind), *arrays = message[0].tolist(), *message[1:]
            if kind == _CLOSED:
                executors.pop(number).close()
            else:
                executors[number].run(KINDS[kind](*arrays))
    finally:
        for executor in executors.values():
            executor.close()

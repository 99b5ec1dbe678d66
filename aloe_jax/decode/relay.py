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
from aloe_jax.models import decoder
from aloe_jax.parallel import hosts
from aloe_jax.parallel.control import OtherProcessError

_order = threading.RLock()
_numbers = itertools.count()
_CLOSED = -1  # in place of a plan's kind


class Relay:
    """One engine's way to the other processes, each of which has a `Follower`."""

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
        """Let the other processes free the memory of the engine. One that has left needs no telling."""
        with _order, contextlib.suppress(OtherProcessError):
            hosts.send([np.array([self._number, _CLOSED])])


class Follower:
    """Another process's part in engines of the primary process: their executors here. `make` loads the model of that
    name."""

    def __init__(self, make: Callable[[str], Executor]) -> None:
        self._make = make
        self._executors: dict[int, Executor] = {}

    def follow(self) -> None:
        """Run what the primary process runs until it sends `hosts.END`. Raises OtherProcessError if a process has
        left."""
        while (message := hosts.receive()) != hosts.END:
            if isinstance(message, bytes):
                number, name = json.loads(message)
                self._executors[number] = self._make(name)
                continue
            (number, kind), *arrays = message[0].tolist(), *message[1:]
            if kind == _CLOSED:
                self._executors.pop(number).close()
            else:
                self._executors[number].run(KINDS[kind](*arrays))

    def load(self, params: decoder.Params) -> None:
        """Replace the parameters as the primary process does now with those of its only engine (`Engine.load`)."""
        (executor,) = self._executors.values()
        executor.load(params)

    def unload(self) -> None:
        """Free the memory of parameters and cache until others are loaded, as `Engine.unload` does."""
        for executor in self._executors.values():
            executor.unload()

    def close(self) -> None:
        """Free the memory of all of them."""
        for executor in self._executors.values():
            executor.close()
        self._executors.clear()

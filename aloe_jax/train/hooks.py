"""Hooks of a training: functions that are called after a step, each at its own interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax

from aloe_jax.train.feed import Fed
from aloe_jax.train.state import TrainState


@dataclass(frozen=True)
class AfterStep:
    """A dispatched step: its number from 1, the state after it, its metrics, its batch, and whether it is the last."""

    number: int
    state: TrainState
    metrics: Mapping[str, jax.Array]
    fed: Fed
    last: bool


Hook = Callable[[AfterStep], bool]  # returns whether a stop was requested


@dataclass(frozen=True)
class _Entry:
    hook: Hook
    every: int
    at_end: bool
    at_stop: bool
    can_wait: bool
    when: Callable[[], bool]

    def due(self, step: AfterStep, stopping: bool) -> bool:
        if stopping and self.can_wait:
            return False
        by_step = step.number % self.every == 0 or (self.at_end and step.last) or (self.at_stop and stopping)
        return by_step or self.when()


class Hooks:
    """The hooks of a training, called in the order they were added."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def add(
        self,
        hook: Hook,
        every: int = 1,
        at_end: bool = False,
        at_stop: bool = False,
        can_wait: bool = False,
        when: Callable[[], bool] = lambda: False,
    ) -> None:
        """Call `hook` after every `every`-th step; with `at_end` also after the last one, with `at_stop` also when an
        earlier hook returned that a stop was requested. With `can_wait` it is not called then: what is left of a
        process that must end belongs to the checkpoint, and the next call makes up for it. `when` is asked after each
        other step whether the hook is to run all the same."""
        self._entries.append(_Entry(hook, every, at_end, at_stop, can_wait, when))

    def run(self, step: AfterStep) -> bool:
        """Call the hooks that are due after a step; returns whether the training must stop: before its end, or after
        the last step with a hook that did not run."""
        stopping = False
        for entry in self._entries:
            if entry.due(step, stopping):
                stopping |= entry.hook(step)
        waiting = any(entry.can_wait and entry.due(step, stopping=False) for entry in self._entries)
        return stopping and (waiting or not step.last)

"""What a training is fed: the batches of a dataset, whose plan is made at the start, or batches made as it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from aloe_jax.data.pipeline import Batches, owned_rows, to_device
from aloe_jax.train.rounding import loss_tolerance
from aloe_jax.train.state import TrainState
from aloe_jax.train.work import Work, works_of
from aloe_jax.tree.row import TreeRow

if TYPE_CHECKING:
    from aloe_jax.train.loop import Training


class Expected(NamedTuple):
    """The loss that a step must have, the difference that rounding allows, and what to do if it differs."""

    loss: float
    tolerance: float
    remedy: str


@dataclass(frozen=True)
class Fed:
    """The global batch of a step.

    Attributes:
        rows: [N, B, ...] on the mesh, of which the first `used` of the N micro-batches are not empty.
        work: what the step computes.
        names: the conversations in it, for messages.
        expected: the loss of this step, where it is known.
        measured: what its line of metrics.jsonl says besides.
    """

    rows: TreeRow
    used: np.int32
    work: Work
    names: Callable[[], str]
    expected: Expected | None = None
    measured: Mapping[str, float] = field(default_factory=dict)


class Feeding(Protocol):
    """A feed that is open at a step."""

    def next(self, number: int, state: TrainState) -> Fed:
        """The batch of step `number`, from 1, which `state` is about to learn from. Called for one step after the
        other, by all processes together."""
        ...

    def position(self) -> dict[str, int]:
        """Where the next batch stands: what a checkpoint keeps, and `Feed.open` takes."""
        ...

    def over(self) -> bool:
        """Whether there is no further batch, on all processes alike."""
        ...


class Feed(Protocol):
    """The batches of a training."""

    def __len__(self) -> int:
        """The number of steps, at most."""
        ...

    def open(self, training: Training, position: Mapping[str, int]) -> Feeding:
        """The batches from a position on; the first one of all has `START`."""
        ...


START: Mapping[str, int] = {"next_index": 0}


@dataclass(frozen=True)
class DatasetFeed:
    """Implements `Feed` with the batches of a dataset. `first_loss` is the expected loss of the first step, if
    known."""

    batches: Batches
    first_loss: float | None = None

    def __len__(self) -> int:
        return len(self.batches)

    def open(self, training: Training, position: Mapping[str, int]) -> Feeding:
        """Batches read by Grain, whose state is the step index and nothing else."""
        return _FromDataset(self, training, position)


class _FromDataset:
    def __init__(self, feed: DatasetFeed, training: Training, position: Mapping[str, int]) -> None:
        self._batches, self._first_loss, self._training = feed.batches, feed.first_loss, training
        self._works = works_of(feed.batches, training.model)
        self._iterator = feed.batches.iterator(owned_rows(feed.batches.rows, training.mesh))
        self._iterator.set_state(dict(position))

    def next(self, number: int, state: TrainState) -> Fed:
        batches = self._batches
        rows = to_device(next(self._iterator), batches.rows, self._training.mesh)
        used = np.int32(batches.used(number - 1))
        expected = self._expected() if number == 1 and self._first_loss is not None else None
        return Fed(rows, used, self._works[number - 1], lambda: self._names(number - 1), expected)

    def position(self) -> dict[str, int]:
        return dict(self._iterator.get_state())

    def over(self) -> bool:
        return self._iterator.get_state()["next_index"] >= len(self._batches)

    def _names(self, step: int) -> str:
        source, rows = self._batches.source, self._batches.plan.steps[step]
        return source.names(sorted({int(source.conversation[index]) for row in rows for index in row}))

    def _expected(self) -> Expected:
        training, loss = self._training, self._first_loss
        assert loss is not None
        tolerance = loss_tolerance(
            training.settings, self._batches, training.compute.dtype, training.model.layers, loss
        )
        return Expected(
            loss,
            tolerance,
            "the step computes other log-probabilities than those in the stage's reference file; delete that file and "
            "run again, and if that changes nothing start the trainings over with --fresh and "
            "config.compute.attention=dense or config.compute.dtype=float32",
        )

"""What a plan reads of an experiment's settings, and which of them decide a training's program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from aloe_jax.data.settings import DatasetSettings
from aloe_jax.decode.settings import DecodeSettings
from aloe_jax.errors import InputError
from aloe_jax.models.lora import LoraSettings
from aloe_jax.parallel.mesh import MeshSettings
from aloe_jax.run.settings import ModelSettings
from aloe_jax.serve.settings import ServeSettings
from aloe_jax.settings import missing_key, plain
from aloe_jax.train.forward import Compute
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.optimizer import OptimizerSettings
from aloe_jax.train.settings import LoopSettings, TrainingSettings
from aloe_jax.tree.schema import Conversation

# Of the optimiser's settings, those that only change constants of the program, not the program.
CONSTANTS = ("learning_rate", "warmup", "weight_decay")
T = TypeVar("T")


@dataclass(frozen=True)
class GrownConversations:
    """The conversations that `config.conversations` asks for: what a step is assumed to be fed."""

    trees: int  # conversations of an epoch
    turns: int  # user turns of each
    replies: int  # candidates per turn, those of all conditions together


@dataclass(frozen=True)
class BenchmarkDialogues:
    """The dialogues that `config.benchmark` asks for."""

    turns: int  # user turns of each
    max_tokens: int  # longest reply


@dataclass(frozen=True)
class Rounds:
    """The rounds that `config.online` asks for."""

    count: int
    batch: int  # trees that grow together, turn by turn
    max_tokens: int  # longest reply
    trees: Callable[[], Sequence[Conversation]]  # of a round, without texts; what is learned from has an advantage


@dataclass(frozen=True)
class PlannedSettings:
    """The settings of an experiment as a plan reads them.

    Attributes:
        sections: a settings object by section of the config. A section that the config file leaves out is missing; it
            raises InputError where a stage reads it.
        conversations: from the section of that name, whose class a plan does not import.
        benchmark: the same.
        online: the same.
    """

    sections: Mapping[str, object] = field(repr=False)
    conversations: GrownConversations | None = None
    benchmark: BenchmarkDialogues | None = None
    online: Rounds | None = None

    @property
    def model(self) -> ModelSettings:
        """`config.model`."""
        return self._section("model", ModelSettings)

    @property
    def lora(self) -> LoraSettings:
        """`config.lora`."""
        return self._section("lora", LoraSettings)

    @property
    def mesh(self) -> MeshSettings:
        """`config.mesh`."""
        return self._section("mesh", MeshSettings)

    @property
    def compute(self) -> Compute:
        """`config.compute`."""
        return self._section("compute", Compute)

    @property
    def dataset(self) -> DatasetSettings:
        """`config.dataset`."""
        return self._section("dataset", DatasetSettings)

    @property
    def decode(self) -> DecodeSettings:
        return self._section("decode", DecodeSettings)

    @property
    def serve(self) -> ServeSettings:
        """`config.serve`."""
        return self._section("serve", ServeSettings)

    @property
    def grown(self) -> GrownConversations:
        """`conversations`; InputError if the config file leaves them out."""
        return _given(self.conversations, "conversations")

    @property
    def dialogues(self) -> BenchmarkDialogues:
        """`benchmark`; InputError if the config file leaves it out."""
        return _given(self.benchmark, "benchmark")

    @property
    def rounds(self) -> Rounds:
        """`online`; InputError if the config file leaves it out."""
        return _given(self.online, "online")

    @property
    def updates(self) -> LoopSettings:
        """`config.online` as a training of any kind."""
        return self._section("online", LoopSettings)

    def training(self, stage: str) -> TrainingSettings:
        """`config.sft` or `config.preference`."""
        return self._section(stage, TrainingSettings)

    def replaced(self, **sections: object) -> PlannedSettings:
        """The same with other settings objects for some sections."""
        return dataclasses.replace(self, sections={**self.sections, **sections})

    def _section(self, name: str, kind: type[T]) -> T:
        value = _given(self.sections.get(name), name)
        assert isinstance(value, kind), f"config.{name} is of {type(value).__name__}, not of {kind.__name__}"
        return value


def _given(value: T | None, name: str) -> T:
    if value is None:
        raise InputError(missing_key(f"config.{name}"))
    return value


def program_settings(training: LoopSettings) -> dict[str, object]:
    """Plain values of the settings of a training that its compiled program is made from: all of the objective, and of
    the optimiser all but `CONSTANTS`."""
    fields = (*dataclasses.fields(ObjectiveSettings), *dataclasses.fields(OptimizerSettings))
    return {one.name: plain(getattr(training, one.name)) for one in fields if one.name not in CONSTANTS}

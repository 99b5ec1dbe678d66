"""The records that a plan's report consists of. Their fields are the keys of the report as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aloe_jax.plan.roofline import Roofline
from aloe_jax.plan.topology import Topology


@dataclass(frozen=True)
class Memory:
    """Bytes of one chip. `available` is the chip's memory, or what the compiler may use of it where it refused;
    `beside` is what stays there meanwhile and is not the program's."""

    parameters: float
    optimizer: float
    temporaries: float
    peak: float
    available: float
    beside: float = 0.0

    @property
    def total(self) -> float:
        """The program's peak and what stays beside it."""
        return self.peak + self.beside

    @property
    def fits(self) -> bool:
        """Whether the total is within what is available."""
        return self.total <= self.available


@dataclass(frozen=True)
class Program:
    """One compiled program; `flops`, `hbm` and `received` (bytes by kind of collective) are per chip and run."""

    name: str
    memory: Memory
    flops: float
    hbm: float
    received: Mapping[str, float]
    collectives: Mapping[str, int]
    time: Roofline | None  # None for a program that the compiler refused
    compile_seconds: float
    over: Mapping[str, float]  # `received` by the places along each axis that the chips of a group take up
    unbounded: Sequence[str]  # loops that count once because the module does not say how often they run
    beside: float = 0.0  # of `received`, bytes in collectives beside which the chip computes
    unread: str = ""  # why the module's text cannot be read, so its traffic is unknown; empty: it was read


@dataclass(frozen=True)
class Filled:
    """A step with a batch of that size. Seconds, chip-seconds and useful share of the peak follow the estimate; None
    where there is none."""

    batch: int
    unit: str
    rows: int
    micro_batches: int
    real_tokens: float
    conversations: float
    seconds: float | None
    chip_seconds: float | None  # per conversation
    useful: float | None  # operations that the objective needs, over what the chips could do in that time

    @property
    def speed(self) -> float:
        """Real tokens per second; 0 without an estimate."""
        return self.real_tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class TrainingPlan:
    """What a training step is fed, and what it costs."""

    workload: str
    rows: int  # per micro-batch
    rows_a_chip: float
    row_tokens: int
    remat: str
    sharing: float  # tokens of the layout with one sequence per reply over ours
    configured: Filled
    full: Filled  # the largest batch that the compiled rows hold
    unshared_chip_seconds: (
        float | None
    )  # per conversation as one sequence per reply, in rows as full, at the same speed
    conversations: int  # of the whole training: those of an epoch, times the epochs

    @property
    def seconds(self) -> float | None:
        """Of the whole training with the config's batch; None where there is no estimate."""
        step = self.configured
        return step.seconds * math.ceil(self.conversations / step.conversations) if step.seconds else None


@dataclass(frozen=True)
class DecodingPlan:
    """What the engine decodes when all its slots are busy and full."""

    slots: int
    context: int  # tokens of each
    tokens_a_second: float  # of the slice
    dialogue_seconds: float  # chip-seconds per dialogue of the benchmark
    step_bytes: float  # of HBM per chip and step
    least_bytes: float  # the least that a step can move: weights and live pages once
    chips: int


@dataclass(frozen=True)
class OnlinePlan:
    """A round of on-policy training: what it samples and learns from, and how long that takes. Bytes are per chip."""

    workload: str
    rounds: int
    trees: int
    batch: int  # trees that grow together
    replies: int
    tokens: int  # sampled
    at_once: int  # replies that are sampled together at most
    slots: int
    context: int
    engine_mesh: Mapping[str, int]
    engine_dtype: str
    steps: int  # of decoding
    prefills: int
    learned: int  # replies that are learned from
    learned_tokens: int  # and what they read
    rows: int  # that they are packed into
    room: int  # rows of the micro-batches that hold them
    row_tokens: int
    micro_batches: int
    trainer: float  # parameters and optimiser state
    reference: float
    engine: float  # its copy of the parameters
    pages: float
    decoding_seconds: float | None  # None where a program was refused
    prefill_seconds: float | None
    pass_seconds: float | None  # of policy and reference, both
    step_seconds: float | None

    @property
    def idle(self) -> int:
        """Slots that are never busy."""
        return max(0, self.slots - self.at_once)

    @property
    def rollout_seconds(self) -> float | None:
        """Of a round, without what the other roles take."""
        return _sum(self.decoding_seconds, self.prefill_seconds)

    @property
    def update_seconds(self) -> float | None:
        """Of a round."""
        return _sum(self.pass_seconds, self.step_seconds)

    @property
    def seconds(self) -> float | None:
        """Of a round."""
        return _sum(self.rollout_seconds, self.update_seconds)


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


@dataclass(frozen=True)
class Plan:
    """The whole report; `report_json.to_json` and `report.to_text` print it."""

    stage: str
    topology: Topology
    mesh: Mapping[str, int]
    attention: str
    dtype: str  # that the programs compute in
    flags: str
    warnings: tuple[str, ...]
    programs: tuple[Program, ...]
    training: TrainingPlan | None
    decoding: DecodingPlan | None
    online: OnlinePlan | None = None

    @property
    def fits(self) -> bool:
        """Whether every program fits."""
        return all(program.memory.fits for program in self.programs)


@dataclass(frozen=True)
class Candidate:
    """What a search tried: the plan, and by full name the settings that `aloe run` needs for it."""

    settings: Mapping[str, int | float | str]
    plan: Plan

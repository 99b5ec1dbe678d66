"""`pool.json`: how the pools of a run were made, and how far the held-out entries are from the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from data_gen.personas.contamination import Contamination
from data_gen.personas.entry import Origin
from data_gen.personas.loop import PoolResult, StopReason

REPORT = "pool.json"
_ORIGINS: tuple[Origin, ...] = ("seed", "generated", "file")


class PoolPart(TypedDict):
    """One pool. `nearest` and `seeds_nearest` are the distributions of nearest-neighbour cosines."""

    entries: int
    origins: dict[Origin, int]
    stopped: StopReason
    rounds: int
    threshold: float
    nearest: Mapping[str, float]
    seeds_nearest: Mapping[str, float]
    rejects: Mapping[str, int]


class PoolReport(TypedDict):
    """The whole file."""

    profiles: PoolPart
    personalities: PoolPart
    contamination: Contamination


def pool_part(pool: PoolResult) -> PoolPart:
    """The report's part about one pool."""
    return {
        "entries": len(pool.entries),
        "origins": {origin: sum(entry.origin == origin for entry in pool.entries) for origin in _ORIGINS},
        "stopped": pool.stopped,
        "rounds": pool.rounds,
        "threshold": round(pool.threshold, 4),
        "nearest": dict(pool.distribution),
        "seeds_nearest": dict(pool.seed_distribution),
        "rejects": dict(pool.rejects),
    }


def manifest_counts(part: PoolPart) -> dict[str, object]:
    """What the stage's manifest says of a pool."""
    return {
        "entries": part["entries"],
        "stopped": part["stopped"],
        "rounds": part["rounds"],
        "threshold": part["threshold"],
        "rejects": part["rejects"],
    }

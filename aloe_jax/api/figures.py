"""The benchmark's metrics of judged replies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aloe_jax.api.records import as_record
from eval.benchmark.metrics import Metrics
from eval.benchmark.metrics import metrics as computed
from eval.benchmark.scores import ScoreRecord

__all__ = ["Metrics", "ScoreRecord", "metrics"]


def metrics(scores: Iterable[ScoreRecord | Mapping[str, Any]], resamples: int = 2000, seed: int = 0) -> Metrics:
    """What `aloe metrics` prints: alignment level by turn, average, improvement rate and fit, with 95 % intervals.

    `scores` are records or dicts with `case`, `profile`, `personality`, `turn` (from 1) and `score` (None: unscored),
    for every case and turn. `resamples` and `seed` are those of the bootstrap. Raises InputError for a broken score, a
    score given twice and a turn that a case lacks.
    """
    records = [as_record(ScoreRecord, score, f"score {number}") for number, score in enumerate(scores)]
    return computed(records, resamples, seed)

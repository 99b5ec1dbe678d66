"""The files of a small run that must be equal whatever happened under way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aloe_jax.train.metrics_log import TIME_FIELDS
from helpers.same_trees import assert_same_trees

# Files that must be equal byte for byte; of trees that our engine sampled all but the rounding of log-probabilities.
EQUAL = (
    "personas/personas.jsonl",
    "personas/benchmark.jsonl",
    "conversations/trees.jsonl",
    *(
        f"benchmark/{model}/{file}"
        for model in ("base", "sft", "preference")
        for file in ("trees.jsonl", "scores.jsonl", "metrics.json")
    ),
    "export/model.safetensors",
    "export/tokenizer.json",
)


def steps(workdir: Path, stage: str) -> list[dict[str, Any]]:
    """The lines of a training's metrics.jsonl without their times."""
    records = [json.loads(line) for line in (workdir / stage / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name not in TIME_FIELDS} for record in records]


def rounds(workdir: Path) -> dict[str, bytes]:
    """The files of on-policy rounds that are kept, by name."""
    found = sorted((workdir / "online/rounds").glob("*/*"))
    return {str(path.relative_to(workdir)): path.read_bytes() for path in found}


def assert_equal_files(workdir: Path, other: Path, stage: str = "") -> None:
    """Hold the files in `EQUAL` of a stage, or of all, to be equal."""
    for name in EQUAL:
        if not name.startswith(stage):
            continue
        if name.endswith("trees.jsonl"):
            assert_same_trees(workdir / name, other / name)
        else:
            assert (workdir / name).read_bytes() == (other / name).read_bytes(), name


def assert_equal_runs(workdir: Path, other: Path) -> None:
    """Hold all files in `EQUAL` and the lines of both trainings to be equal."""
    assert_equal_files(workdir, other)
    for stage in ("sft", "preference"):
        assert steps(workdir, stage) == steps(other, stage)

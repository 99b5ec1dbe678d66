"""`metrics.jsonl`: one object a step, every step once, whatever was interrupted."""

from __future__ import annotations

import json
from typing import Any

from etils import epath

from aloe_jax import files

# What may differ between two runs of the same training.
TIME_FIELDS = ("seconds", "tokens_per_second")


class MetricsLog:
    """Appends a line a step. Opening it at `step` drops the lines of later steps, which will be computed again, and a
    torn last line."""

    def __init__(self, path: epath.PathLike, step: int) -> None:
        self._path = epath.Path(path)
        files.repair_lines(path)
        records = files.read_json_lines(path) if self._path.exists() else []
        files.write_lines(path, (json.dumps(record) for record in records if record["step"] <= step))

    def append(self, record: dict[str, Any]) -> None:
        """A mean over nothing is NaN, which JSON does not have: it is written as null."""
        values = {name: None if value != value else value for name, value in record.items()}
        files.append_line(self._path, json.dumps(values))

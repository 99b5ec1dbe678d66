"""Names of the files that data generation leaves in a run directory and that several rooms read."""

from __future__ import annotations

PERSONAS, HELD_OUT = "personas.jsonl", "benchmark.jsonl"  # of the stage `personas`
TREES, JUDGE = "trees.jsonl", "judge.json"  # of the stage `conversations`

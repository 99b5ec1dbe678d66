"""Names of a run's own models."""

from __future__ import annotations

BASE = "base"  # the start model
CHAIN = ("sft", "preference")  # the trainings of a run; each starts from the one before
OWN = (BASE, *CHAIN)

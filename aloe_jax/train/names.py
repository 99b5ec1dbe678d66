"""Names of a run's own models."""

from __future__ import annotations

BASE = "base"  # the start model
CHAIN = SFT, PREFERENCE, ONLINE = ("sft", "preference", "online")  # the trainings of a run
OWN = (BASE, *CHAIN)
USUAL = (BASE, SFT, PREFERENCE)  # those of a run without on-policy training

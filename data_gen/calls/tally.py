"""What the ledgers say in numbers: for the panel while conversations grow and for the manifest afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_gen.calls.store import EVENTS, PREFERENCES, REJECTS, records
from data_gen.roles import Comparison


class Tally:
    """Texts turned down by reason, conversations given up, and the judge's comparisons: all, those it gave no readable
    verdict on, and those whose verdict turned with the order."""

    def __init__(self) -> None:
        self.rejects: Counter[str] = Counter()
        self.given_up = self.compared = self.unreadable = self.flipped = 0

    @classmethod
    def of(cls, directory: Path) -> Tally:
        """Of everything that a store's files hold."""
        tally = cls()
        for ledger in (REJECTS, PREFERENCES, EVENTS):
            for record in records(directory, ledger):
                tally.noted(ledger, record)
        return tally

    def noted(self, ledger: str, record: Mapping[str, Any]) -> None:
        """Count one more record."""
        if ledger == REJECTS:
            self.rejects[record["reason"]] += 1
        elif ledger == PREFERENCES:
            orders = record.get("orders")
            self.compared += 1
            self.unreadable += orders is None
            self.flipped += orders is not None and Comparison(*orders).flipped
        elif ledger == EVENTS:
            self.given_up += record["event"] == "given_up"

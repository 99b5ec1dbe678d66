"""The ledgers in numbers: for the panel while conversations grow and for the manifest afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from data_gen.calls.store import EVENTS, PREFERENCES, REJECTS, records
from data_gen.roles import Comparison

FEW_TURNS = "too few turns"  # of a conversation in which the guards let too little through


class Tally:
    """Texts turned down and conversations given up, both by reason, and the judge's comparisons: all of them, those
    without a readable verdict, and those that are inconclusive, as the verdict turned with the order."""

    def __init__(self) -> None:
        self.rejects: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()  # of conversations that were given up
        self.given_up = self.compared = self.unreadable = self.inconclusive = 0

    @classmethod
    def of(cls, directory: Path) -> Tally:
        """The tally of all that a store's files hold."""
        tally = cls()
        for ledger in (REJECTS, PREFERENCES, EVENTS):
            for record in records(directory, ledger):
                tally.noted(ledger, record)
        return tally

    def noted(self, ledger: str, record: Mapping[str, object]) -> None:
        """Count one more record."""
        if ledger == REJECTS:
            self.rejects[str(record["reason"])] += 1
        elif ledger == PREFERENCES:
            orders = record.get("orders")  # the first reply's probability, shown first and shown second
            self.compared += 1
            if isinstance(orders, list):
                self.inconclusive += Comparison(*orders).inconclusive
            else:
                self.unreadable += 1
        elif ledger == EVENTS and record.get("event") == "given_up":
            self.given_up += 1
            self.reasons[str(record.get("reason", FEW_TURNS))] += 1

"""Agreement of two labellers on pairs of replies beyond chance: Cohen's kappa."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Choice = Literal["first", "second", "tie"]
MINIMUM = 2  # pairs below which kappa is undefined


@dataclass(frozen=True)
class Agreement:
    """`n` pairs that both labelled, the share on which they agree, and Cohen's kappa. The share is None without any
    pair, kappa with fewer than two pairs and where chance agreement is 1 (both said tie every time)."""

    n: int
    agreement: float | None
    kappa: float | None


def kappa(pairs: Sequence[tuple[Choice, Choice]]) -> Agreement:
    """Agreement of two labellers; each item is their two labels for one pair of replies, in the same reply order.

        kappa = (observed - chance) / (1 - chance)

    Which reply comes first carries no meaning, so each pair counts in both orders: a labeller's shares of "first" and
    "second" are then equal, and kappa does not depend on the order. With t1 and t2 the two labellers' shares of ties,
    chance = t1 t2 + (1 - t1)(1 - t2) / 2; without ties it is 1/2.

    By hand: (first, first), (first, first), (second, first), (tie, second), (tie, tie) agree 3 times in 5, t1 = 2/5,
    t2 = 1/5, chance = 2/25 + (3/5)(4/5)/2 = 8/25, kappa = (15/25 - 8/25) / (17/25) = 7/17.
    """
    n = len(pairs)
    if n == 0:
        return Agreement(0, None, None)
    observed = sum(one == other for one, other in pairs) / n
    ties_one, ties_other = (sum(pair[who] == "tie" for pair in pairs) / n for who in (0, 1))
    chance = ties_one * ties_other + (1 - ties_one) * (1 - ties_other) / 2
    if n < MINIMUM or chance == 1:
        return Agreement(n, observed, None)
    return Agreement(n, observed, (observed - chance) / (1 - chance))

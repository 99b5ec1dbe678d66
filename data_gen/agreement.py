"""Agreement of two raters beyond chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


def cohens_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Cohen's kappa (Educational and Psychological Measurement 20, 1960) of two raters' labels for the same items:
    1 for full agreement, 0 for what chance gives, None where chance alone gives full agreement or there is no item."""
    count = len(first)
    if not count:
        return None
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / count
    shares, others = Counter(first), Counter(second)
    expected = sum(shares[label] * others[label] for label in shares) / count**2
    return None if expected == 1.0 else (agreed - expected) / (1.0 - expected)

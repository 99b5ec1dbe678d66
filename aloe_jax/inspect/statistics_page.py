"""What the template `statistics.html` (aloe_jax/pages/shared) shows of statistics."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from aloe_jax.inspect.histogram import histogram
from aloe_jax.inspect.statistics import Statistics
from aloe_jax.inspect.statistics_wording import sentences, summary


@dataclass(frozen=True)
class Shown:
    """Sentences, and (name, quantiles, picture) per distribution."""

    sentences: tuple[str, ...]
    pictures: tuple[tuple[str, str, Markup], ...]


def shown(found: Statistics) -> Shown:
    """The statistics for the template."""
    pictures = tuple((each.name, summary(each), histogram(each)) for each in found.distributions)
    return Shown(tuple(sentences(found)), pictures)

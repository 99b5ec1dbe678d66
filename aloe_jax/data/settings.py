"""`config.dataset`: the sources that are mixed, and the rows they are packed into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aloe_jax.settings import section, setting
from aloe_jax.tree.row import Capacity

TREES = "trees"  # the source that defines an epoch


@dataclass(frozen=True)
class SourceSettings:
    """A source of conversations."""

    path: str = setting(
        "", "JSON lines or parquet files, here or in gs://, separated by commas; * and ? match existing files"
    )
    weight: float = setting(
        1.0, "conversations per epoch, as a multiple of the number of trees (over the weight of `trees`)"
    )
    loss_weight: float = setting(
        1.0, "factor of the weights of its tokens in SFT and of its pairs in preference training"
    )


def _sources() -> dict[str, SourceSettings]:
    return {TREES: SourceSettings(), "chat": SourceSettings()}


@dataclass(frozen=True)
class DatasetSettings:
    """Rows and sources. A path for the source `trees` replaces the run's own conversations; `chat` are ordinary chats
    to mix in, left out without a path. A config file may add further sources (docs/data.md)."""

    row: Capacity = section(Capacity, "capacity of a row; a conversation that does not fit continues in another row")
    max_path: int = setting(
        8192, "maximum tokens of a path; whole turns are cut from the left of longer ones", minimum=1
    )
    sources: Mapping[str, SourceSettings] = section(_sources, "sources to mix, by name")

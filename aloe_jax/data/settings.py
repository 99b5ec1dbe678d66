"""`config.dataset`: what is mixed, and the rows it is packed into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aloe_jax.settings import section, setting
from aloe_jax.tree.row import Capacity

TREES = "trees"  # the source that an epoch is counted by


@dataclass(frozen=True)
class SourceSettings:
    """A source of conversations."""

    path: str = setting("", "JSON lines or parquet; several with commas between them, * and ? for what is there")
    weight: float = setting(
        1.0, "conversations that an epoch takes, over the weight of `trees`, whose conversations it takes once each"
    )
    loss_weight: float = setting(1.0, "times the weights of its tokens in SFT and of its pairs in preference training")


def _sources() -> dict[str, SourceSettings]:
    return {TREES: SourceSettings(), "chat": SourceSettings()}


@dataclass(frozen=True)
class DatasetSettings:
    """Rows and sources. A path of the source `trees` takes the place of the stage `conversations`; `chat` are ordinary
    chats to mix in, none without a path. A config file may add others under names of their own (docs/data.md)."""

    row: Capacity = section(Capacity, "capacity of a row; a conversation that does not fit goes on in another row")
    max_path: int = setting(8192, "longest path in tokens; whole turns are cut from the left beyond it", minimum=1)
    sources: Mapping[str, SourceSettings] = section(_sources, "what is mixed, by name")

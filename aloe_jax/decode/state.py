"""What an engine is doing, at one moment: for those who admit requests, and for those who watch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aloe_jax.decode.share import Share


class EngineState(NamedTuple):
    """`running` are requests with a completion under way, `free_rows` completions that could start, were there pages.

    `used_pages` of `pages` belong to what is under way; the others hold earlier tokens, or none. Since the engine was
    made, `prefilled` tokens of prompts were computed, and `found` ones were in the pages already.
    """

    running: int
    free_rows: int
    used_pages: int
    pages: int
    prefilled: int
    found: int


def state_of(shares: Sequence[Share], prefilled: int, found: int) -> EngineState:
    """The state of an engine with these shares."""
    running = [sequence.ticket for share in shares for sequence in share.running]
    pages = sum(share.shape.pages - 1 for share in shares)  # without the scratch page
    return EngineState(
        running=len(set(running)),
        free_rows=sum(share.shape.rows for share in shares) - len(running),
        used_pages=pages - sum(share.tree.available for share in shares),
        pages=pages,
        prefilled=prefilled,
        found=found,
    )

"""Plans: what the devices run next, as plain arrays of a few fixed shapes.

The scheduler makes them on one process; every process of the mesh runs them. Rows and pages are in shares, one per
place along the mesh's `replica` and `fsdp` axes: of B rows the share s has those from s * B / shares on, and a row's
pages are numbered within its share. What only some requests need has no rows where none of them is there; such a plan
is another program.

Axes: B rows, T tokens of a chunk, W pages of a row, M words of 32 tokens' bits, C tokens of the context, K biased
tokens of a row, E tokens that end it, N copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt32

from aloe_jax.decode.adjust import NO_TOKEN
from aloe_jax.decode.requests import MAX_BIASES, MAX_STOP_TOKENS
from aloe_jax.errors import InputError

MOST_CHUNKS = 64  # per share and prefill
COPIES = 8  # per share and copy


@dataclass(frozen=True)
class Shape:
    """The sizes of an engine: `slots` sequences at most decode together, each of at most `context` tokens; a page holds
    `page` tokens, a whole number of chunks of `chunk` prompt tokens; each of `shares` shares has `pages` pages, the
    scratch page included."""

    slots: int
    context: int
    page: int
    chunk: int
    shares: int
    pages: int

    @property
    def width(self) -> int:
        """Pages of the longest row."""
        return -(-self.context // self.page)

    @property
    def rows(self) -> int:
        """Rows per share."""
        return -(-self.slots // self.shares)

    @property
    def row_buckets(self) -> tuple[int, ...]:
        """The numbers of rows per share that a burst may have: powers of two, and all."""
        return (*(1 << power for power in range((self.rows - 1).bit_length())), self.rows)

    @property
    def chunk_buckets(self) -> tuple[int, ...]:
        """The numbers of chunks per share that a prefill may have: powers of four, since each is a program to compile
        and several prefills can follow each other."""
        return tuple(1 << power for power in range(0, MOST_CHUNKS.bit_length(), 2))


def make_shape(*, slots: int, context: int, page: int, chunk: int, shares: int, pages: int | None = None) -> Shape:
    """The sizes for `slots` sequences of `context` tokens. Without `pages` every slot has room for its whole context.
    Raises InputError for sizes that do not fit each other."""
    if slots < 1:
        raise InputError(f"slots: {slots} must be at least 1")
    shape = Shape(slots, context, page, chunk, shares, 0)
    least = shape.width + 2  # the scratch page, and one to copy from
    if pages is not None and pages < least:
        raise InputError(
            f"pages: {pages} of {page} tokens are too few for a context of {context}; give {least} or more"
        )
    return Shape(slots, context, page, chunk, shares, pages or shape.rows * shape.width + 2)


class Copy(NamedTuple):
    """Copy the pages `source` to `target`."""

    source: Int[np.ndarray, N]
    target: Int[np.ndarray, N]


class Prefill(NamedTuple):
    """Run chunks of prompts, as `programs.Chunks` describes them. `targets` has no row where no prompt is scored; else
    it has the tokens after those of the chunk."""

    tokens: Int[np.ndarray, "B T"]
    start: Int[np.ndarray, B]
    length: Int[np.ndarray, B]
    tables: Int[np.ndarray, "B W"]
    targets: Int[np.ndarray, "B T"]
    want_top: Bool[np.ndarray, ""]


class Burst(NamedTuple):
    """Decode rows for `steps` steps, as `programs.Rows` describes them. `allowed` has no row where every token is
    allowed everywhere, and the fields of `adjust.Adjustments`, from `min_p` on, have none where no row has options."""

    token: Int[np.ndarray, B]
    position: Int[np.ndarray, B]
    left: Int[np.ndarray, B]
    key: UInt32[np.ndarray, "B 2"]
    temperature: Float[np.ndarray, B]
    top_p: Float[np.ndarray, B]
    top_k: Int[np.ndarray, B]
    tables: Int[np.ndarray, "B W"]
    allowed: UInt32[np.ndarray, "B M"]
    want_top: Bool[np.ndarray, ""]
    steps: Int[np.ndarray, ""]
    min_p: Float[np.ndarray, B]
    presence: Float[np.ndarray, B]
    frequency: Float[np.ndarray, B]
    repetition: Float[np.ndarray, B]
    min_tokens: Int[np.ndarray, B]
    ends: Int[np.ndarray, "B E"]
    bias_ids: Int[np.ndarray, "B K"]
    bias: Float[np.ndarray, "B K"]
    prompt_length: Int[np.ndarray, B]
    seen: Int[np.ndarray, "B C"]


Plan = Copy | Prefill | Burst
KINDS: tuple[type[Plan], ...] = (Copy, Prefill, Burst)


def idle_rows(rows: int, width: int) -> Burst:
    """A burst in which no row decodes, for a scheduler to fill in."""
    whole, real = np.int32, np.float32
    return Burst(
        token=np.zeros(rows, whole),
        position=np.zeros(rows, whole),
        left=np.zeros(rows, whole),
        key=np.zeros((rows, 2), np.uint32),
        temperature=np.zeros(rows, real),
        top_p=np.ones(rows, real),
        top_k=np.zeros(rows, whole),
        tables=np.zeros((rows, width), whole),
        allowed=np.zeros((0, 0), np.uint32),
        want_top=np.asarray(False),
        steps=np.asarray(1, whole),
        **_neutral(0, 0, ()),
    )


def with_options(plan: Burst, context: int, ends: tuple[int, ...]) -> Burst:
    """The burst with options for all rows, neutral ones, for a scheduler to fill in. `ends` are the tokens that end a
    reply by default."""
    return plan._replace(**_neutral(len(plan.token), context, ends))


def with_targets(plan: Prefill, want_top: bool = False) -> Prefill:
    """The prefill with targets, for a scheduler to fill in."""
    return plan._replace(targets=np.zeros_like(plan.tokens), want_top=np.asarray(want_top))


def _neutral(rows: int, context: int, ends: tuple[int, ...]) -> dict[str, np.ndarray]:
    whole, real = np.int32, np.float32
    none = np.full(MAX_STOP_TOKENS, NO_TOKEN, whole)
    return {
        "min_p": np.zeros(rows, real),
        "presence": np.zeros(rows, real),
        "frequency": np.zeros(rows, real),
        "repetition": np.ones(rows, real),
        "min_tokens": np.zeros(rows, whole),
        "ends": np.tile(np.concatenate([np.array(ends, whole), none]), (rows, 1)),
        "bias_ids": np.full((rows, MAX_BIASES), NO_TOKEN, whole),
        "bias": np.zeros((rows, MAX_BIASES), real),
        "prompt_length": np.zeros(rows, whole),
        "seen": np.full((rows, context), NO_TOKEN, whole),
    }


def no_chunks(chunks: int, shape: Shape) -> Prefill:
    """A prefill of chunks without tokens, for a scheduler to fill in."""
    whole = np.int32
    return Prefill(
        tokens=np.zeros((chunks, shape.chunk), whole),
        start=np.full(chunks, -1, whole),
        length=np.zeros(chunks, whole),
        tables=np.zeros((chunks, shape.width), whole),
        targets=np.zeros((0, 0), whole),
        want_top=np.asarray(False),
    )

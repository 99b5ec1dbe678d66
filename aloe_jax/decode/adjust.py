"""What the options of a request do to the scores of its next token: biases, penalties, ends that are held back.

They need to know which tokens the prompt and the reply have. A burst gets those as ids, counts them on the devices
once, and then counts what it draws. Rows without options take part with neutral values, which move no score by a bit.

Axes: B rows, V vocabulary, C tokens of the context, K biased tokens of a row, E tokens that end it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

NO_TOKEN = np.iinfo(np.int32).max  # in places of ids that are not used


class Adjustments(NamedTuple):
    """The options of rows, as `requests.Sampling` explains them. `seen` are a row's tokens, from the prompt's first one
    to the next one to run; `prompt_length` of them are the prompt's."""

    min_p: Float[Array, B]
    presence: Float[Array, B]
    frequency: Float[Array, B]
    repetition: Float[Array, B]
    min_tokens: Int[Array, B]
    ends: Int[Array, "B E"]
    bias_ids: Int[Array, "B K"]
    bias: Float[Array, "B K"]
    prompt_length: Int[Array, B]
    seen: Int[Array, "B C"]


class Tally(NamedTuple):
    """Which tokens the prompt has, and how often the reply has each."""

    prompt: Bool[Array, "B V"]
    reply: Int[Array, "B V"]


def tally(adjustments: Adjustments, position: Int[Array, B], vocab: int) -> Tally:
    """The tokens of rows whose next tokens to run are at `position`."""
    place = jnp.arange(adjustments.seen.shape[1])
    known = place <= position[:, None]
    asked = place < adjustments.prompt_length[:, None]

    def count(seen: Int[Array, " C"], asked: Bool[Array, " C"], drawn: Bool[Array, " C"]) -> Tally:
        prompt = jnp.zeros(vocab, bool).at[seen].max(asked, mode="drop")
        return Tally(prompt, jnp.zeros(vocab, jnp.int32).at[seen].add(drawn.astype(jnp.int32), mode="drop"))

    return jax.vmap(count)(adjustments.seen, known & asked, known & ~asked)


def counted(tally: Tally, token: Int[Array, B], going: Bool[Array, B]) -> Tally:
    """The tally with the tokens that rows drew while they were going."""
    return tally._replace(reply=jax.vmap(lambda row, token, one: row.at[token].add(one))(tally.reply, token, going * 1))


def moves(
    logits: Float[Array, "B V"], adjustments: Adjustments, tally: Tally, position: Int[Array, B]
) -> Float[Array, "B V"]:
    """What the options add to the logits of the tokens behind `position`: 0 where there are none, -inf for an end that
    is held back."""
    biased = jax.vmap(lambda row, ids, bias: row.at[ids].add(bias, mode="drop"))
    moved = biased(logits, adjustments.bias_ids, adjustments.bias)
    repetition, seen = adjustments.repetition[:, None], tally.prompt | (tally.reply > 0)
    moved = jnp.where(seen, jnp.where(moved > 0, moved / repetition, moved * repetition), moved)
    moved -= adjustments.frequency[:, None] * tally.reply + adjustments.presence[:, None] * (tally.reply > 0)
    held = position + 1 - adjustments.prompt_length < adjustments.min_tokens
    banned = jnp.where(held[:, None], -jnp.inf, jnp.zeros(adjustments.ends.shape))
    return biased(moved - logits, adjustments.ends, banned)

"""General ability beside alignment: the negative log-likelihood of the replies of plain dialogues under a model.

It is the mean over all tokens of the replies (end-of-turn included) of -log p(token | what comes before), in nats; its
exponential is the perplexity. A model that buys alignment with general ability has a higher one than its start model.
Dialogues are the units: a dialogue's influence on the mean of N dialogues with tokens t and nats x is

    N (x_i - mean t_i) / sum t

and intervals are t intervals over the dialogues. Differences are paired by dialogue.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Float, Int
from pydantic import Field

from aloe_jax import files
from aloe_jax.tree.schema import Record, parse
from eval.benchmark.crossed import Estimate, Linearised, layout_of

GENERAL = "general.json"


class PlainDialogue(Record):
    """The replies of a dialogue under a model: nats, the sum of -log p, and tokens."""

    id: str
    nats: float
    tokens: int = Field(ge=1)


class General(Record):
    """Content of `general.json`: `nats_per_token` with its interval over the dialogues, and what it is made of."""

    nats_per_token: float
    interval: tuple[float, float] | None
    perplexity: float
    texts: str = Field(description="hash of the dialogues")
    dialogues: tuple[PlainDialogue, ...] = Field(min_length=1)


def general(dialogues: Sequence[PlainDialogue], texts: str) -> General:
    """The figures of a model from the likelihoods of its dialogues; `texts` is the hash of what was said in them."""
    found = mean_per_token(np.array([each.nats for each in dialogues]), np.array([each.tokens for each in dialogues]))
    return General(
        nats_per_token=found.value,
        interval=found.interval(),
        perplexity=float(np.exp(found.value)),
        texts=texts,
        dialogues=tuple(dialogues),
    )


def general_difference(first: General, second: General) -> Estimate | None:
    """Nats per token of `first` minus those of `second`, paired by dialogue. None if they are of other texts or tokens
    (another tokenizer), since a token then is another unit."""
    ones, others = first.dialogues, second.dialogues
    units = [[(each.id, each.tokens) for each in side] for side in (ones, others)]
    if first.texts != second.texts or units[0] != units[1]:
        return None
    nats = np.array([one.nats - other.nats for one, other in zip(ones, others, strict=True)])
    return mean_per_token(nats, np.array([each.tokens for each in ones]))


def mean_per_token(nats: Float[np.ndarray, " N"], tokens: Int[np.ndarray, " N"]) -> Estimate:
    """The sum over N dialogues of `nats` per `tokens`, with the dialogues as units."""
    mean = float(nats.sum() / tokens.sum())
    influences = nats.size * (nats - mean * tokens) / tokens.sum()
    return Linearised(mean, layout_of(np.arange(nats.size), np.zeros(nats.size, int)), influences).estimate()


def read_general(directory: epath.Path) -> General | None:
    """What a result's folder has; None if it was not measured. InputError for a broken file."""
    path = directory / GENERAL
    return parse(General, files.read_text(path), str(path)) if path.exists() else None

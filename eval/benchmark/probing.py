"""Asking a model under test, beside the dialogue, what it has learned about the user.

A claim's probability is the product of those that the model gave the tokens of its item, at temperature 1 and without
the constraint: how likely the model was to name just this item at this place, after the claims before it. Where several
items could come next, each has its share, so the sum over an answer says little; `belief.py` holds the single ones
against the truth.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.call_errors import CallError
from aloe_jax.tree.probe import ANSWER_TOKENS, QUESTION, probe_answer, probe_question, schema
from aloe_jax.tree.schema import Message, Node, Score
from data_gen.calls.call_cache import Chat
from data_gen.roles import Dialogue, calls_of
from data_gen.world.catalogue import catalogue

PROBABILITY = "probability"  # the judge of a belief's scores: by item what the model gave it
_ITEM = re.compile(r'"item":\s*"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Prober:
    """Asks the model behind `chat`."""

    chat: Chat

    async def nodes(self, reply: str, dialogue: Dialogue, seed: int) -> list[Node]:
        """Question and answer under the reply of that id, with which `dialogue` ends; none where the server refuses or
        fails on this call: the dialogue goes on without."""
        turns = sum(message.role == "user" for message in dialogue)
        asked = [*dialogue, Message(role="user", content=QUESTION)]
        try:
            [answer] = await self.chat.chat(
                asked,
                seed=seed,
                temperature=0.0,
                max_tokens=ANSWER_TOKENS,
                schema=schema(catalogue(), turns),
                top_logprobs=1,
                affinity=dialogue[0].content,
            )
        except CallError:
            return []
        scores = (Score(judge=PROBABILITY, criterion=item, value=p) for item, p in item_probabilities(answer).items())
        node = probe_answer(reply, answer.text)
        known = {
            "token_ids": answer.token_ids,
            "logprobs": answer.logprobs if answer.token_ids is not None else None,
            "tokenizer": answer.tokenizer,
            "scores": tuple(scores),
            "calls": calls_of(answer),
            "flags": (*node.flags, *(("truncated",) if answer.truncated else ())),
        }
        return [probe_question(reply), node.model_copy(update=known)]


def item_probabilities(answer: Answer) -> dict[str, float]:
    """By item its probability where it is named first; empty if the server gave no log-probabilities of tokens with
    their texts. The quote that closes an item counts with it: "pet.mar" is another one than "pet.mare"."""
    if answer.tokens is None or answer.logprobs is None or len(answer.tokens) != len(answer.logprobs):
        return {}
    found: dict[str, float] = {}
    for match in _ITEM.finditer("".join(answer.tokens)):
        inside = _overlapping(answer.tokens, match.start(1), match.end(1) + 1)
        found.setdefault(match[1], min(1.0, math.exp(sum(answer.logprobs[place] for place in inside))))
    return found


def _overlapping(tokens: tuple[str, ...], start: int, end: int) -> Iterator[int]:
    """The places of the tokens that have characters from `start` to before `end`."""
    at = 0
    for place, token in enumerate(tokens):
        if at < end and at + len(token) > start:
            yield place
        at += len(token)

"""The model-backed responder: gets the dialogue, and for the hinted reply what the user has shown."""

from __future__ import annotations

import dataclasses

from aloe_jax.serve.client.answers import Answer
from data_gen.players.player import Player, system
from data_gen.roles import Dialogue


class ModelResponder(Player):
    """Implements `Responder`."""

    async def replies(self, dialogue: Dialogue, hint: str | None, n: int, seed: int) -> list[Answer]:
        """`n` candidates; without a hint the server gets the dialogue alone, as in training and in the benchmark."""
        messages = list(dialogue)
        if hint is not None:
            messages.insert(0, system(self.prompt.render("system", hint=hint)))
        answers = await self.chat.chat(messages, seed=seed, n=n, affinity=dialogue[0].content, **self.how())
        return [_with_own_logprobs(answer) for answer in answers]


def _with_own_logprobs(answer: Answer) -> Answer:
    """The answer without log-probabilities whose token ids are unknown."""
    return dataclasses.replace(answer, logprobs=None) if answer.token_ids is None else answer

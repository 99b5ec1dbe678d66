"""The model-backed responder: gets the dialogue, and with a hint what the user has shown."""

from __future__ import annotations

import dataclasses

from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.schema import Message
from data_gen.players.player import Player, system
from data_gen.roles import Dialogue


class ModelResponder(Player):
    """Implements `Responder`."""

    async def replies(self, dialogue: Dialogue, hint: str | None, n: int, seed: int) -> list[Answer]:
        """`n` candidates; without a hint the server gets the dialogue alone, as in training and in the benchmark."""
        instruction = None if hint is None else self.prompt.render("system", hint=hint)
        return await sampled(self, instruction, dialogue, n, seed)


async def sampled(player: Player, instruction: str | None, dialogue: Dialogue, n: int, seed: int) -> list[Answer]:
    """`n` replies to the dialogue by a player's model, with the instruction as its system message if there is one."""
    messages: list[Message] = list(dialogue)
    if instruction is not None:
        messages.insert(0, system(instruction))
    answers = await player.chat.chat(messages, seed=seed, n=n, affinity=dialogue[0].content, **player.how())
    return [_with_own_logprobs(answer) for answer in answers]


def _with_own_logprobs(answer: Answer) -> Answer:
    """The answer without log-probabilities whose token ids are unknown."""
    return dataclasses.replace(answer, logprobs=None) if answer.token_ids is None else answer

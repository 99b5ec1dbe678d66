"""The model-backed responder: sees the dialogue, and for the hinted reply what the user has shown."""

from __future__ import annotations

from data_gen.players.player import Player, system
from data_gen.roles import Dialogue, Reply


class ModelResponder(Player):
    """Implements `Responder`."""

    async def replies(self, dialogue: Dialogue, hint: str | None, n: int, seed: int) -> list[Reply]:
        """`n` candidates; without a hint the server sees the dialogue alone, as in training and in the benchmark."""
        messages = list(dialogue)
        if hint is not None:
            messages.insert(0, system(self.prompt.render("system", hint=hint)))
        answers = await self.chat.chat(messages, seed=seed, n=n, affinity=dialogue[0].content, **self.how())
        return [
            Reply(
                text=answer.text,
                token_ids=answer.token_ids,
                logprobs=answer.logprobs if answer.token_ids is not None else None,  # whose they are is unknown
                tokenizer=answer.tokenizer,
                truncated=answer.finish_reason == "length",
                calls=(answer.call,),
            )
            for answer in answers
        ]

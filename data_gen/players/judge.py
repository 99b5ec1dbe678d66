"""The model-backed judge: compares two replies in both orders and scores one, by the probabilities of its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.constraints import probabilities
from aloe_jax.tree.schema import Persona
from data_gen.concurrency import gather_all
from data_gen.players.player import Player, asked, home, known_items, system
from data_gen.roles import Comparison, Dialogue, Revealed, Verdict, calls_of

POSITIONS = ("1", "2")
SCORES = ("1", "2", "3", "4", "5")
TOP = 20  # most probable tokens that are requested; a model that understood the question has the choices among them


def expected(answer: Answer) -> float | None:
    """The expected score by the probabilities of the five digits; the digit itself where the server gives none of them;
    None if the answer is not a number from 1 to 5."""
    shares = probabilities(answer, SCORES)
    return None if shares is None else round(sum(int(score) * share for score, share in shares.items()), 4)


class ModelJudge(Player):
    """Implements `Judge`: one question for the whole score. Probabilities come from the model's own distribution,
    whatever the temperature. If a server gives none, the answer itself counts, so the temperature should be 0."""

    top = TOP

    async def score(
        self, persona: Persona, dialogue: Dialogue, reply: str, revealed: Sequence[Revealed] | None = None
    ) -> Verdict:
        """The expected score; None if the answer is not a number from 1 to 5."""
        scene = await self.scene(persona, dialogue, revealed)
        answer = await self._ask("score", persona, dialogue, SCORES, reply=reply, **scene)
        value = expected(answer)
        return Verdict(None) if value is None else Verdict(value, calls=calls_of(answer))

    async def prefer(
        self, persona: Persona, dialogue: Dialogue, first: str, second: str, revealed: Sequence[Revealed] | None = None
    ) -> Comparison | None:
        """Both orders; None if either answer is unreadable, as one order alone would carry the position bias."""
        scene = await self.scene(persona, dialogue, revealed)
        orders = await gather_all(
            self._ask("compare", persona, dialogue, POSITIONS, first=one, second=other, **scene)
            for one, other in ((first, second), (second, first))
        )
        there, back = (probabilities(answer, POSITIONS) for answer in orders)
        if there is None or back is None:
            return None
        return Comparison(there["1"], back["2"], tuple(call for answer in orders for call in calls_of(answer)))

    async def scene(
        self, persona: Persona, dialogue: Dialogue, revealed: Sequence[Revealed] | None
    ) -> Mapping[str, object]:
        """What the template is told beside the dialogue and the replies."""
        return {"known": [item.text for item in known_items(persona, revealed)]}

    async def _ask(
        self, block: str, persona: Persona, dialogue: Dialogue, choices: Sequence[str], **values: object
    ) -> Answer:
        question = self.prompt.render(block, dialogue=dialogue, **values)
        [answer] = await self.chat.chat(
            [system(self.prompt.render("system")), asked(question)],
            seed=0,
            affinity=home(persona, dialogue),
            token_ids=False,
            logprobs=self.top > 0,
            top_logprobs=self.top,
            choices=choices,
            **self.how(),
        )
        return answer

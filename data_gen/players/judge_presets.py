"""The presets of the model judge, `config.roles.judge.preset`: what it is shown, and how its answers become a score.

- `overall`: the dialogue and what has been revealed (the whole persona where nobody says what has); the expected answer
  to one question. One call per reply.
- `aloe-paper` (paper, section 4; our wording): the whole persona, the last message and the reply; the integer that it
  answers. One call per reply.
- `robust`: the dialogue and what has been revealed; the mean of four criteria, each the expected answer to an anchored
  rubric, and the style once more by the whole persona, for the second scale. Five calls per reply.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from aloe_jax.tree.schema import Persona
from data_gen.concurrency import gather_all
from data_gen.players.judge import SCORES, ModelJudge, expected
from data_gen.players.player import known_items
from data_gen.roles import Dialogue, Revealed, Verdict, calls_of
from data_gen.seeds import stable_seed
from data_gen.world.inducer import of_this_world, shown

CRITERIA = ("style", "content", "engaging", "tact")
LEVELS = tuple(map(int, SCORES))
T = TypeVar("T")


class PaperJudge(ModelJudge):
    """The judge of the paper's benchmark. Its one scale counts the whole persona, so its score stands on both."""

    top = 0

    async def score(
        self, persona: Persona, dialogue: Dialogue, reply: str, revealed: Sequence[Revealed] | None = None
    ) -> Verdict:
        """The integer that the judge answers."""
        verdict = await super().score(persona, dialogue, reply)
        return replace(verdict, persona=verdict.value)

    async def scene(
        self, persona: Persona, dialogue: Dialogue, revealed: Sequence[Revealed] | None
    ) -> Mapping[str, object]:
        """The whole persona, whatever has been revealed."""
        return await super().scene(persona, dialogue, None)


@dataclass(frozen=True)
class RobustJudge(ModelJudge):
    """Rates a reply criterion by criterion, each by a rubric whose five levels are anchored in words.

    Models prefer what is listed first, so the levels stand in an order drawn from `seed`, the persona, the turn and the
    criterion: all models under test meet the same orders. Where the caller does not say what has been revealed, it is
    known of a persona of the scripted world; of others the judge is shown all, and told to go by the user's messages.
    """

    seed: int = 0

    async def score(
        self, persona: Persona, dialogue: Dialogue, reply: str, revealed: Sequence[Revealed] | None = None
    ) -> Verdict:
        """The mean of the criteria, and that with the style by the whole persona. Each mean is None unless all of its
        answers can be read; the criteria, in [0, 1], are those that can."""
        scene = self._shown(persona, dialogue, revealed)
        whole: dict[str, object] = {"known": [item.text for item in known_items(persona, None)], "scope": "whole"}
        answers = await gather_all(
            self._ask(
                "score",
                persona,
                dialogue,
                SCORES,
                reply=reply,
                criterion=criterion,
                order=self._order(LEVELS, persona, dialogue, criterion, told["scope"]),
                **told,
            )
            for criterion, told in (*((each, scene) for each in CRITERIA), (CRITERIA[0], whole))
        )
        *rated, style = (expected(answer) for answer in answers)
        found = dict(zip(CRITERIA, rated, strict=True))
        return Verdict(
            _mean(rated),
            {name: round((value - 1) / 4, 4) for name, value in found.items() if value is not None},
            calls=tuple(call for answer in answers for call in calls_of(answer)),
            persona=_mean([style, *rated[1:]]),
        )

    async def scene(
        self, persona: Persona, dialogue: Dialogue, revealed: Sequence[Revealed] | None
    ) -> Mapping[str, object]:
        """What a comparison is told: the criteria in one order for both orders of the replies."""
        told = self._shown(persona, dialogue, revealed)
        return {**told, "order": self._order(CRITERIA, persona, dialogue, "compare", told["scope"])}

    def _shown(self, persona: Persona, dialogue: Dialogue, revealed: Sequence[Revealed] | None) -> dict[str, object]:
        if revealed is None and of_this_world(persona):
            revealed = shown(persona, dialogue)
        known = [item.text for item in known_items(persona, revealed)]
        return {"known": known, "scope": "unmarked" if revealed is None else "shown"}

    def _order(self, levels: Sequence[T], persona: Persona, dialogue: Dialogue, *key: object) -> list[T]:
        drawn = random.Random(stable_seed(self.seed, persona.id, len(dialogue), *key))
        return drawn.sample(levels, len(levels))


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if a value is missing, as a mean of the rest would be on another scale."""
    found = [value for value in values if value is not None]
    return round(sum(found) / len(found), 4) if len(found) == len(values) else None


@dataclass(frozen=True)
class Preset:
    """The class that judges, and the current version of its prompts."""

    judge: type[ModelJudge]
    template: str


PRESETS: Mapping[str, Preset] = {
    "overall": Preset(ModelJudge, "judge_v1.jinja"),
    "aloe-paper": Preset(PaperJudge, "judge_paper_v1.jinja"),
    "robust": Preset(RobustJudge, "judge_robust_v1.jinja"),
}

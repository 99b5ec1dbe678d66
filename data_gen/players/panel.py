"""A panel of judges, models of different families, that counts as one judge: the mean of those that give an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from aloe_jax.serve.client.call_errors import RefusedCallError
from aloe_jax.tree.schema import Persona
from data_gen.concurrency import gather_all
from data_gen.roles import Comparison, Dialogue, Judge, Revealed, Verdict

T = TypeVar("T")


@dataclass(frozen=True)
class Panel:
    """Implements `Judge` by the judges of a panel. What each of them said stands among the `members` of a verdict.

    A judge whose server refuses a request for good gives no answer; if all of them do, the refusal is raised. A server
    that fails fails the call as ever, so that it is asked again and the panel stays complete.
    """

    judges: tuple[Judge, ...]

    @property
    def name(self) -> str:
        """The names of the judges."""
        return f"panel of {', '.join(judge.name for judge in self.judges)}"

    async def score(
        self, persona: Persona, dialogue: Dialogue, reply: str, revealed: Sequence[Revealed] | None = None
    ) -> Verdict:
        """The mean of the scores, on each scale of the judges that give one there, and of each criterion."""
        members = await self._all(lambda judge: judge.score(persona, dialogue, reply, revealed), Verdict(None))
        verdicts = list(members.values())
        names = dict.fromkeys(name for each in verdicts for name in each.criteria)
        criteria = {name: _mean(each.criteria.get(name) for each in verdicts) for name in names}
        return Verdict(
            _mean(each.value for each in verdicts),
            {name: value for name, value in criteria.items() if value is not None},
            calls=tuple(call for each in verdicts for call in each.calls),
            persona=_mean(each.persona for each in verdicts),
            members=members,
        )

    async def prefer(
        self, persona: Persona, dialogue: Dialogue, first: str, second: str, revealed: Sequence[Revealed] | None = None
    ) -> Comparison | None:
        """The mean over the judges whose orders agree. If there is none, the first verdict that can be read, which is
        inconclusive; None without any."""
        asked: Callable[[Judge], Awaitable[Comparison | None]]
        asked = lambda judge: judge.prefer(persona, dialogue, first, second, revealed)  # noqa: E731
        members = await self._all(asked, None)
        readable = [each for each in members.values() if each is not None]
        if not readable:
            return None
        counted = [each for each in readable if not each.inconclusive] or readable[:1]
        return Comparison(
            sum(each.shown_first for each in counted) / len(counted),
            sum(each.shown_second for each in counted) / len(counted),
            tuple(call for each in readable for call in each.calls),
            members,
        )

    async def _all(self, asked: Callable[[Judge], Awaitable[T]], refused: T) -> Mapping[str, T]:
        """What every judge says, by name; `refused` for one whose server refuses."""
        refusals: list[RefusedCallError] = []

        async def one(judge: Judge) -> T:
            try:
                return await asked(judge)
            except RefusedCallError as error:
                refusals.append(error)
                return refused

        answers = await gather_all(one(judge) for judge in self.judges)
        if len(refusals) == len(self.judges):
            raise refusals[0]
        return dict(zip((judge.name for judge in self.judges), answers, strict=True))


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return round(sum(found) / len(found), 4) if found else None

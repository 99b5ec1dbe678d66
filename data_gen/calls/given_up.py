"""Work that was given up because a server failed on one of its calls, and when that is more than single cases.

A call that alone is refused or fails (`CallError`) ends what it was made for, a conversation or a case of the
benchmark, and the next one follows. Where most of them end so, the server is at fault and not the prompts, and the run
stops.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from aloe_jax.errors import AloeError, InputError, ResumableError
from aloe_jax.serve.client.call_errors import CallError

LAST = 20  # pieces of work that ended last, of which at most half may have been given up for a server


class Endings:
    """How pieces of work ended; `what` is their name in messages."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.reasons: Counter[str] = Counter()
        self.ended = 0
        self._last: deque[CallError | None] = deque(maxlen=LAST)

    def add(self, failure: CallError | None) -> None:
        """Count one more, given up for `failure` or not."""
        self.ended += 1
        self._last.append(failure)
        if failure is not None:
            self.reasons[failure.kind] += 1

    @property
    def stop(self) -> AloeError | None:
        """The error that ends the run where more than half of the last `LAST` were given up; else None."""
        failures = [each for each in self._last if each is not None]
        return self.error(failures, len(self._last)) if 2 * len(failures) > LAST else None

    def error(self, failures: list[CallError], of: int) -> AloeError:
        """The error of `failures` among `of` pieces of work: InputError if most were refused, ResumableError if the
        server failed on most."""
        refused = sum(isinstance(each, InputError) for each in failures)
        kind = InputError if 2 * refused > len(failures) else ResumableError
        counts = told(Counter(each.kind for each in failures))
        return kind(
            f"{len(failures)} of the last {of} {self.what} were given up because a server failed on them ({counts}), "
            f"the last one: {failures[-1]}; mend the server or its settings, then run the same command again: what was "
            "answered is kept"
        )

    def stop_at_end(self, total: int) -> AloeError | None:
        """The error if more than half of all `total` pieces of work were given up; else None."""
        failures = [each for each in self._last if each is not None]
        given_up = self.reasons.total()
        return self.error(failures, len(self._last)) if failures and 2 * given_up > total else None


def told(reasons: Mapping[str, int]) -> str:
    """Counts by reason in one line, the commonest first."""
    return ", ".join(f"{count} x {kind}" for kind, count in Counter(reasons).most_common())

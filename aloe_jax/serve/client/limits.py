"""The number of calls that one server gets at a time, found by trial as TCP finds the rate of a network."""

from __future__ import annotations


class AdaptiveLimit:
    """Calls that may be under way to one server, at most `most`.

    Additive increase, multiplicative decrease: an answer adds 1/limit, so that a full round of answers adds one, and a
    refusal for load (429) halves the limit. Until the first refusal every answer adds one (slow start, RFC 5681).
    Refusals of calls that were sent before the last cut do not cut again: they are due to the load that was cut.
    """

    def __init__(self, first: int, most: int) -> None:
        self.value = float(min(first, most))
        self.most = most
        self.under_way = 0
        self._cuts = 0

    @property
    def free(self) -> bool:
        """Whether one more call may be sent."""
        return self.under_way < int(self.value)

    def enter(self) -> int:
        """Take a place; the result is passed to `refused` if the call is."""
        self.under_way += 1
        return self._cuts

    def leave(self) -> None:
        """Give the place back."""
        self.under_way -= 1

    def answered(self) -> None:
        """A call was answered; the limit grows if it was used up."""
        if self.under_way >= int(self.value):
            self.value = min(float(self.most), self.value + (1.0 / self.value if self._cuts else 1.0))

    def refused(self, sent_after: int) -> None:
        """A call that took its place after `sent_after` cuts was refused for load."""
        if sent_after == self._cuts:
            self.value = max(1.0, self.value / 2)
            self._cuts += 1

    def restart(self) -> None:
        """Restart from one call: the server was away."""
        self.value = 1.0

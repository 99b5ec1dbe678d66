"""The text of streamed replies, up to their stop strings, with the tokens that it is made of.

A reply ends with the stop string that is complete first, of those complete at the same character with the longest one:
where it ends is a matter of the text alone, whatever its tokens are. Text that may be the beginning of a stop string is
held back until it is known not to be one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aloe_jax.decode.requests import Delta, PromptScores, Top
from aloe_jax.serve.detokenizer import Detokenizer
from aloe_jax.serve.token_stream import TokenStream
from aloe_jax.tree.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextDelta:
    """New text of the completion `index`, and the tokens that begin in it, as in `Delta`. `offsets` are where the text
    of each token begins, in characters of the whole reply. The last one has the `finish_reason`, and the `stop` string
    that ended the reply, if one did; the token that ended it has no text."""

    index: int
    text: str = ""
    token_ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    top: tuple[Top, ...] = ()
    offsets: tuple[int, ...] = ()
    finish_reason: str | None = None
    stop: str | None = None
    prompt: PromptScores | None = None


@dataclass(frozen=True)
class Stops:
    """The stop strings of a request, none of them empty. `include` leaves the one that ended a reply in its text. One
    that is complete within the first `min_tokens` tokens ends nothing."""

    strings: tuple[str, ...] = ()
    include: bool = False
    min_tokens: int = 0


class _Pending(NamedTuple):
    """A token that was not given yet, and where its text begins."""

    offset: int
    token: int
    log_prob: float
    top: Top


class ReplyText:
    """The text of one completion; `take` is called with all its deltas."""

    def __init__(self, tokenizer: Tokenizer, stops: Stops) -> None:
        self.ended = False
        self._detokenizer, self._stops = Detokenizer(tokenizer), stops
        self._longest = max(map(len, stops.strings), default=0)
        self._pending: list[_Pending] = []
        self._number = 0  # tokens taken
        self._given = 0  # characters given
        self._held = ""  # the characters after those
        self._free = 0  # characters within which no stop string may be complete

    def take(self, delta: Delta) -> TextDelta:
        """What can be given of a reply after one more delta. The finish reason is "stop" where a stop string came; then
        the reply has `ended`, whatever the engine goes on with."""
        tops = delta.top or ((),) * len(delta.token_ids)
        cut = None
        for place, (token, log_prob, top) in enumerate(zip(delta.token_ids, delta.log_probs, tops, strict=True), 1):
            self._number += 1
            self._pending.append(_Pending(self._given + len(self._held), token, log_prob, top))
            ender = delta.finish_reason == "stop" and place == len(delta.token_ids)
            if not ender or self._stops.include:
                cut = self._grow(self._detokenizer.take(token))
            if cut:
                break
        if cut is None and delta.finish_reason:
            cut = self._grow(self._detokenizer.finish())
        if cut:
            return self._last(delta, cut[0], "stop", cut[1])
        if delta.finish_reason:
            return self._last(delta, len(self._held), delta.finish_reason, None)
        return self._part(delta, len(self._held) - self._undecided())

    def _grow(self, text: str) -> tuple[int, str] | None:
        """Take more text; of the held text, how many characters belong to the reply, and the stop string that comes
        then; None if none is complete."""
        before = len(self._held)
        self._held += text
        if self._number <= self._stops.min_tokens:
            self._free = self._given + len(self._held)
            return None
        first = max(before, self._free - self._given)  # a match ends behind it
        found = []
        for stop in self._stops.strings if text else ():
            start = self._held.find(stop, max(first - len(stop) + 1, 0))
            if start >= 0:
                found.append((start + len(stop), start, stop))
        if not found:
            return None
        end, start, stop = min(found)
        return end if self._stops.include else start, stop

    def _undecided(self) -> int:
        """How many of the held characters, the last ones, may be the beginning of a stop string."""
        for count in range(min(self._longest - 1, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-count:]) for stop in self._stops.strings):
                return count
        return 0

    def _last(self, delta: Delta, count: int, reason: str, stop: str | None) -> TextDelta:
        self.ended = True
        return self._part(delta, count, reason, stop)

    def _part(self, delta: Delta, count: int, reason: str | None = None, stop: str | None = None) -> TextDelta:
        """Give `count` of the held characters, and the tokens that begin in them; at the end all, unless a stop string
        came."""
        border = self._given + count
        everything = reason is not None and stop is None
        given = [each for each in self._pending if everything or each.offset < border]
        self._pending = self._pending[len(given) :]
        text, self._held, self._given = self._held[:count], self._held[count:], border
        return TextDelta(
            index=delta.index,
            text=text,
            token_ids=tuple(each.token for each in given),
            log_probs=tuple(each.log_prob for each in given),
            top=tuple(each.top for each in given) if any(each.top for each in given) else (),
            offsets=tuple(each.offset for each in given),
            finish_reason=reason,
            stop=stop,
            prompt=delta.prompt,
        )


class ReplyTexts:
    """The texts of `count` completions of a stream, by `for` or by `async for`, as they are decoded. Where a stop
    string ends a completion the engine stops decoding it."""

    def __init__(self, stream: TokenStream, tokenizer: Tokenizer, count: int = 1, stops: Stops | None = None) -> None:
        self._stream = stream
        self._replies = [ReplyText(tokenizer, stops or Stops()) for _ in range(count)]

    def __iter__(self) -> Iterator[TextDelta]:
        for delta in self._stream:
            if (found := self._taken(delta)) is not None:
                yield found

    async def __aiter__(self) -> AsyncIterator[TextDelta]:
        async for delta in self._stream:
            if (found := self._taken(delta)) is not None:
                yield found

    def _taken(self, delta: Delta) -> TextDelta | None:
        """None where there is nothing to give yet, or no more."""
        reply = self._replies[delta.index]
        if reply.ended:
            return None
        found = reply.take(delta)
        if reply.ended and delta.finish_reason is None:
            self._stream.stop(delta.index)
        return found if found.text or found.token_ids or found.finish_reason or found.prompt else None


def joined(deltas: Sequence[TextDelta]) -> TextDelta:
    """One completion's deltas, of which there is at least one, as one."""
    last = deltas[-1]
    return TextDelta(
        index=last.index,
        text="".join(delta.text for delta in deltas),
        token_ids=tuple(token for delta in deltas for token in delta.token_ids),
        log_probs=tuple(value for delta in deltas for value in delta.log_probs),
        top=tuple(top for delta in deltas for top in delta.top),
        offsets=tuple(offset for delta in deltas for offset in delta.offsets),
        finish_reason=last.finish_reason,
        stop=last.stop,
        prompt=next((delta.prompt for delta in deltas if delta.prompt), None),
    )

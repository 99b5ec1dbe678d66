"""What is measured of requests, by a clock that the test sets."""

import pytest

from aloe_jax.decode.requests import Delta, Request
from aloe_jax.serve.pace import Pace

REQUEST = Request(prompt=(1, 2, 3), n=2)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Told:
    """Keeps what it is told, in order."""

    def __init__(self):
        self.events = []

    def first_token(self, seconds):
        self.events.append(("first", seconds))

    def tokens(self, count):
        self.events.append(("tokens", count))

    def completion(self, finish_reason, per_token):
        self.events.append((finish_reason, per_token))

    def request(self, prompt_tokens, seconds):
        self.events.append(("request", prompt_tokens, seconds))


@pytest.fixture
def clock():
    return Clock()


def test_times_of_two_completions(clock):
    """Taken at 100. Completion 0 gets 2 tokens at 103 and 4 until 105: (105 - 103) / 4 per token. Completion 1 gets one
    token at 104, with its end: no time per token."""
    told = Told()
    pace = Pace(told, clock)
    pace.take("a", REQUEST)
    clock.now = 103.0
    pace.draw("a", Delta(0, (7, 8)))
    clock.now = 104.0
    pace.draw("a", Delta(1, (9,), finish_reason="length"))
    clock.now = 105.0
    pace.draw("a", Delta(0, (7, 8, 9, 9), finish_reason="stop"))
    pace.serve("a")
    pace.leave("a")
    assert told.events == [
        ("first", 3.0),
        ("tokens", 2),
        ("tokens", 1),
        ("length", None),
        ("tokens", 4),
        ("stop", 0.5),
        ("request", 3, 5.0),
    ]
    pace.draw("a", Delta(0, (7,)))  # cancelled while its tokens were drawn
    assert len(told.events) == 7


def served(clock, *times):
    pace = Pace(None, clock)
    for clock.now in times:
        pace.serve("any")
    return pace


def test_retry_after_is_the_time_of_half_the_queue(clock):
    """4 requests in the 20 seconds since the first of them are one every 5 s: 10 of 20 waiting begin in 50 s. Of 100,
    half would take 250 s; a client is told 60 at most."""
    pace = served(clock, 100.0, 105.0, 110.0, 115.0)
    clock.now = 120.0
    assert pace.retry_after(20) == 50
    assert pace.retry_after(100) == 60
    assert pace.retry_after(0) == 1


def test_what_was_long_ago_says_nothing_of_now(clock):
    pace = served(clock, 100.0, 200.0)
    clock.now = 259.0
    assert pace.retry_after(20) == 1

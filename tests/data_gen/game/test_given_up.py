"""Conversations on which a server fails for good: they are given up and counted, and all others are as ever."""

import asyncio
import json

import pytest

from aloe_jax import files
from aloe_jax.errors import InputError, ResumableError
from aloe_jax.serve.client import client as client_module
from aloe_jax.serve.client.call_errors import FailedCallError, RefusedCallError
from data_gen.calls.given_up import Endings
from data_gen.calls.store import records
from data_gen.game.counts import conversation_counts
from data_gen.game.settings import ConversationSettings, TreeSettings
from data_gen.game.tree_growth import Shape
from data_gen.publish.stored import StoredCounts
from data_gen.publish.summary import growth_sentences
from helpers.fake_server import FakeServer, serving
from helpers.grow_process import grow_all

ONE_TURN = Shape(ConversationSettings(turns=1), TreeSettings(min_turns=1, attempts=3))
HOPELESS = {"refused": 0.05, "garbage": 0.05, "dies": 0.02}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(client_module, "FIRST_PAUSE", 0.002)


def grown(folder, server, trees, **settings):
    """The accepted conversations by name, as lines."""

    async def run():
        async with serving(server) as url:
            await grow_all(url, folder, trees, ONE_TURN, retries=3, **settings)

    asyncio.run(run())
    return {json.loads(line)["id"]: line for line in (folder / "trees.jsonl").read_text().splitlines()}


def given_up(folder):
    return [record for record in records(folder, "events") if record["event"] == "given_up" and "reason" in record]


def compared(folder, hopeless, trees, extra):
    """Grow with and without prompts that are never answered; the conversations that were given up for them."""
    healthy = grown(folder / "healthy", FakeServer(), trees + extra)
    accepted = grown(folder / "hopeless", FakeServer(hopeless=hopeless), trees)
    assert len(accepted) == trees
    lost = given_up(folder / "hopeless")
    names = {record["conversation"] for record in lost}
    assert not names & set(accepted)
    assert len(names) == len(lost)
    for name, line in accepted.items():
        assert healthy[name] == line
    last = max(accepted)
    assert {name for name in healthy if name <= last} - set(accepted) == {name for name in names if name in healthy}
    return lost


def test_a_prompt_that_is_never_answered_costs_its_conversation(tmp_path):
    lost = compared(tmp_path, {"refused": 0.08, "garbage": 0.08, "dies": 0.08}, 12, 14)
    assert {record["reason"] for record in lost} == {"400 content_filter", "broken answer", "no connection"}
    assert any("the prompt was filtered" in record["said"] for record in lost)


@pytest.mark.slow
def test_two_hundred_conversations_on_a_server_that_fails_on_one_in_eight(tmp_path):
    lost = compared(tmp_path, HOPELESS, 200, 70)
    files.write_json(tmp_path / "hopeless/judge.json", {"judge": "fake", "pairs": 0})
    counts = conversation_counts(tmp_path / "hopeless", 200)
    because = counts["given_up_because"]
    assert counts["trees"] == 200
    assert sum(because.values()) == counts["given_up"] >= len(lost) > 10
    assert {"400 content_filter", "broken answer", "no connection"} <= set(because)
    [said, *_] = growth_sentences(StoredCounts.model_validate(counts))
    assert said.startswith(f"200 of 200 conversations were accepted and {counts['given_up']} given up (")
    assert f"{because['400 content_filter']} x 400 content_filter" in said


def test_a_run_goes_on_behind_what_was_given_up(tmp_path):
    server = FakeServer(hopeless={"refused": 0.2})
    first = grown(tmp_path, server, 6)
    lost = given_up(tmp_path)
    assert lost
    struck = server.struck.total()
    again = grown(tmp_path, server, 12)
    assert first.items() <= again.items()
    kept = {record["conversation"] for record in lost}
    assert kept <= {record["conversation"] for record in given_up(tmp_path)}
    assert server.struck.total() - struck == len(given_up(tmp_path)) - len(lost)  # none was asked for again


@pytest.mark.parametrize(("kind", "error"), [("refused", InputError), ("garbage", ResumableError)])
def test_where_most_are_given_up_the_run_stops_and_they_are_tried_again(tmp_path, kind, error):
    with pytest.raises(error, match=r"1\d of the last 1\d conversations were given up .* run the same command again"):
        grown(tmp_path, FakeServer(hopeless={kind: 1.0}), 30)
    assert given_up(tmp_path) == []
    assert len(grown(tmp_path, FakeServer(), 6)) == 6


def test_a_run_of_which_nothing_is_left_says_what_the_server_said(tmp_path):
    with pytest.raises(InputError, match="the prompt was filtered"):
        grown(tmp_path, FakeServer(hopeless={"refused": 1.0}), 1)


def test_more_than_half_of_the_last_twenty_is_most():
    endings = Endings("cases")
    refused, failed = RefusedCallError("no", "400"), FailedCallError("gone", "500")
    for failure in [None] * 10 + [refused] * 6 + [failed] * 4:
        endings.add(failure)
        assert endings.stop is None
    endings.add(failed)  # the first of the ten that went well leaves the window: 11 of 20
    assert isinstance(endings.stop, InputError)  # 6 of 11 were refused
    assert "11 of the last 20 cases were given up because a server failed on them (6 x 400, 5 x 500)" in str(
        endings.stop
    )
    assert endings.stop_at_end(22) is None
    assert endings.stop_at_end(21) is not None

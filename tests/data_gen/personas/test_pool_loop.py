"""Growing a pool with a scripted model: a pure function of the messages, good and bad answers mixed."""

import asyncio
import json
import random
from dataclasses import replace

import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.settings import plain, read
from data_gen.personas.entry import read_seeds
from data_gen.personas.filter import calibrate, nearest_neighbours
from data_gen.personas.loop import grow_pool
from data_gen.personas.rules import broken_rule
from data_gen.personas.settings import PersonaSettings
from helpers.scripted_proposals import ScriptedModel, sentence

SETTINGS = PersonaSettings(
    rounds=40, proposals=4, concurrency=5, quantile=0.95, saturation_rounds=3, saturation_rate=0.1
)
TARGET = 90


def grow(model, encoder, settings=SETTINGS, target=TARGET, seed=0, **more):
    events, shown = [], []
    progress = lambda done, total, note: shown.append((done, total))  # noqa: E731
    made = grow_pool("profile", model, encoder, settings, target, seed, events.append, progress, **more)
    result = asyncio.run(made)
    return result, events, shown


@pytest.fixture(scope="module")
def grown(word_encoder):
    model = ScriptedModel(order=0)
    return model, *grow(model, word_encoder)


def test_equal_answers_give_the_same_pool_in_whatever_order_they_arrive(grown, word_encoder):
    model, result, events, _ = grown
    assert sum(event["event"] == "accept" for event in events) > 20
    for order in (1, 2):
        other = ScriptedModel(order)
        again, same_events, _ = grow(other, word_encoder)
        assert again.entries == result.entries
        np.testing.assert_array_equal(again.vectors, result.vectors)
        assert same_events == events
        assert other.asked[: len(model.answered)] == model.asked[: len(model.answered)]
        assert other.answered != model.answered  # the order was another one


def test_another_seed_gives_another_pool(grown, word_encoder):
    _, result, _, _ = grown
    assert grow(ScriptedModel(0), word_encoder, seed=1)[0].entries != result.entries


def test_rounds_run_at_once_and_ask_with_their_own_seed(grown):
    model, *_ = grown
    assert model.most_at_once == SETTINGS.concurrency
    assert len(set(model.seeds)) == len(model.seeds)


def test_the_pool_holds_the_seeds_first_and_then_sound_new_entries(grown):
    _, result, _, shown = grown
    seeds = read_seeds("profile")
    assert result.entries[: len(seeds)] == seeds
    new = result.entries[len(seeds) :]
    assert {entry.origin for entry in new} == {"generated"}
    for row, entry in enumerate(new, start=len(seeds)):
        assert broken_rule("profile", entry.items) is None
        assert (result.vectors[:row] @ result.vectors[row]).max() <= result.threshold + 1e-6
    assert all(set(entry.attributes) == set(seeds[0].attributes) for entry in new)
    assert result.threshold == calibrate(result.vectors[: len(seeds)], SETTINGS.quantile)
    assert result.distribution["max"] == round(float(nearest_neighbours(result.vectors).max()), 4)
    assert result.seed_distribution["max"] >= result.threshold - 1e-4
    assert shown[-1] == (len(result.entries), TARGET)


def test_every_reject_is_recorded_with_its_reason(grown):
    _, result, events, _ = grown
    rejects = [event for event in events if event["event"] == "reject"]
    assert sum(result.rejects.values()) == len(rejects)
    assert set(result.rejects) == {*("unreadable", "rule: count", "exact duplicate", "n-gram duplicate", "too similar")}
    for event in rejects:
        assert event["text"]
        measured = event["reason"] in ("exact duplicate", "n-gram duplicate", "too similar")
        assert (event["similarity"] is not None) == (event["nearest"] is not None) == measured
    accepted = [event["id"] for event in events if event["event"] == "accept"]
    assert accepted == [entry.id for entry in result.entries[len(read_seeds("profile")) :]]
    json.dumps(events)


def test_stops_exactly_at_the_target_and_cancels_what_is_under_way(word_encoder):
    model = ScriptedModel(order=3)
    result, *_ = grow(model, word_encoder, target=60)
    assert (len(result.entries), result.stopped) == (60, "target")
    assert model.at_once == 0
    assert len(model.asked) == len(model.answered) + model.cancelled


def test_stops_when_nothing_new_comes(word_encoder):
    """The same two people in each round: the first takes both of four asked for, after it three rounds take none."""
    people = [[sentence(random.Random(f"{who} {row}")) for row in range(8)] for who in range(2)]
    same = json.dumps({"people": [{"items": items} for items in people]})
    result, *_ = grow(ScriptedModel(0, lambda messages: same), word_encoder)
    assert (result.stopped, result.rounds) == ("saturated", 4)
    assert (len(result.entries), result.rejects) == (len(read_seeds("profile")) + 2, {"exact duplicate": 6})


def test_stops_at_the_most_rounds(word_encoder):
    result, *_ = grow(ScriptedModel(0), word_encoder, replace(SETTINGS, rounds=2))
    assert (result.stopped, result.rounds) == ("rounds", 2)
    none, events, _ = grow(ScriptedModel(0), word_encoder, replace(SETTINGS, rounds=0))
    assert (none.entries, events) == (read_seeds("profile"), [])


def test_a_small_target_takes_the_first_seeds_without_asking(word_encoder):
    model = ScriptedModel(0)
    result, *_ = grow(model, word_encoder, target=3)
    assert (result.entries, result.stopped, model.asked) == (read_seeds("profile")[:3], "target", [])


def test_seeds_of_a_user(word_encoder):
    own = read_seeds("personality")[:6]
    result, *_ = grow(ScriptedModel(0), word_encoder, replace(SETTINGS, quantile=1.0), target=8, seeds=own)
    assert result.entries[:6] == own
    with pytest.raises(InputError, match="at least 2 entries, found 1"):
        grow(ScriptedModel(0), word_encoder, seeds=own[:1])


def test_a_failed_call_is_raised_and_the_others_are_cancelled(word_encoder):
    def fail(messages):
        raise ConnectionError("the server is gone")

    model = ScriptedModel(0, fail)
    with pytest.raises(ConnectionError, match="the server is gone"):
        grow(model, word_encoder)
    assert model.at_once == 0


def test_with_the_sentence_encoder(minilm):
    few, seeds = replace(SETTINGS, rounds=2), read_seeds("profile")[:10]
    result, events, _ = grow(ScriptedModel(0), minilm, few, seeds=seeds)
    again, same_events, _ = grow(ScriptedModel(5), minilm, few, seeds=seeds)
    assert (again.entries, same_events) == (result.entries, events)
    assert result.threshold == calibrate(minilm.encode([seed.text for seed in seeds]), SETTINGS.quantile)


@pytest.mark.parametrize("name", ["proposals", "concurrency", "saturation_rounds"])
def test_bad_settings(name):
    with pytest.raises(InputError, match=f"{name}: 0 must be at least 1"):
        read(PersonaSettings, plain(SETTINGS) | {name: 0}, "config.personas")


def test_bad_target(word_encoder):
    with pytest.raises(InputError, match="target is 0"):
        grow(ScriptedModel(0), word_encoder, target=0)

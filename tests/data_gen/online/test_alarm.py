"""Alarms of the rounds on lines of metrics.jsonl made by hand, and judging stored trees once more."""

import asyncio
import json
import math
from dataclasses import fields, replace

import pytest

from aloe_jax.train.metrics_log import read_metrics
from data_gen.online import alarm
from data_gen.online.advantages import Counts
from data_gen.online.alarm import WINDOW, Watch, alarmed, judge_alarmed
from data_gen.online.judging import judged
from data_gen.online.measures import measures
from data_gen.online.rewards import PARTS, judge_score
from data_gen.online.rollout import Seat, roll_out
from data_gen.online.round_settings import AlarmSettings
from data_gen.online.settings import RolloutSettings
from data_gen.roles import Roles, Verdict
from data_gen.world.inducer import ScriptedInducer
from data_gen.world.judge import ScriptedJudge
from data_gen.world.personas import scripted_personas
from data_gen.world.stochastic import StochasticResponder
from data_gen.world.teacher import ScriptedTeacher
from data_gen.world.user import ScriptedUser

ON = AlarmSettings()
OFF = AlarmSettings(**dict.fromkeys((each.name for each in fields(AlarmSettings)), 0.0))
QUIET = {"entropy": 0.7, "reference_kl": 0.1, "words": 20.0, "repeated": 0.1, "groups_without_spread": 0.2}
[PERSONA] = scripted_personas("train", profiles=1, personalities=1, seed=0, pairings=1)


def line(number, **parts):
    found = {f"reward_{name}": parts.get(name, 0.0) for name in PARTS}
    return QUIET | {"step": number, "reward": sum(found.values())} | found


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("entropy", "entropy", 0.01),
        ("reference_kl", "reference_kl", 0.6),
        ("words", "words", 201.0),
        ("repetition", "repeated", 0.6),
        ("truncated", "truncated", 0.6),
        ("silent", "silent", 0.1),
        ("unread", "unread", 0.1),
        ("sampler_gap", "sampler_gap", 0.2),
        ("flat", "groups_without_spread", 0.96),
        ("flat", "zero_advantages", 0.96),
    ],
)
def test_a_figure_beyond_its_limit(name, key, value):
    settings = replace(ON, entropy=0.1)
    assert alarmed([line(1)], settings) is None
    assert f"config.online.alarm.{name}=" in alarmed([line(1) | {key: value}], settings)
    assert alarmed([line(1) | {key: value}], OFF) is None


@pytest.mark.parametrize("nothing", [math.nan, None])
def test_a_mean_over_nothing_hides_no_alarm(nothing):
    """NaN in a line, and null where it is read again: a method without siblings has no groups of them."""
    known = line(1) | {"groups_without_spread": nothing, "entropy": nothing}
    assert alarmed([known], replace(ON, entropy=0.1)) is None
    assert "alarm.flat=" in alarmed([known | {"zero_advantages": 0.96}], ON)


def rounds(before, after):
    return [line(number, **(before if number <= WINDOW else after)) for number in range(1, 2 * WINDOW + 1)]


def test_one_part_that_others_pay_for():
    """The score rises by 0.3 and the length costs 0.15 more: the part has twice the rise of the whole, 0.15. Where the
    length costs 0.05 more it has 0.3 of 0.25, 1.2 times as much, and where nothing falls 1.0 times."""
    before = {"score": 0.2}
    assert "reward_score has risen by 0.3 since" in alarmed(rounds(before, {"score": 0.5, "length": -0.15}), ON)
    assert alarmed(rounds(before, {"score": 0.5, "length": -0.05}), ON) is None
    assert alarmed(rounds(before, {"score": 0.5}), ON) is None
    assert "one_part=0.9 times" in alarmed(rounds(before, {"score": 0.5}), replace(ON, one_part=0.9))
    assert alarmed(rounds(before, {"score": 0.24, "length": -0.1}), ON) is None  # 0.04 may be chance
    assert "the whole reward by -0.1," in alarmed(rounds(before, {"score": 0.5, "belief": -0.4}), ON)
    assert alarmed(rounds(before, {"score": 0.5, "length": -0.15})[1:], ON) is None  # nine rounds
    assert alarmed(rounds(before, {"score": 0.5, "length": -0.15}), OFF) is None


def test_lines_are_read_once_and_those_that_are_compared_are_kept(tmp_path, monkeypatch):
    """Resumed after round 8, with a line of a round that is done again: what the alarms say is what they say on all
    lines, whether these were read or reported."""
    lines = [*rounds({"score": 0.2}, {"score": 0.2}), *(line(each, score=0.5, length=-0.15) for each in range(11, 16))]
    path, read = tmp_path / "metrics.jsonl", []
    path.write_text("".join(f"{json.dumps(each)}\n" for each in [*lines[:8], line(9, score=9.0)]))
    monkeypatch.setattr(alarm, "read_metrics", lambda path: read.append(path) or read_metrics(path))
    watch = Watch(path, ON)
    found = [watch.alarmed(each) for each in lines[8:]]
    assert found == [alarmed(lines[: each["step"]], ON) for each in lines[8:]]
    assert found[:2] == [None, None]
    assert "reward_score has risen by 0.3 since" in found[-1]
    assert read == [path]
    assert len(watch.lines) == 2 * WINDOW


class Broken(ScriptedJudge):
    """Gives this to everything."""

    def __init__(self, value):
        self.value = value

    async def score(self, *_):
        return Verdict(self.value)


def tree(judge):
    settings = RolloutSettings(turns=3, siblings=2, share=0.7)
    roles = Roles(ScriptedUser(None), ScriptedInducer(), StochasticResponder(PERSONA, 0.5), judge, ScriptedTeacher())
    [found] = asyncio.run(roll_out([Seat("t1", PERSONA, roles)], settings, seed=0))
    return found


@pytest.mark.parametrize(("value", "name"), [(None, "unscored"), (5.0, "top_score")])
def test_a_broken_judge_is_noticed_and_its_trees_are_judged_again(value, name):
    """What is judged again equals what a sound judge scores the first time."""
    broken, sound = tree(Broken(value)), tree(ScriptedJudge())
    assert {judge_score(reply) for reply in broken.replies()} == {value}
    measured = measures([broken], Counts())
    assert measured[name] == 1.0
    assert f"{name} is 1, above config.online.alarm.{name}=" in judge_alarmed(measured, ON)
    assert judge_alarmed(measured, OFF) is None
    assert judge_alarmed(measures([sound], Counts()), ON) is None
    assert asyncio.run(judged([broken], ScriptedJudge())) == [sound]

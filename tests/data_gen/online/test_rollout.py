"""Rollout trees of the scripted world, whose policy is stochastic."""

import asyncio
import dataclasses
import math

import pytest

from aloe_jax.serve.client.call_errors import FailedCallError, RefusedCallError
from aloe_jax.tree.schema import dump
from data_gen.online.advantages import Counts, groups
from data_gen.online.measures import measures
from data_gen.online.rewards import PARTS, POTENTIAL, TOTAL, part, rewarded
from data_gen.online.rollout import UNREAD, Seat, chosen_turns, future_prefix, roll_out, tree_name
from data_gen.online.settings import RewardSettings, RolloutSettings
from data_gen.roles import Roles
from data_gen.world.inducer import ScriptedInducer
from data_gen.world.judge import ScriptedJudge
from data_gen.world.personas import scripted_personas
from data_gen.world.stochastic import StochasticResponder
from data_gen.world.teacher import ScriptedTeacher
from data_gen.world.user import ScriptedUser

PERSONAS = scripted_personas("train", profiles=2, personalities=2, seed=0, pairings=1)
SETTINGS = RolloutSettings(turns=5, siblings=3, futures=2, horizon=2.0, share=0.6)


class Recorded:
    """A role that notes the dialogue and the seed of each call before it passes it on."""

    def __init__(self, player):
        self.player, self.calls = player, []

    async def message(self, persona, dialogue, seed=0):
        self.calls.append((tuple(dialogue), seed))
        return await self.player.message(persona, dialogue, seed)

    async def replies(self, dialogue, hint, n, seed):
        self.calls.append((tuple(dialogue), hint, n, seed))
        return await self.player.replies(dialogue, hint, n, seed)


def roles(persona, user=None, responder=None):
    return Roles(
        user or ScriptedUser(seed=None),
        ScriptedInducer(),
        responder or StochasticResponder(persona, 0.5),
        ScriptedJudge(),
        ScriptedTeacher(),
    )


def seats(personas=PERSONAS, round_number=0):
    return [Seat(tree_name(round_number, persona), persona, roles(persona)) for persona in personas]


def grown(settings=SETTINGS, personas=PERSONAS, seed=0, round_number=0):
    return asyncio.run(roll_out(seats(personas, round_number), settings, seed, policy=7))


def named(tree, names):
    return [tree.node(name) for name in names]


def test_every_chosen_turn_has_siblings_with_futures_of_one_horizon():
    """a = 2, T = 5: H(t) = min(ceil(2 (5 - t) / 5), 5 - t) = 2, 2, 1, 1, 0."""
    assert [SETTINGS.ahead(turn) for turn in range(1, 6)] == [2, 2, 1, 1, 0]
    for tree in grown():
        chosen = chosen_turns(tree.id, SETTINGS, 0)
        assert len(chosen) == 3
        ids = {node.id for node in tree.nodes}
        assert tree.path == tuple(name for turn in range(1, 6) for name in (f"u{turn}", f"a{turn}.1"))
        for turn in range(1, 6):
            siblings = {f"a{turn}.{number}" for number in (1, 2, 3)}
            assert siblings & ids == (siblings if turn in chosen else {f"a{turn}.1"})
            for number in (1, 2, 3) if turn in chosen else ():
                for future in (0, 1):
                    prefix = "" if (number, future) == (1, 0) else f"a{turn}.{number}/{'f1/' if future else ''}"
                    length = SETTINGS.ahead(turn)
                    for later in range(turn + 1, turn + length + 1):
                        assert f"{prefix}a{later}.1" in ids
                    last = turn + length + 1
                    assert (f"{prefix}u{last}" in ids) == (last <= 5)
                    assert prefix == "" or f"{prefix}a{last}.1" not in ids
        assert {(node.condition, node.policy) for node in tree.replies()} == {("plain", 7)}


def test_the_main_path_is_that_of_a_rollout_without_siblings():
    alone = dataclasses.replace(SETTINGS, siblings=1, share=0.0)
    for tree, path in zip(grown(), grown(alone), strict=True):
        assert len(path.nodes) == 10
        assert named(tree, tree.path) == list(path.nodes)


def test_more_siblings_futures_and_turns_add_to_a_tree():
    more = dataclasses.replace(SETTINGS, siblings=4, futures=3, horizon=5.0, share=1.0)
    for tree, larger in zip(grown(), grown(more), strict=True):
        assert set(map(dump, tree.nodes)) < set(map(dump, larger.nodes))


def test_equal_arguments_give_equal_trees_whoever_else_is_in_the_batch():
    trees = [dump(tree) for tree in grown()]
    assert [dump(tree) for tree in grown()] == trees
    assert [dump(tree) for tree in grown(personas=PERSONAS[1:2])] == trees[1:]
    assert dump(grown(personas=PERSONAS[:1], round_number=1)[0]) != trees[0]
    assert dump(grown(personas=PERSONAS[:1], seed=1)[0]) != trees[0]


def test_siblings_meet_the_same_draws():
    """A user's seed is that of the turn and the future, whatever was replied; so is the policy's, unless told not to
    be."""
    for common in (True, False):
        settings = dataclasses.replace(SETTINGS, common_draws=common, share=0.2, futures=1)
        user, policy = Recorded(ScriptedUser(seed=None)), Recorded(StochasticResponder(PERSONAS[0]))
        [tree] = asyncio.run(roll_out([Seat("t", PERSONAS[0], roles(PERSONAS[0], user, policy))], settings, 0))
        [turn] = chosen_turns("t", settings, 0)
        seeds = {}
        for dialogue, seed in user.calls:
            seeds.setdefault(len(dialogue), []).append(seed)
        assert {len(set(found)) for found in seeds.values()} == {1}
        assert len(seeds[2 * turn]) == 3
        assert len({dialogue for dialogue, _ in user.calls if len(dialogue) == 2 * turn}) == 3
        later = [seed for dialogue, _, _, seed in policy.calls if len(dialogue) == 2 * turn + 1]
        assert len(later) == 3
        assert len(set(later)) == (1 if common else 3)
        assert {(hint, n) for _, hint, n, _ in policy.calls} == {(None, 1), (None, 3)}
        assert tree.preferences == ()


def test_futures_are_other_draws():
    user = Recorded(ScriptedUser(seed=None))
    settings = dataclasses.replace(SETTINGS, share=0.2, futures=3)
    asyncio.run(roll_out([Seat("t", PERSONAS[0], roles(PERSONAS[0], user))], settings, 0))
    [turn] = chosen_turns("t", settings, 0)
    assert len({seed for dialogue, seed in user.calls if len(dialogue) == 2 * turn}) == 3


def test_early_turns_are_chosen_more_often():
    """Of 10 turns with weights 10, ..., 1 the first is among 5 drawn ones in most trees, the last in few."""
    settings = RolloutSettings(turns=10, share=0.5)
    found = [chosen_turns(f"t{number}", settings, 0) for number in range(400)]
    assert {len(turns) for turns in found} == {5}
    first, last = (sum(turn in turns for turns in found) / 400 for turn in (1, 10))
    assert first > 0.7
    assert last < 0.25
    assert [len(chosen_turns("t", RolloutSettings(turns=2, share=share), 0)) for share in (0.0, 0.1, 1.0)] == [0, 1, 2]


def test_the_parts_of_a_reward_add_up():
    for tree in (rewarded(tree, SETTINGS) for tree in grown()):
        for node in tree.replies():
            values = [part(node, name) for name in PARTS]
            assert part(node, TOTAL) == pytest.approx(sum(values), abs=1e-12)
            assert node.scores[0].judge == "scripted"
        assert rewarded(tree, SETTINGS) == tree


def test_no_judge_is_needed_where_its_score_has_no_weight():
    """The other parts of the reward are there, and add up to a total."""
    settings = dataclasses.replace(SETTINGS, reward=RewardSettings(score=0.0))
    unjudged = [
        dataclasses.replace(seat, roles=dataclasses.replace(seat.roles, judge=None)) for seat in seats(PERSONAS[:1])
    ]
    (tree,) = asyncio.run(roll_out(unjudged, settings, 0))
    assert not any(reply.scores for reply in tree.replies())
    (judged,) = grown(settings, PERSONAS[:1])
    totals = [[part(reply, TOTAL) for reply in rewarded(each, settings).replies()] for each in (tree, judged)]
    assert totals[0] == totals[1]
    assert None not in totals[0]


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_the_potential_telescopes(discount):
    """sum over l of gamma^l (gamma Phi(l + 1) - Phi(l)) = gamma^n Phi(n) - Phi(0); Phi is 0 after the last turn, and at
    a cut that of the user's next message."""
    settings = dataclasses.replace(SETTINGS, futures=1, discount=discount)
    tree = rewarded(grown(settings)[0], settings)
    paths = [list(tree.path)]
    paths += [[node.id for node in tree.path_to(node.id)] for node in tree.nodes if "/" in node.id]
    for path in paths:
        nodes = named(tree, path)
        if nodes[-1].role == "assistant":
            if len(nodes) < 10:
                continue
            end, replies = 0.0, nodes[1::2]
        else:
            end, replies = part(nodes[-1], POTENTIAL), nodes[1:-1:2]
        total = math.fsum(discount**turn * part(node, "belief") for turn, node in enumerate(replies))
        assert total == pytest.approx(discount ** len(replies) * end - part(nodes[0], POTENTIAL), abs=1e-12)


def test_each_future_has_its_own_gain_in_belief():
    """With the belief alone rewarded the return of a future is gamma^(H + 1) Phi(its end) - Phi(the turn), whatever a
    reply's other futures brought to light."""
    alone = RewardSettings(score=0.0, questions=0.0, length=0.0, repetition=0.0, leak=0.0)
    settings = dataclasses.replace(SETTINGS, reward=alone, futures=3)
    for tree in (rewarded(tree, settings) for tree in grown(settings)):
        for group in groups(tree, settings):
            turn, ahead = group.turn, settings.ahead(group.turn)
            last = turn + ahead + 1
            for row, reply in enumerate(group.replies):
                for future in range(len(group.returns[row])):
                    prefix = "" if (row, future) == (0, 0) else future_prefix(reply, future)
                    end = part(tree.node(f"{prefix}u{last}"), POTENTIAL) if last <= 5 else 0.0
                    gain = settings.discount ** (ahead + 1) * end - part(tree.node(f"u{turn}"), POTENTIAL)
                    assert group.returns[row][future] == pytest.approx(gain, abs=1e-12)


class Refusing:
    """A user, an inducer and a judge whose server refuses what is said after the first turn, with `error`."""

    def __init__(self, error):
        self.error, self.name = error, "refusing"
        self.user, self.inducer, self.judge = ScriptedUser(seed=None), ScriptedInducer(), ScriptedJudge()

    async def message(self, persona, dialogue, seed=0):
        if dialogue:
            raise self.error("HTTP 400: content policy", "policy")
        return await self.user.message(persona, dialogue, seed)

    async def beliefs(self, persona, dialogue, known=()):
        if len(dialogue) > 1:
            raise self.error("HTTP 400: content policy", "policy")
        return await self.inducer.beliefs(persona, dialogue, known)

    async def score(self, persona, dialogue, *others):
        if len(dialogue) > 1:
            raise self.error("HTTP 400: content policy", "policy")
        return await self.judge.score(persona, dialogue, *others)


@pytest.mark.parametrize("asked", ["user", "inducer", "judge"])
def test_a_call_that_is_refused_for_good_does_not_hold_up_the_rounds(asked):
    """The same batch would meet the refusal again. A server that fails may answer later. Each refusal
    is counted, and an inducer's leaves the belief as it was."""
    settings, persona = RolloutSettings(turns=2, siblings=2, share=0.5), PERSONAS[0]

    def tree(error):
        seat = dataclasses.replace(roles(persona), **{asked: Refusing(error)})
        [found] = asyncio.run(roll_out([Seat("t", persona, seat)], settings, seed=0))
        return found

    found = tree(RefusedCallError)
    users = [node for node in found.nodes if node.role == "user"]
    silent = {len(found.path_to(node.id)) for node in users if not node.text}
    unread = {len(found.path_to(node.id)) for node in users if UNREAD in node.flags}
    unscored = {len(found.path_to(node.id)) for node in found.replies() if node.scores[0].value is None}
    none = set()
    expected = {"user": ({3}, none, none), "inducer": (none, {3}, none), "judge": (none, none, {4})}
    assert (silent, unread, unscored) == expected[asked]
    measured = measures([found], Counts())
    counted = {"user": "silent", "inducer": "unread", "judge": "unscored"}
    assert [name for name in counted.values() if measured[name]] == [counted[asked]]
    if asked == "inducer":
        first, *later = users
        assert first.belief
        assert {node.belief for node in later} == {first.belief}
        assert measured["unread"] == len(later) / len(users)
    with pytest.raises(FailedCallError):
        tree(FailedCallError)

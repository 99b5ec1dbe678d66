"""Probes of rollout trees: how they are sampled, what an answer is worth, and that nothing else changes."""

import asyncio
import dataclasses

import pytest

from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.probe import QUESTION, Claim, answer_text
from aloe_jax.tree.schema import PROBE, dump, message_of
from data_gen.online.advantages import credited
from data_gen.online.measures import measures
from data_gen.online.probes import answers_of
from data_gen.online.rewards import TOTAL, part, rewarded
from data_gen.online.rollout import Seat, chosen_turns, roll_out
from data_gen.online.settings import RewardSettings, RolloutSettings
from data_gen.online.spread import PRIOR, Spread
from data_gen.roles import Roles
from data_gen.world.catalogue import shown_claims
from data_gen.world.inducer import ScriptedInducer
from data_gen.world.judge import ScriptedJudge
from data_gen.world.personas import scripted_personas
from data_gen.world.stochastic import StochasticResponder
from data_gen.world.teacher import ScriptedTeacher
from data_gen.world.user import ScriptedUser

[PERSONA] = scripted_personas("train", profiles=1, personalities=1, seed=0)
SETTINGS = RolloutSettings(
    turns=3, siblings=2, horizon=1.0, share=0.67, probes=3, reward=RewardSettings(probe=2.0, unfounded=0.1)
)
MADE_UP = Claim("saying.sayings", 1)


class Asked:
    """Answers with all that the user has shown, with the same and a claim out of nothing, and with no answer."""

    def __init__(self):
        self.calls = []

    async def replies(self, dialogue, hint, n, seed):
        self.calls.append((tuple(dialogue), hint, n, seed))
        known = shown_claims(PERSONA, dialogue[:-1])
        texts = (answer_text(known), answer_text((*known, MADE_UP)), "I like you.")
        return [
            Answer(text, "length" if number == 2 else "stop", (number, 7), (-1.0, -2.0), "hash")
            for number, text in enumerate(texts[:n])
        ]


def tree_dialogue(tree, answer):
    """The messages that an answer is about."""
    return [message_of(node) for node in tree.path_to(answer.id)[:-2]]


def grown(settings=SETTINGS, asked=None):
    roles = Roles(
        ScriptedUser(seed=None), ScriptedInducer(), StochasticResponder(PERSONA), ScriptedJudge(), ScriptedTeacher()
    )
    return asyncio.run(roll_out([Seat("t", PERSONA, roles, asked=asked or Asked())], settings, 0, policy=4))[0]


@pytest.fixture(scope="module")
def tree():
    return grown()


@pytest.fixture(scope="module")
def plain():
    return grown(dataclasses.replace(SETTINGS, probes=0))


def test_the_policy_is_asked_after_the_replies_of_chosen_turns(tree):
    asked = Asked()
    assert grown(asked=asked) == tree
    turns = chosen_turns("t", SETTINGS, 0)
    assert len(turns) == len(asked.calls) == 2
    for turn, (dialogue, hint, n, _) in zip(turns, asked.calls, strict=True):
        assert (hint, n) == (None, 3)
        path = [node.text for node in tree.path_to(f"a{turn}.1")]
        assert [message.content for message in dialogue] == [*path, QUESTION]
    assert len({seed for *_, seed in asked.calls}) == 2
    for turn, answers in zip(turns, answers_of(tree), strict=True):
        assert [node.id for node in answers] == [f"a{turn}.1/{name}" for name in ("belief", "belief2", "belief3")]
        for number, node in enumerate(answers):
            assert (node.token_ids, node.logprobs, node.tokenizer, node.policy) == (
                (number, 7),
                (-1.0, -2.0),
                "hash",
                4,
            )
            assert node.flags == ((PROBE, "truncated") if number == 2 else (PROBE,))


def test_the_rest_of_the_tree_is_the_same(tree, plain):
    """Nodes, rewards, values, advantages and the figures of the round."""
    assert [dump(node) for node in tree.dialogue] == [dump(node) for node in plain.nodes]
    with_probes, without = (rewarded(each, SETTINGS) for each in (tree, plain))
    assert with_probes.dialogue == without.nodes
    assert rewarded(with_probes, SETTINGS) == with_probes
    given = [credited([each], SETTINGS, Spread()) for each in (with_probes, without)]
    assert given[0][0][0].dialogue == given[1][0][0].nodes
    assert given[0][2] == given[1][2]
    assert given[1][1].sums.items() <= given[0][1].sums.items()
    found, expected = (measures(trees, counts) for trees, _, counts in given)
    answers = sum(len(answer.token_ids or ()) for of_probe in answers_of(tree) for answer in of_probe)
    assert found["sampled_tokens"] == answers + expected.pop("sampled_tokens")
    assert {name: found[name] for name in expected} == expected
    assert all(name.startswith("probe") for name in found.keys() - expected.keys() - {"sampled_tokens"})


def test_an_answer_is_worth_its_gain_in_f1_less_claims_without_evidence(tree):
    """n items shown: F1 is 1, 2n / (2n + 1) for one claim too many, and 0 for no answer, and what it was before is
    their mean at the probe before, 0 at the first. Weight 2, and 0.1 off for the claim out of nothing."""
    found, before = answers_of(rewarded(tree, SETTINGS)), 0.0
    for answers in found:
        shown = len(shown_claims(PERSONA, tree_dialogue(tree, answers[0])))
        right = [1.0, 2 * shown / (2 * shown + 1), 0.0]
        assert shown > 0
        assert [part(node, PROBE) for node in answers] == pytest.approx([2 * (f1 - before) for f1 in right])
        assert [part(node, "unfounded") for node in answers] == pytest.approx([0.0, -0.1, 0.0])
        assert [part(node, TOTAL) for node in answers] == pytest.approx(
            [2 * (f1 - before) - off for f1, off in zip(right, (0.0, 0.1, 0.0), strict=True)]
        )
        before = sum(right) / 3


def test_answers_are_compared_with_each_other_alone(tree):
    """A = (total - mean of the others' total) / sigma, sigma the spread of turn 0, whose two groups these are: the mean
    of both variances, drawn from the personality's to that of all, which are the same."""
    valued, spread, _ = credited([rewarded(tree, SETTINGS)], SETTINGS, Spread())
    groups = [[part(node, TOTAL) for node in answers] for answers in answers_of(valued[0])]
    means = [sum(totals) / 3 for totals in groups]
    variances = [sum((value - mean) ** 2 for value in totals) / 2 for totals, mean in zip(groups, means, strict=True)]
    sigma = (sum(variances) / 2) ** 0.5
    assert (
        spread.of(PERSONA.personality, 0)
        == pytest.approx(((sum(variances) + PRIOR * sigma**2) / (2 + PRIOR)) ** 0.5)
        == pytest.approx(sigma)
    )
    for answers, totals in zip(answers_of(valued[0]), groups, strict=True):
        for place, node in enumerate(answers):
            others = (sum(totals) - totals[place]) / 2
            assert node.advantage == pytest.approx((totals[place] - others) / sigma)
            assert node.value == totals[place]


def test_what_a_round_says_of_its_probes(tree):
    """One of three answers of each probe is unreadable, and one of the others' claims is out of nothing."""
    valued, _, counts = credited([rewarded(tree, SETTINGS)], SETTINGS, Spread())
    found = measures(valued, counts)
    shown = [len(shown_claims(PERSONA, tree_dialogue(tree, answers[0]))) for answers in answers_of(tree)]
    assert found["probe_readable"] == pytest.approx(2 / 3)
    assert found["probe_f1"] == pytest.approx(sum(1 + 2 * n / (2 * n + 1) for n in shown) / 6)
    assert found["probe_precision"] == pytest.approx(sum(1 + n / (n + 1) for n in shown) / 4)
    assert (found["probe_recall"], found["probe_unfounded"]) == (1.0, 0.5)
    assert (found["probes"], found["probe_flat_groups"], found["probe_tokens"]) == (2.0, 0.0, 12.0)

"""The loss of single labelled replies against values by hand and TRL's formulas, and the batches that it is counted
in."""

import math

import jax
import numpy as np
import pytest

from aloe_jax.data.plan import pack_plan
from aloe_jax.train.objectives import OBJECTIVES
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.prune import labelled, pruned
from aloe_jax.tree.row import Capacity
from aloe_jax.tree.trie import build_trie
from helpers.objective_samples import means, pairs, plain, replies
from helpers.tiny import CHAT
from helpers.tree_samples import conversation

APO = OBJECTIVES["apo_zero_unpaired"]


def test_by_hand():
    """beta 0.5: rewards 0.5 * (-4 + 6) = 1 of a good reply, 0.5 * (-5 + 3) = -1 and 0.5 * 4 = 2 of two bad ones; the
    fourth has no label. Losses 1 - sigmoid(1) = 0.268941, sigmoid(-1) = 0.268941 and sigmoid(2) = 0.880797, mean
    0.472893. With the weights 2 and 0.5 the losses are (0.537883 + 0.134471 + 0.440399) / 3. Two of the three rewards
    have the sign of their label. Entropy (3 + 1 + 2) / (4 + 1 + 1)."""
    given = replies(
        [-4.0, -5.0, -1.0, -9.0], [-6.0, -3.0, -5.0, -1.0], length=[4, 1, 1, 2], label=[1, -1, -1, 0],
        entropy=[3.0, 1.0, 2.0, 9.0],
    )  # fmt: skip
    total, weight, metrics = APO(given, pairs(), plain(beta=0.5))
    assert float(weight) == 3.0
    assert float(total / weight) == pytest.approx(0.472893, abs=1e-6)
    expected = {"accuracy": 2 / 3, "reward_chosen": 1.0, "reward_rejected": 0.5, "entropy": 1.0}
    expected |= {"log_prob_chosen": -4.0, "log_prob_rejected": -3.0}
    expected |= {"log_prob_drift_chosen": 2.0, "log_prob_drift_rejected": 1.0}
    assert means(metrics) == pytest.approx(expected)
    total, weight, _ = APO(given, pairs(), plain(beta=0.5, desirable_weight=2.0, undesirable_weight=0.5))
    assert float(total / weight) == pytest.approx((0.537883 + 0.134471 + 0.440399) / 3, abs=1e-6)


def trl_loss(policy, reference, good, beta, desirable_weight, undesirable_weight):
    """TRL's loss, written down from `KTOTrainer._compute_loss` (trl/trainer/kto_trainer.py, commit f2cd5771 of
    2026-07-24, loss_type "apo_zero_unpaired"), which takes the log-probabilities of whole replies, sorts them by label
    and averages what is left: losses.nanmean() of desirable_weight x (1 - sigmoid(beta x chosen log-ratio)) and
    undesirable_weight x sigmoid(beta x rejected log-ratio)."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    chosen_logratios = policy[good] - reference[good]
    rejected_logratios = policy[~good] - reference[~good]
    chosen_losses = 1 - sigmoid(beta * chosen_logratios)
    rejected_losses = sigmoid(beta * rejected_logratios)
    return np.nanmean(np.concatenate([desirable_weight * chosen_losses, undesirable_weight * rejected_losses]))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_loss_and_gradient_are_trls(share):
    """Batches of good replies, bad ones and both. The gradient is compared with central differences of TRL's loss."""
    rng = np.random.default_rng(5)
    policy, reference = rng.uniform(-60, -5, 12), rng.uniform(-60, -5, 12)
    good = rng.permutation(12) < round(12 * share)
    weights = {"desirable_weight": 1.4, "undesirable_weight": 0.6}
    settings = plain(beta=0.1, **weights)
    with jax.enable_x64(True):
        given = replies(list(policy), list(reference), label=list(np.where(good, 1.0, -1.0)))

        def loss(log_prob):
            total, weight, _ = APO(given._replace(log_prob=log_prob), pairs(), settings)
            return total / weight

        value, gradient = jax.value_and_grad(loss)(given.log_prob)
        assert float(value) == pytest.approx(trl_loss(policy, reference, good, 0.1, **weights), rel=1e-12)
        for number, step in enumerate(np.eye(12) * 1e-4):
            up, down = (trl_loss(policy + sign * step, reference, good, 0.1, **weights) for sign in (1, -1))
            assert float(gradient[0, number]) == pytest.approx((up - down) / 2e-4, rel=1e-6, abs=1e-11)


def test_first_loss():
    """sigmoid(0) = 1/2 of every reply, times the factor if it is the same for both labels."""
    same = replies([-4.0, -5.0], [-4.0, -5.0], label=[1, -1])
    for factor in (1.0, 3.0):
        settings = plain(desirable_weight=factor, undesirable_weight=factor)
        total, weight, _ = APO(same, pairs(), settings)
        assert APO.first_loss(settings) == float(total / weight) == factor / 2
    assert APO.first_loss(plain(desirable_weight=2.0)) is None


def test_equal_siblings_with_both_labels_teach_nothing():
    """sigmoid(-r) + sigmoid(r) = 1 whatever r is."""

    def loss(log_prob):
        given = replies([0.0, 0.0], label=[1, -1])
        return APO(given._replace(log_prob=log_prob[None, None].repeat(2, axis=1)), pairs(), plain())[0]

    value, slope = jax.value_and_grad(loss)(np.float32(0.7))
    assert (float(value), float(slope)) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-7))


def test_a_batch_counts_labelled_replies():
    """Nine conversations with one label each and one pair (two labels): batches of four are three steps with at most
    four labels each, and each is trained on once. Chats without labels are left out."""
    nodes = lambda *more: (("u", None, "user", "Hi?"), *more)  # noqa: E731
    reply = lambda name: (name, "u", "assistant", f"Reply {name}.")  # noqa: E731
    trees = [conversation(*nodes(reply(f"r{number}")), name=f"t{number}") for number in range(9)]
    trees = [
        tree.model_copy(update={"nodes": (tree.nodes[0], tree.nodes[1].model_copy(update={"label": number % 2 == 0}))})
        for number, tree in enumerate(trees)
    ]
    trees += [conversation(*nodes(reply("a"), reply("b")), preferences=(("a", "b"),), name="pair")]
    trees += [conversation(*nodes(reply("c")), name="chat")]
    capacity = Capacity(256, 128, 8, 8)
    parts = [fragments(tree, build_trie(tree, CHAT), capacity, number)[0] for number, tree in enumerate(trees)]
    kept = [pruned(part, labelled(part)) for part in parts]
    sizes = np.array([part.sizes for part in kept])
    assert sizes[:, 2].tolist() == [1] * 9 + [2, 0]
    plan = pack_plan(sizes, np.arange(len(trees)), capacity, batch=4, unit="replies", seed=0, epochs=1)
    counts = [sum(int(sizes[index, 2]) for row in step for index in row) for step in plan.steps]
    assert len(counts) == math.ceil(11 / 4)
    assert max(counts) <= 4
    assert sorted(plan.fragments) == list(range(10))

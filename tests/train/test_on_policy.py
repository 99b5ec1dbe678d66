"""Objectives of a policy's own replies: values by hand, what they are equal to, and a bandit whose optimum is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aloe_jax.train.objectives import OBJECTIVES
from helpers.objective_samples import means, pairs, plain, replies, with_log_prob
from helpers.on_policy import over_the_others

REGRESSION, GRADIENT, DISTIL = (OBJECTIVES[name] for name in ("tree_regression", "policy_gradient", "distil"))


def mean(objective, given, **settings):
    total, weight, _ = objective(given, pairs(), plain(**settings))
    return float(total / weight)


class TestRegression:
    def test_by_hand(self):
        """Group 0: D = 1, 0, -1 of mean 0, eta 0.5: D / eta = 2, 0, -2; Q = 3, 1, 2: Q - 2 = 1, -1, 0. Errors 1, 1, -2
        squared are 1 + 1 + 4 = 6, over k - 1 = 2 is 3. Group 1, of two: D = 0.5, -0.5 and Q = 0, 4, hence 1 and -1
        against -2 and 2: 9 + 9 = 18. Mean (3 + 18) / 2. A reply without an advantage, and a group of one, do not count.
        Of the pairs (0, 1), (0, 2), (2, 1), (4, 3) the better gained more in the first two: accuracy 1/2."""
        given = replies(
            [-1.0, -2.0, -3.0, -3.5, -4.5, -9.0, -1.0], old=[-2.0, -2.0, -2.0, -4.0, -4.0, -1.0, -3.0],
            length=[2, 3, 1, 2, 2, 1, 1], group=[0, 0, 0, 1, 1, 1, 2],
            advantage=[*over_the_others([3, 1, 2]), *over_the_others([0, 4]), math.nan, 5.0],
        )  # fmt: skip
        total, weight, metrics = REGRESSION(given, pairs(), plain(eta=0.5))
        assert (float(total), float(weight)) == pytest.approx((21.0, 2.0))
        assert means(metrics)["accuracy"] == pytest.approx(0.5)

    def test_first_loss_is_the_variance_of_the_values(self):
        """Sample variances of (3, 1, 2) and (0, 4): 1 and 8, whatever the policy's log-probabilities."""
        given = replies(
            [-1.0, -2.0, -3.0, -4.0, -5.0], [-1.0, -2.0, -3.0, -4.0, -5.0], group=[0, 0, 0, 1, 1],
            advantage=[*over_the_others([3, 1, 2]), *over_the_others([0, 4])],
        )  # fmt: skip
        assert mean(REGRESSION, given) == pytest.approx((1 + 8) / 2)
        # Turn weights 1 and 0.5: (1 + 0.5 * 8) / 1.5.
        given = given._replace(turn=jnp.asarray([[1, 1, 1, 2, 2]]))
        assert mean(REGRESSION, given, turn_weights=(1.0, 0.5)) == pytest.approx(5 / 1.5)

    def test_two_siblings_are_half_of_rebel(self):
        """REBEL's ((D_1 - D_2) / eta - (R_1 - R_2))^2, arXiv 2404.16767: eta 0.7, D = 0.4 and -0.3, R = 2 and -1."""
        given = replies([-1.6, -3.3], old=[-2.0, -3.0], advantage=over_the_others([2, -1]))
        assert mean(REGRESSION, given, eta=0.7) == pytest.approx(((0.4 + 0.3) / 0.7 - 3) ** 2 / 2, rel=1e-5)

    def test_pairs_say_the_same(self):
        """1/(k-1) sum_i (x_i - mean x)^2 = 1/(k (k-1)) sum over pairs (x_i - x_j)^2, x = D / eta - Q, k = 4."""
        rng = np.random.default_rng(0)
        moved, values, eta = rng.normal(size=4), rng.normal(size=4), 0.3
        given = replies(list(moved), old=[0.0] * 4, advantage=over_the_others(values))
        x = moved / eta - values
        expected = sum((x[i] - x[j]) ** 2 for i in range(4) for j in range(i)) / 12
        assert mean(REGRESSION, given, eta=eta) == pytest.approx(expected, rel=1e-5)


class TestPolicyGradient:
    @pytest.mark.parametrize(
        ("log_ratio", "advantage", "gain", "clipped"),
        [
            (0.0, 2.0, 2.0, 0), (math.log(1.2), 2.0, 2.4, 0), (math.log(1.5), 2.0, 2.56, 1),
            (math.log(0.5), 2.0, 1.0, 0), (math.log(0.5), -1.0, -0.8, 1), (math.log(1.5), -1.0, -1.5, 0),
        ],
    )  # fmt: skip
    def test_the_clip_by_hand(self, log_ratio, advantage, gain, clipped):
        """min(rho A, clip(rho, 0.8, 1.28) A) of one token, over the constant 4."""
        given = replies([log_ratio - 1.0], [-1.0], advantage=[advantage])
        total, weight, metrics = GRADIENT(given, pairs(), plain(tokens_per_reply=4, kl_weight=0.0))
        assert (float(total), float(weight)) == pytest.approx((-gain, 4.0), rel=1e-5)
        assert float(metrics["clipped"][0]) == clipped
        assert float(metrics["ratio_max"][0]) == pytest.approx(math.exp(log_ratio), rel=1e-5)

    def test_sums_over_tokens_and_a_constant(self):
        """Two replies of 2 and 3 tokens, ratio e^0.1 each token, advantages 1 and -2: -(2 - 6) e^0.1 over 2 x 10. A
        turn's ratio is the same here."""
        given = replies([-1.8, -2.7], [-2.0, -3.0], length=[2, 3], advantage=[1.0, -2.0])
        for ratio in ("token", "turn"):
            assert mean(GRADIENT, given, ratio=ratio, tokens_per_reply=10, kl_weight=0.0) == pytest.approx(
                4 * math.exp(0.1) / 20, rel=1e-5
            )

    def test_the_ratio_of_a_turn(self):
        """Log-ratios 0.6 and -0.2 of two tokens: the turn's is e^0.2 = 1.2214 for both, inside the bounds, so that the
        gain is 2 x 1.2214; by token it is 1.28 + e^-0.2 = 2.0987. The gradients at the old policy are both 1."""
        given = replies([0.0], [0.0], length=[2], advantage=[1.0])
        moved = lambda values: given._replace(targets=given.targets._replace(log_prob=values))  # noqa: E731
        at = jnp.zeros_like(given.targets.log_prob).at[0, :2].set(jnp.asarray([0.6, -0.2]))
        for ratio, expected in (("turn", 2 * math.exp(0.2)), ("token", 1.28 + math.exp(-0.2))):
            loss = lambda values, ratio=ratio: GRADIENT(  # noqa: E731
                moved(values), pairs(), plain(ratio=ratio, kl_weight=0.0)
            )[0]
            assert float(loss(at)) == pytest.approx(-expected, rel=1e-5)
            np.testing.assert_allclose(jax.grad(loss)(jnp.zeros_like(at))[0, :3], [-1, -1, 0], atol=1e-6)

    def test_divergence(self):
        """k3 at l_ref - l = 0.5: e^0.5 - 0.5 - 1 = 0.148721; at -0.5: e^-0.5 + 0.5 - 1 = 0.106531. The second reply has
        no advantage and does not count. With kl_weight 0.1 and advantage 0: 0.0148721 per token."""
        given = replies([-1.5, -1.5], [-1.0, -2.0], old=[-1.5, -1.5], advantage=[0.0, math.nan])
        total, _, metrics = GRADIENT(given, pairs(), plain(kl_weight=0.1))
        assert float(total) == pytest.approx(0.0148721, rel=1e-5)
        assert means(metrics)["reference_kl"] == pytest.approx(0.148721, rel=1e-5)
        both = given._replace(advantage=jnp.zeros((1, 2)))
        assert means(GRADIENT(both, pairs(), plain())[2])["reference_kl"] == pytest.approx(0.127626, rel=1e-5)

    def test_groups_without_spread(self):
        """Three groups of several replies: spread, all alike, none with an advantage. The last reply has no sibling."""
        nan = math.nan
        given = replies([0.0] * 7, group=[0, 0, 1, 1, 2, 2, 3], advantage=[1, -1, 0, 0, nan, nan, 2])
        for objective in (GRADIENT, REGRESSION):
            total, weight = objective(given, pairs(), plain())[2]["groups_without_spread"]
            assert (float(total), float(weight)) == (2.0, 3.0)

    def test_a_tree_is_its_chains(self):
        """Root reply r of 1 token with two children: c of 2 tokens, a leaf with advantage 3, and d of 1 token over the
        leaves e and f with -1 and 4. Three chains: r c, r d e, r d f. The tokens' coefficients summed over the chains
        are r: 3 - 1 + 4 = 6, c: 3, d: -1 + 4 = 3, e: -1, f: 4. In the tree each token stands once, with the mean over
        the leaves below times their number, of 3 in all: r 2 x 3, c 3 x 1, d 1.5 x 2, e -1, f 4."""
        settings = plain(kl_weight=0.0, tokens_per_reply=1)

        def gradient(advantage, length):
            given = replies([0.0] * len(length), length=length, advantage=advantage)
            loss = lambda lp: GRADIENT(  # noqa: E731
                given._replace(targets=given.targets._replace(log_prob=lp)), pairs(), settings
            )[0]
            return -np.asarray(jax.grad(loss)(given.targets.log_prob))[0, : sum(length)]

        tree = gradient([2.0 * 3, 3.0, 1.5 * 2, -1.0, 4.0], [1, 2, 1, 1, 1])
        r, c1, c2, d, e, f = tree
        chains = [gradient([3.0, 3.0], [1, 2]), gradient([-1.0] * 3, [1, 1, 1]), gradient([4.0] * 3, [1, 1, 1])]
        assert [r, c1, c2] == pytest.approx([sum(chain[0] for chain in chains), *chains[0][1:]])
        assert [d, e, f] == pytest.approx([chains[1][1] + chains[2][1], chains[1][2], chains[2][2]])
        assert tree == pytest.approx([6, 3, 3, 3, -1, 4])


def test_distil_by_hand():
    """Two tokens of one reply gain 0.25 each by the hint, the one of the next would lose 3, clipped to 0.5; the third
    reply has no hint. At the old policy -(2 x 0.25 - 0.5) = 0 over 2 replies x 1. At ratio e^0.2 each: the second is
    -0.5 x e^0.2, the first 2 x 0.25 x e^0.2; with ratio e^0.5 the first is bounded by 1.28."""
    given = replies([-2.0, -1.0, -1.0], [-2.0, -1.0, -1.0], length=[2, 1, 1], hinted=[-1.5, -4.0, math.nan])
    settings = plain(hint_clip=0.5, tokens_per_reply=1, kl_weight=0.0)
    total, weight, metrics = DISTIL(given, pairs(), settings)
    assert (float(total), float(weight)) == pytest.approx((0.0, 2.0), abs=1e-6)
    found = means(metrics)
    assert (found["hint_gain"], found["hint_clipped"]) == pytest.approx(((0.25 + 0.25 - 3) / 3, 1 / 3))
    up = given._replace(targets=given.targets._replace(log_prob=given.targets.log_prob + 0.5))
    assert float(DISTIL(up, pairs(), settings)[0]) == pytest.approx(-(0.5 * 1.28 - 0.5 * math.exp(0.5)), rel=1e-5)


REWARDS = np.array([0.0, 1.0, 0.5, -1.0])


def bandit(objective, settings, groups):
    """A jitted gradient of the loss over `groups` x 4 sampled arms by the logits: (logits, arms, old policy's
    log-probabilities of all arms, advantages) -> gradient. An arm is a reply of one token."""
    given = replies([0.0] * 4 * groups, group=list(np.arange(4 * groups) // 4))

    def loss(logits, arms, old, advantage):
        room = given.targets.reply.shape[1] - arms.shape[0]
        targets = given.targets._replace(old=jnp.pad(old[arms], (0, room))[None])
        sampled = given._replace(advantage=advantage[None], targets=targets)
        log_prob = jax.nn.log_softmax(logits)[arms][None]
        total, weight, _ = objective(with_log_prob(sampled, log_prob), pairs(), settings)
        return total / weight

    return jax.jit(jax.grad(loss))


class TestBandit:
    """One state, four arms with rewards 0, 1, 0.5 and -1."""

    def test_regression_over_all_arms_has_its_closed_form(self):
        """The minimum over all siblings is pi_old e^(eta Q), normalised: eta 2, pi_old = (0.4, 0.1, 0.3, 0.2)."""
        old, all_arms = np.log([0.4, 0.1, 0.3, 0.2]), np.arange(4)
        gradient, logits = bandit(REGRESSION, plain(eta=2.0), 1), jnp.asarray(old)
        for _ in range(400):
            logits -= 0.5 * gradient(logits, all_arms, jnp.asarray(old), jnp.asarray(over_the_others(REWARDS)))
        tilted = np.exp(old + 2 * REWARDS)
        np.testing.assert_allclose(jax.nn.softmax(logits), tilted / tilted.sum(), atol=1e-4)

    @pytest.mark.parametrize(
        ("objective", "settings", "rate"),
        [(REGRESSION, plain(), 0.5), (GRADIENT, plain(kl_weight=0.0, tokens_per_reply=1), 1.0)],
        ids=["tree_regression", "policy_gradient"],
    )
    def test_sampling_finds_the_best_arm(self, objective, settings, rate):
        """Each round draws sixteen groups of four from the policy for one update; the best arm, at 0.1 first, ends
        above 0.9."""
        gradient, rng = bandit(objective, settings, 16), np.random.default_rng(0)
        logits = jnp.log(jnp.asarray([0.4, 0.1, 0.3, 0.2]))
        for _ in range(60):
            old = jax.nn.log_softmax(logits)
            arms = rng.choice(4, size=64, p=np.exp(old, dtype=np.float64) / np.exp(old, dtype=np.float64).sum())
            advantage = np.ravel([over_the_others(REWARDS[group]) for group in arms.reshape(16, 4)])
            logits -= rate * gradient(logits, arms, old, jnp.asarray(advantage, jnp.float32))
        assert float(jax.nn.softmax(logits)[1]) > 0.9

"""Objectives against values computed by hand (see the docstrings) and TRL's, and invariants of all objectives."""

import dataclasses
import json
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.settings import plain as plain_values
from aloe_jax.settings import read
from aloe_jax.train.objectives import OBJECTIVES, check_objective, is_maximum
from aloe_jax.train.objectives.settings import SHARED, ObjectiveSettings
from helpers.objective_samples import SETTINGS, means, pairs, plain, random_row, replies, with_log_prob

TRL = json.loads((Path(__file__).parent.parent / "fixtures/train/trl_losses.json").read_text())
PAIRWISE = [name for name, objective in OBJECTIVES.items() if "margin" in objective.reads]
# name in the golden file -> (objective, its settings there)
AS_TRL = {
    "sft": ("sft", {}),
    "dpo": ("dpo", {"beta": 0.3}),
    "ipo": ("ipo", {"beta": 0.3}),
    "cdpo": ("cdpo", {"beta": 0.3, "label_smoothing": 0.2}),
    "robust_dpo": ("robust_dpo", {"beta": 0.3, "label_smoothing": 0.2}),
    "hinge": ("hinge", {"beta": 0.3}),
    "dpo_norm": ("dpo_norm", {"beta": 5.0}),
    "rpo": ("rpo", {"beta": 0.3, "nll_weight": 0.7}),
    "simpo": ("simpo", {"beta": 2.0, "gamma": 0.5}),
    "orpo": ("orpo", {"beta": 0.4}),
    "dpo_margin": ("dpo", {"beta": 0.3, "margin": 2.0}),
}


def mean(objective, replies, pairs, settings=None):
    total, weight, _ = OBJECTIVES[objective].function(replies, pairs, settings or plain())
    return float(total / weight)


def golden_row():
    """The golden file's replies, chosen and rejected of each pair in turn. SFT trains on the chosen ones."""
    sides = [pair[side] for pair in TRL["pairs"] for side in ("chosen", "rejected")]
    policy, reference, length, entropy = np.asarray(sides).T
    given = replies(
        list(policy * length), list(reference * length), length=list(length), entropy=list(entropy * length),
        weight=[count * (number % 2 == 0) for number, count in enumerate(length)],
        weighted_log_prob=[value * (number % 2 == 0) for number, value in enumerate(policy * length)],
    )  # fmt: skip
    return given, pairs(*[(number, number + 1) for number in range(0, len(sides), 2)], margin=TRL["margins"])


@pytest.mark.parametrize("name", AS_TRL)
def test_losses_and_gradients_are_trls(name):
    """Pair by pair, and their mean. Both sides in f64, except TRL's ORPO, which computes in f32."""
    objective, config = AS_TRL[name]
    tolerance = 1e-6 if objective == "orpo" else 1e-10
    with jax.enable_x64(True):
        given, all_pairs = golden_row()

        def loss(log_prob, weight):
            sft_weight = jnp.repeat(weight, 2, axis=1)
            changed = given._replace(
                log_prob=log_prob,
                weighted_log_prob=sft_weight * given.weighted_log_prob / given.log_prob * log_prob,
                weight=sft_weight * given.weight,
            )
            total, count, _ = OBJECTIVES[objective].function(
                changed, all_pairs._replace(weight=weight), plain(**config)
            )
            return total / count

        value_and_gradient = jax.jit(jax.value_and_grad(loss))
        for number, expected in enumerate(TRL["losses"][name]):
            alone = jnp.zeros_like(all_pairs.weight).at[0, number].set(1.0)
            got, gradient = value_and_gradient(given.log_prob, alone)
            assert float(got) == pytest.approx(expected["loss"], rel=tolerance, abs=tolerance)
            gradients = np.zeros(gradient.size)
            gradients[2 * number : 2 * number + 2] = expected["gradient"]
            np.testing.assert_allclose(gradient[0], gradients, rtol=tolerance, atol=tolerance)
        if objective != "sft":  # the mean over pairs; SFT's is over tokens
            each = [expected["loss"] for expected in TRL["losses"][name]]
            got, _ = value_and_gradient(given.log_prob, all_pairs.weight)
            assert float(got) == pytest.approx(np.mean(each), rel=tolerance)


def test_batch_figures_are_trls():
    """Loss and metrics of a batch of five pairs: TRL's rewards/*, logps/* and entropy; for SFT the loss over tokens.
    One of the pairs is a tie, which TRL counts as wrong and we as half right."""
    with jax.enable_x64(True):
        given, all_pairs = golden_row()
        expected = TRL["batch"]["dpo"] | {"rewards/accuracies": TRL["batch"]["dpo"]["rewards/accuracies"] + 0.5 / 5}
        total, weight, metrics = OBJECTIVES["dpo"].function(given, all_pairs, plain(beta=0.3))
        assert float(total / weight) == pytest.approx(expected["loss"], rel=1e-10)
        names = {
            "accuracy": "rewards/accuracies", "reward_margin": "rewards/margins", "reward_chosen": "rewards/chosen",
            "reward_rejected": "rewards/rejected", "log_prob_chosen": "logps/chosen",
            "log_prob_rejected": "logps/rejected", "entropy": "entropy",
        }  # fmt: skip
        got = means(metrics)
        assert {theirs: got[ours] for ours, theirs in names.items()} == pytest.approx(
            {theirs: expected[theirs] for theirs in names.values()}, rel=1e-7
        )
        assert mean("sft", given, all_pairs) == pytest.approx(TRL["batch"]["sft"]["loss"], rel=1e-10)


def test_sft():
    """Weighted sums -6 and -2 over weights 3 and 1: -(-6 - 2) / (3 + 1) = 2. Entropies 6 and 3 over 3 and 2 tokens of
    the replies with a weight: 9 / 5. Turn 1 alone: 6 / 3 = 2, turn 2: 2 / 1. With turn weights 1 and 0.5 the loss is
    (6 + 1) / (3 + 0.5) = 2; the metrics stay. Entropy of turn 1: 6 / 3, of turn 2: 3 / 2."""
    given = replies(
        [-9.0, -2.0, -4.0], weighted_log_prob=[-6.0, -2.0, 0.0], weight=[3.0, 1.0, 0.0],
        length=[3, 2, 4], turn=[1, 2, 2], entropy=[6.0, 3.0, 100.0],
    )  # fmt: skip
    assert mean("sft", given, pairs()) == pytest.approx(2.0)
    config = plain(turn_buckets=3, turn_weights=(1.0, 0.5))
    total, weight, metrics = OBJECTIVES["sft"].function(given, pairs(), config)
    assert (float(total), float(weight)) == (7.0, 3.5)
    assert means({name: metrics[name] for name in ("entropy", "loss_turn_1", "loss_turn_2")}) == pytest.approx(
        {"entropy": 1.8, "loss_turn_1": 2.0, "loss_turn_2": 2.0}
    )
    assert means({name: metrics[name] for name in ("entropy_turn_1", "entropy_turn_2")}) == pytest.approx(
        {"entropy_turn_1": 2.0, "entropy_turn_2": 1.5}
    )
    assert [float(part) for part in metrics["loss_turn_3"]] == [0.0, 0.0]  # exists at every step, but is empty


def test_dpo():
    """beta 0.5; rewards 0.5 * (-4 + 6) = 1 and 0.5 * (-5 + 3) = -1; margin 2; loss log(1 + e^-2) = 0.126928; drift 2
    and -2; entropy (3 + 1) / (4 + 1)."""
    given = replies([-4.0, -5.0], [-6.0, -3.0], length=[4, 1], entropy=[3.0, 1.0])
    total, weight, metrics = OBJECTIVES["dpo"].function(given, pairs((0, 1)), plain(beta=0.5))
    assert float(total / weight) == pytest.approx(0.126928, abs=1e-6)
    expected = {"accuracy": 1.0, "reward_margin": 2.0, "reward_chosen": 1.0, "reward_rejected": -1.0}
    expected |= {"log_prob_chosen": -4.0, "log_prob_rejected": -5.0}
    expected |= {"log_prob_drift_chosen": 2.0, "log_prob_drift_rejected": -2.0, "entropy": 0.8}
    assert means(metrics) == pytest.approx(expected)


def test_margins_ask_for_a_wider_gap():
    """beta 1, margins of the rewards 2 and 2, the judges' margins 1 and 0.25, config.margin 2: sigmoid of 2 - 2 = 0 and
    of 2 - 0.5 = 1.5. Losses log 2 and log(1 + e^-1.5) = 0.201413, mean 0.447280. The metrics ignore it."""
    given = replies([-1.0, -3.0])
    twice = pairs((0, 1), (0, 1), margin=[1.0, 0.25])
    total, weight, metrics = OBJECTIVES["dpo"].function(given, twice, plain(beta=1.0, margin=2.0))
    assert float(total / weight) == pytest.approx(0.447280, abs=1e-6)
    assert means(metrics)["reward_margin"] == 2.0


def test_a_tie_is_half_right():
    """Margins 1, 0 and -1: accuracies 1, 1/2 and 0 with weights 1, 2 and 1 make (1 + 1 + 0) / 4; a policy that equals
    its reference has nothing but ties."""
    given = replies([1.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    three = pairs((0, 1), (2, 3), (4, 5), weight=[1.0, 2.0, 1.0])
    assert means(OBJECTIVES["dpo"].function(given, three, plain())[2])["accuracy"] == 0.5
    start = replies([-3.0, -5.0], [-3.0, -5.0])
    assert means(OBJECTIVES["dpo"].function(start, pairs((0, 1)), plain())[2])["accuracy"] == 0.5


def test_turns():
    """Margins 2 (turn 1), -1 (turn 2) and 3 (turn 4), hinge losses 0, 2 and 0. Turn weights 4, 1 (also of turn 4):
    (4*0 + 1*2 + 1*0) / (4 + 1 + 1) = 1/3. In two buckets turn 4 counts with turn 2: margins 2 and (-1 + 3) / 2, and so
    on for every metric. Entropy of turn 1: (1 + 1) nats over 1 + 2 tokens; of the others (3 + 4 + 10 + 12) / 18."""
    given = replies(
        [2.0, 0.0, 0.0, 1.0, 3.0, 0.0], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0], turn=[1, 1, 2, 2, 4, 4],
        length=[1, 2, 3, 4, 5, 6], entropy=[1.0, 1.0, 3.0, 4.0, 10.0, 12.0],
    )  # fmt: skip
    three = pairs((0, 1), (2, 3), (4, 5))
    config = plain(beta=1.0, turn_weights=(4, 1), turn_buckets=2)
    total, weight, metrics = OBJECTIVES["hinge"].function(given, three, config)
    assert float(total / weight) == pytest.approx(1 / 3)
    expected = {
        "accuracy": (1.0, 0.5),
        "reward_margin": (2.0, 1.0),
        "reward_chosen": (1.0, 1.5),
        "reward_rejected": (-1.0, 0.5),
        "log_prob_chosen": (2.0, 1.5),
        "log_prob_rejected": (0.0, 0.5),
        "log_prob_drift_chosen": (1.0, 1.5),
        "log_prob_drift_rejected": (-1.0, 0.5),
        "entropy": (2 / 3, 29 / 18),
    }
    got = means(metrics)
    by_turn = {f"{name}_turn_{turn + 1}": values[turn] for name, values in expected.items() for turn in (0, 1)}
    assert {name: value for name, value in got.items() if "_turn_" in name} == pytest.approx(by_turn)
    assert got.keys() == {*expected, *by_turn}
    assert got["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", [name for name in PAIRWISE if OBJECTIVES[name].needs_reference])
def test_first_loss(name):
    """The loss that the loop expects of the first step is that of the objective for equal policy and reference."""
    objective = OBJECTIVES[name]
    first = objective.first_loss(SETTINGS)
    same = replies([-4.0, -5.0, -1.0], [-4.0, -5.0, -1.0], length=[3, 4, 2])
    if name == "rpo":
        assert first is None  # depends on the data
        return
    assert mean(name, same, pairs((0, 1), (2, 1)), SETTINGS) == pytest.approx(first, rel=1e-7)
    assert objective.first_loss(dataclasses.replace(SETTINGS, margin=0.5)) is None
    # Sigmoid losses start at log 2, the hinge at 1, IPO at 1 / (2 beta)^2.
    assert first == pytest.approx({"hinge": 1.0, "ipo": 1.0}.get(name, math.log(2)), rel=1e-7)


@pytest.mark.parametrize(
    ("name", "slope"),
    [("dpo", -1), ("dpo_norm", -1), ("robust_dpo", -1 / 0.6), ("cdpo", -0.6), ("hinge", -2), ("ipo", -8)],
)
def test_swapped_pair(name, slope):
    """From log sigmoid(m) - log sigmoid(-m) = m: loss(m) - loss(-m) is -m for DPO, -(1 - 2e) m with smoothing e = 0.2
    and -m / (1 - 2e) without bias, -2 m for the hinge (m in [-1, 1]) and -2 m / beta^2 for IPO with beta 0.5."""
    given = replies([-4.0, -5.5], [-4.5, -5.0], length=[2, 4])
    forward, back = (OBJECTIVES[name].function(given, pairs(pair), SETTINGS) for pair in ((0, 1), (1, 0)))
    margin, opposite = (means(result[2])["reward_margin"] for result in (forward, back))
    assert 0 < margin < 1
    assert opposite == pytest.approx(-margin)
    assert float(forward[0] / forward[1] - back[0] / back[1]) == pytest.approx(slope * margin, abs=1e-6)


def everything(name, given, all_pairs, config=SETTINGS):
    total, weight, metrics = OBJECTIVES[name].function(given, all_pairs, config)
    return {"loss": (total, weight), **metrics}


def in_batch(row, place):
    """The row in a batch of three, the others empty, padded by three replies and pairs."""
    wider = lambda array: jnp.pad(array, [(place, 2 - place), (0, 3), (0, 0)][: array.ndim])  # noqa: E731
    given, all_pairs = jax.tree.map(wider, row)
    targets = jnp.arange(given.targets.reply.shape[1])
    padded = given.targets._replace(reply=jnp.where(targets < row[0].targets.reply.shape[1], given.targets.reply, 9))
    return given._replace(value=jnp.where(given.length > 0, given.value, math.nan), targets=padded), all_pairs


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_changes_nothing_and_rows_add_up(name):
    rows = [random_row(seed) for seed in (0, 1, 2)]
    padded = [in_batch(row, place) for place, row in enumerate(rows)]
    expected, got = everything(name, *rows[1]), everything(name, *padded[1])
    for key in expected:
        np.testing.assert_allclose(got[key], expected[key], rtol=1e-5, atol=1e-5, err_msg=key)
    together = jax.tree.map(lambda *batches: sum(batches), *padded)
    value = jnp.concatenate([batch[0].value[place : place + 1] for place, batch in enumerate(padded)])
    got = everything(name, together[0]._replace(value=value), together[1])
    each = [everything(name, *batch) for batch in padded]
    alone = {key: np.max if is_maximum(key) else np.sum for key in each[0]}
    alone = {key: join([one[key] for one in each], axis=0) for key, join in alone.items()}
    for key in alone:
        np.testing.assert_allclose(got[key], alone[key], rtol=1e-5, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_metrics_are_the_same_at_every_step(name):
    """Even if a batch has no pair, no list and no reply."""
    given, all_pairs = random_row(0)
    found, empty = (
        everything(name, given, all_pairs),
        everything(name, *jax.tree.map(jnp.zeros_like, (given, all_pairs))),
    )
    assert empty.keys() == found.keys()
    assert {part for pair in jax.tree.map(float, empty).values() for part in pair} == {0.0}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradient_is_finite_for_extreme_log_probs(name):
    def loss(log_prob):
        given = replies([0.0, 0.0], value=[2.0, 1.0], label=[1, -1], advantage=[2.0, -2.0], hinted=[1.0, -5.0])
        return OBJECTIVES[name].function(with_log_prob(given, log_prob), pairs((0, 1)), SETTINGS)[0]

    gradient = jax.jit(jax.grad(loss))
    for values in ([-1e4, 0.0], [0.0, -1e4], [0.0, 0.0], [-1e-9, -1e-9]):
        assert jnp.all(jnp.isfinite(gradient(jnp.asarray([values])))), values


def test_list_of_three_by_hand():
    """beta 1, rewards log 2, 0 and log 3 in this order of preference: Plackett-Luce chooses the first with probability
    2 / (2 + 1 + 3), then the second with 1 / (1 + 3). Loss log 3 + log 4 = log 12. Of the comparisons (1, 2), (1, 3)
    and (2, 3) the rewards agree with the first."""
    given = replies([math.log(2), 0.0, math.log(3)], value=[5.0, 4.0, 1.0])
    total, weight, metrics = OBJECTIVES["listwise"].function(given, pairs(), plain(beta=1.0, ranking="value"))
    assert (float(total), float(weight)) == pytest.approx((math.log(12), 1.0))
    got = means(metrics)
    assert got["accuracy"] == pytest.approx(1 / 3)
    assert got["reward_margin"] == pytest.approx((math.log(2) + math.log(2 / 3) - math.log(3)) / 3)


def test_ties_do_not_compete():
    """Two equally good before a third, rewards 0: each of the two is chosen against the third alone, 2 log 2; all three
    equal are no list. A reply without a value is left out, also where it is the only sibling."""
    rank = lambda *value: OBJECTIVES["listwise"].function(  # noqa: E731
        replies([0.0] * len(value), value=list(value)), pairs(), plain(beta=1.0, ranking="value")
    )
    assert [float(part) for part in rank(2.0, 2.0, 1.0)[:2]] == pytest.approx([2 * math.log(2), 1.0])
    assert [float(part) for part in rank(2.0, 2.0, 2.0)[:2]] == [0.0, 0.0]
    assert [float(part) for part in rank(2.0, math.nan, 1.0)[:2]] == pytest.approx([math.log(2), 1.0])
    assert [float(part) for part in rank(2.0, math.nan)[:2]] == [0.0, 0.0]


def test_list_of_two_is_dpo():
    given = replies([-4.0, -5.5], [-4.5, -3.0], value=[2.0, 1.0])
    assert mean("listwise", given, pairs(), SETTINGS) == pytest.approx(mean("dpo", given, pairs((0, 1)), SETTINGS))


def test_preferences_and_values_that_agree_rank_alike():
    """Two lists of turns 1 and 2 with weights 1 and 0.5; pairs rank where there are no values."""
    given, all_pairs = random_row(3)
    by_value = everything("listwise", given, all_pairs)
    by_preferences = everything("listwise", given._replace(value=given.value * math.nan), all_pairs,
                                dataclasses.replace(SETTINGS, ranking="preferences"))  # fmt: skip
    assert float(by_value["loss"][1]) == 1.5
    for key in by_value:
        np.testing.assert_allclose(by_preferences[key], by_value[key], rtol=1e-6, err_msg=key)


@pytest.mark.parametrize(
    ("objective", "changes", "message"),
    [
        ("dpo", {"beta": 0.0}, "config.preference.beta: 0.0 must be more than 0"),
        ("robust_dpo", {"label_smoothing": 0.5}, "label_smoothing: 0.5 must be at least 0 and less than 0.5"),
        ("simpo", {"gamma": -1.0}, "gamma: -1.0 must be at least 0"),
        ("rpo", {"nll_weight": -1.0}, "nll_weight: -1.0 must be at least 0"),
        ("listwise", {"ranking": "length"}, "ranking: length must be one of value, preferences"),
        ("dpo", {"margin": -0.1}, "margin: -0.1 must be at least 0"),
        ("listwise", {"margin": 0.1}, "margin: 0.1 has no meaning for the objective 'listwise'"),
        ("sft", {"turn_buckets": -1}, "turn_buckets: -1 must be at least 0"),
        ("sft", {"turn_weights": [0.0, 0.0]}, r"turn_weights: \[0.0, 0.0\] must be numbers of at least 0, not all 0"),
        ("sft", {"turn_weights": ["x"]}, r"turn_weights: \['x'\] must be numbers"),
    ],
)
def test_settings_that_cannot_work(objective, changes, message):
    values = plain_values(ObjectiveSettings(objective=objective))
    check_objective(read(ObjectiveSettings, values, "config.preference"), "preference")
    with pytest.raises(InputError, match=message):
        check_objective(read(ObjectiveSettings, values | changes, "config.preference"), "preference")


def test_the_documented_table_is_the_table():
    """docs/objectives.md has one line per objective, with its config keys and whether it needs a reference."""
    text = (Path(__file__).parents[2] / "docs/objectives.md").read_text()
    lines = text.split("| objective |")[1].split("\n\n")[0].splitlines()[2:]
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in lines]
    documented = {row[0].strip("`"): (set(re.findall(r"`(\w+)`", row[4])), row[5] == "yes") for row in rows}
    assert documented == {name: (settings_read(name), entry.needs_reference) for name, entry in OBJECTIVES.items()}


@pytest.mark.parametrize("noise", [0.4999, 0.49999, 0.499999])
def test_robust_dpo_is_exact_near_one_half(noise):
    """In f32 at margin 0 the loss is log 2 whatever the noise; at m = 0.01 it is log(1 + e^-0.01) - 0.01 e / (1 - 2 e),
    up to the rounding of e itself. The difference of two weighted losses would be off by up to 2^-24 / (1 - 2 e)."""
    with jax.enable_x64(False):
        settings = plain(label_smoothing=noise, beta=1.0)
        for margin, wanted in (
            (0.0, math.log(2)),
            (0.01, math.log1p(math.exp(-0.01)) - 0.01 * noise / (1 - 2 * noise)),
        ):
            found = mean("robust_dpo", replies([margin, 0.0]), pairs((0, 1)), settings)
            assert found == pytest.approx(wanted, rel=2e-7)


def settings_read(name):
    """The settings that an objective reads, without those that all share and the margin of pairs."""

    class Recording(ObjectiveSettings):
        def __getattribute__(self, key):
            found.add(key)
            return super().__getattribute__(key)

    found = set()
    everything(name, *random_row(0), Recording(**vars(SETTINGS)))
    own = {field.name for field in dataclasses.fields(ObjectiveSettings)} - {"margin"}
    return found & own - SHARED

"""Every setting of objectives against every objective: used or refused."""

import dataclasses

import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.settings import plain, read
from aloe_jax.train.objectives import OBJECTIVES, check_objective
from aloe_jax.train.objectives.on_policy import ON_POLICY
from aloe_jax.train.objectives.settings import SHARED, ObjectiveSettings
from aloe_jax.train.settings import PreferenceSettings, TrainingSettings
from helpers.objective_samples import random_row

# Another value of each setting that not all objectives read, and the objectives that read it; the others refuse it.
SURROGATES = {"policy_gradient", "distil"}
READ_BY = {
    "beta": (0.3, {*OBJECTIVES} - {"sft", *ON_POLICY}),
    "margin": (0.4, {*OBJECTIVES} - {"sft", "listwise", "apo_zero_unpaired", *ON_POLICY}),
    "label_smoothing": (0.3, {"cdpo", "robust_dpo"}),
    "nll_weight": (0.2, {"rpo"}),
    "gamma": (0.1, {"simpo"}),
    "ranking": ("preferences", {"listwise"}),
    "desirable_weight": (1.5, {"apo_zero_unpaired"}),
    "undesirable_weight": (0.5, {"apo_zero_unpaired"}),
    "eta": (0.5, {"tree_regression"}),
    "ratio": ("turn", {"policy_gradient"}),
    "clip_low": (0.01, SURROGATES),
    "clip_high": (0.01, SURROGATES),
    "kl_weight": (0.5, SURROGATES),
    "tokens_per_reply": (32, SURROGATES),
    "hint_clip": (0.01, {"distil"}),
}


def loss(name, given, all_pairs, settings):
    total, weight, _ = OBJECTIVES[name].function(given, all_pairs, settings)
    return float(total / weight)


def test_the_table_of_settings_is_whole():
    assert {field.name for field in dataclasses.fields(ObjectiveSettings)} - SHARED == READ_BY.keys()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("setting", READ_BY)
def test_a_setting_is_used_or_refused(setting, name):
    """Another value changes the loss of the objectives that read it; for the others it is an error."""
    value, readers = READ_BY[setting]
    usual = ObjectiveSettings(objective=name)
    changed = dataclasses.replace(usual, **{setting: value})
    given, all_pairs = random_row(3)
    noise = np.random.default_rng(3).uniform(-2, 2, given.targets.old.shape)  # tokens of a reply moved unlike
    given = given._replace(targets=given.targets._replace(old=given.targets.old + noise))
    all_pairs = all_pairs._replace(weight=all_pairs.weight.at[0, 0].set(0))  # one the values alone rank
    losses = [loss(name, given, all_pairs, settings) for settings in (usual, changed)]
    check_objective(usual, "preference")
    if name in readers:
        check_objective(changed, "preference")
        assert abs(losses[0] - losses[1]) > 1e-4
    else:
        assert losses[0] == losses[1]
        with pytest.raises(
            InputError, match=rf"config.preference.{setting}: {value} has no meaning for .* '{name}'; set"
        ):
            check_objective(changed, "preference")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_any_training_takes_any_objective(name):
    """With its settings in the training's own section."""
    for section, kind in (("sft", TrainingSettings), ("preference", PreferenceSettings)):
        for setting, (value, readers) in READ_BY.items():
            values = plain(kind(objective=name)) | {setting: value}
            settings = read(kind, values, f"config.{section}")
            if name in readers:
                check_objective(settings, section)
                continue
            with pytest.raises(InputError, match=rf"config.{section}.{setting}: {value} has no meaning"):
                check_objective(settings, section)

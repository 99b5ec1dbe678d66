"""The loop: resume, first-loss check, reference log-probabilities, checkpoints on another mesh."""

import math

import jax
import numpy as np
import pytest

from aloe_jax.errors import AloeError, InputError
from aloe_jax.models import decoder
from aloe_jax.models.lora import LoraSettings
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.parallel.sharding import param_shardings
from aloe_jax.train.adapters import with_adapters
from aloe_jax.train.checkpoints import Checkpoints, restore_params
from aloe_jax.train.loop import train
from aloe_jax.train.metrics_log import MetricsLog
from aloe_jax.train.optimizer import OptimizerSettings, learning_rate, make_optimizer
from aloe_jax.train.state import abstract_state
from helpers.small_training import SETTINGS, StoppedError, copied, records, stop_after, training
from helpers.tiny import MODEL, params


def test_first_loss_and_every_step_once(whole):
    folder, state = whole
    found = records(folder)
    assert [record["step"] for record in found] == list(range(1, 6))
    assert found[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert found[-1]["loss"] < found[0]["loss"]
    assert int(state.step) == 5
    # The trees have two turns, so the third bucket exists at every step but is empty.
    assert {record["accuracy_turn_3"] for record in found} == {None}
    assert all(0 <= record["accuracy_turn_2"] <= 1 and record["entropy"] > 0 for record in found)
    assert {tuple(record) for record in found} == {tuple(found[0])}


@pytest.mark.slow
def test_a_batch_that_weighs_nothing_has_no_first_loss(batches, reference, one_device, tmp_path):
    """Turn weights of 0 for turns 1 and 2, the only ones: no loss, no gradient, no error."""
    train(training(batches, reference, one_device, tmp_path, turn_weights=(0.0, 0.0, 1.0)), copied)
    assert {(record["loss"], record["grad_norm"], record["weight"]) for record in records(tmp_path)} == {(None, 0, 0)}


@pytest.mark.parametrize("stopped", [1, 2, 3])
def test_resumed_equals_uninterrupted(stopped, whole, batches, reference, one_device, tmp_path):
    """There are checkpoints after steps 2 and 4: stopped after step 1 it starts over, after step 3 it repeats step
    3."""
    given = training(batches, reference, one_device, tmp_path)
    with pytest.raises(StoppedError):
        train(given, copied, stop_after(stopped))
    state = train(given, copied)
    assert records(tmp_path) == records(whole[0])
    jax.tree.map(np.testing.assert_array_equal, state.params, whole[1].params)


@pytest.mark.slow
def test_adapters_with_dropout_resume_to_the_same(batches, reference, one_device, tmp_path):
    """Only adapters are trained and stored; the base comes from `initial` again, the dropout from the step."""
    model = with_adapters(MODEL, LoraSettings(maps="query|down", rank=2, alpha=4.0, dropout=0.3))
    whole = train(training(batches, reference, one_device, tmp_path / "whole", model), copied)
    given = training(batches, reference, one_device, tmp_path / "stopped", model)
    with pytest.raises(StoppedError):
        train(given, copied, stop_after(3))
    state = train(given, copied)
    assert records(tmp_path / "stopped") == records(tmp_path / "whole")
    assert set(state.params["layers"]) == {f"{name}_lora_{part}" for name in ("query", "down") for part in "ab"}
    jax.tree.map(np.testing.assert_array_equal, state.params, whole.params)
    jax.tree.map(np.testing.assert_array_equal, state.frozen, params())
    assert float(np.abs(state.params["layers"]["down_lora_b"]).max()) > 0


@pytest.mark.slow
def test_resume_on_another_mesh(whole, batches, reference, one_device, tmp_path):
    with pytest.raises(StoppedError):
        train(training(batches, reference, one_device, tmp_path), copied, stop_after(3))
    train(training(batches, reference, make_mesh(fsdp=4, tensor=2), tmp_path), copied)
    for got, expected in zip(records(tmp_path), records(whole[0]), strict=True):
        assert got["loss"] == pytest.approx(expected["loss"], abs=1e-4)
        assert got["tokens"] == expected["tokens"]


def test_wrong_reference_is_noticed(batches, reference, one_device, tmp_path):
    """With the chosen replies' reference off by 1, margins are off by -beta and the first loss is not log 2."""
    odd = {key: value + (key[1] % 2) for key, value in reference.items()}
    with pytest.raises(AloeError, match=r"first loss is .*, not 0\.6931472"):
        train(training(batches, odd, one_device, tmp_path), copied)


def test_not_finite_names_the_conversations(batches, reference, one_device, tmp_path):
    broken = {key: float("nan") for key in reference}
    (row,) = batches.plan.steps[0]
    named = rf"conversations 't{batches.source.conversation[row[0]]}' \(trees\); .* a lower config\..*\.learning_rate"
    with pytest.raises(AloeError, match=rf"step 1: loss nan, .*{named}"):
        train(training(batches, broken, one_device, tmp_path), copied)


def test_checkpoint_opens_on_another_mesh(whole):
    folder, state = whole
    mesh = make_mesh(fsdp=2, tensor=4)
    places = param_shardings(decoder.abstract_params(MODEL), decoder.logical_axes(MODEL), mesh)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        assert checkpoints.latest == 5
        restored = restore_params(folder / "checkpoints", MODEL, places)
        full, position = checkpoints.restore(abstract_state(MODEL, make_optimizer(SETTINGS, 5), mesh), 5)
    jax.tree.map(np.testing.assert_array_equal, restored, state.params)
    jax.tree.map(np.testing.assert_array_equal, full.opt_state, state.opt_state)
    assert restored["layers"]["query"].sharding == places["layers"]["query"]
    assert position == {"next_index": 5}


def test_no_checkpoint(tmp_path, one_device):
    places = param_shardings(decoder.abstract_params(MODEL), decoder.logical_axes(MODEL), one_device)
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match="there is no checkpoint"):
            restore_params(folder, MODEL, places)


def test_log_drops_later_steps_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    MetricsLog(path, 2).append({"step": 3, "loss": 1.0})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3, "loss": 1.0}\n'


def test_schedules():
    """Ten steps, two of warm-up to 1: 1/3, 2/3, then 1 decreasing by 1/8 per step."""
    rate = learning_rate(OptimizerSettings(learning_rate=1.0, warmup=0.2, schedule="linear"), 10)
    np.testing.assert_allclose([rate(step) for step in range(4)], [1 / 3, 2 / 3, 1, 7 / 8], rtol=1e-6)
    flat = learning_rate(OptimizerSettings(learning_rate=1.0, warmup=0.0, schedule="constant"), 10)
    assert [float(flat(step)) for step in (0, 9)] == [1.0, 1.0]

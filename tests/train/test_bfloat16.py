"""Preference training in bfloat16, whose checks allow for the different rounding of two programs or two meshes."""

import dataclasses
import math

import numpy as np
import pytest
from etils import epath

from aloe_jax.errors import AloeError
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.train.forward import make_score
from aloe_jax.train.loop import train
from aloe_jax.train.reference import reference_log_probs
from aloe_jax.train.rounding import loss_tolerance, reply_tolerance
from helpers.small_training import COMPUTE, SETTINGS, StoppedError, copied, records, stop_after, training
from helpers.tiny import MODEL, params

BFLOAT16 = dataclasses.replace(COMPUTE, dtype="bfloat16")


def tolerance(tokens):
    return float(reply_tolerance("bfloat16", MODEL.layers, tokens))


def reference_pass(batches, mesh, folder, weights=None):
    """The reference pass on a mesh, or the check of the stored one in the folder."""
    score = make_score(MODEL, BFLOAT16, mesh)
    weights = params() if weights is None else weights
    key = {"dtype": "bfloat16"}
    return reference_log_probs(weights, score, batches, mesh, epath.Path(folder), key, tolerance=tolerance)


def in_bfloat16(batches, reference, mesh, folder):
    return dataclasses.replace(training(batches, reference, mesh, folder), compute=BFLOAT16)


@pytest.mark.slow
def test_stopped_and_resumed_on_another_mesh(batches, one_device, tmp_path):
    """Stopped after the first step, before any checkpoint, so that both checks run on the other mesh: of the stored
    replies and of the first loss, which differs from log 2 by more than f32 would allow."""
    reference = reference_pass(batches, one_device, tmp_path)
    with pytest.raises(StoppedError):
        train(in_bfloat16(batches, reference, one_device, tmp_path), copied, stop_after(1))
    mesh = make_mesh(fsdp=4, tensor=2)
    assert reference_pass(dataclasses.replace(batches, rows=4), mesh, tmp_path) == reference
    state = train(in_bfloat16(batches, reference, mesh, tmp_path), copied)
    assert int(state.step) == 5
    found = records(tmp_path)
    filled = dataclasses.replace(batches, reference=reference)
    allowed = loss_tolerance(SETTINGS, filled, "bfloat16", MODEL.layers, math.log(2))
    assert 1e-5 < abs(found[0]["loss"] - math.log(2)) < allowed
    assert found[-1]["loss"] < found[0]["loss"]


def test_another_model_is_noticed(batches, one_device, tmp_path):
    reference = reference_pass(batches, one_device, tmp_path)
    with pytest.raises(AloeError, match=r"differs from the model's by .* delete the file"):
        reference_pass(batches, one_device, tmp_path, params(1))
    odd = {reply: value + 8 * (reply[1] % 2) for reply, value in reference.items()}
    with pytest.raises(AloeError, match=r"first loss is .* in bfloat16.*compute\.dtype=float32"):
        train(in_bfloat16(batches, odd, one_device, tmp_path), copied)


def test_tolerances_by_hand(batches, reference):
    """f32 allows a constant difference. bfloat16 has an epsilon of 1/128: for a reply of 6 tokens of 4 layers
    4 x 1/128 x sqrt(6 x 4 x 6) = 0.375. With sigmoid DPO a margin m gives log(1 + e^-m)."""
    np.testing.assert_array_equal(reply_tolerance("float32", 32, np.array([1, 2000])), [1e-3, 1e-3])
    assert reply_tolerance("bfloat16", 4, 6) == 0.375
    filled = dataclasses.replace(batches, reference=reference)
    assert loss_tolerance(SETTINGS, filled, "float32", 2, math.log(2)) == 1e-5
    assert loss_tolerance(dataclasses.replace(SETTINGS, objective="ipo"), filled, "float32", 2, 25.0) == 25e-5
    (row,) = batches.plan.steps[0]
    fragment = batches.source[row[0]]
    chosen, rejected = (fragment.length[fragment.pairs[:, side]] for side in (0, 1))
    margins = SETTINGS.beta * (reply_tolerance("bfloat16", 2, chosen) + reply_tolerance("bfloat16", 2, rejected))
    expected = np.mean(np.log1p(np.exp(margins))) - math.log(2)
    found = loss_tolerance(SETTINGS, filled, "bfloat16", 2, math.log(2))
    assert found == pytest.approx(expected, rel=1e-4)

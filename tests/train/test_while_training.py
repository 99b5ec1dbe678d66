"""What happens besides the steps: signals, held-out measurements, times, traces, TensorBoard."""

import dataclasses
import math
import os
import signal
import struct
import time

import jax
import numpy as np
import pytest

from aloe_jax.data.pipeline import Batches
from aloe_jax.data.plan import PackPlan
from aloe_jax.errors import AloeError, ResumableError
from aloe_jax.parallel import hosts
from aloe_jax.train.clock import PARTS, Clock
from aloe_jax.train.forward import make_score
from aloe_jax.train.held_out import HeldOut, held_out
from aloe_jax.train.loop import train
from aloe_jax.train.metrics_log import read_metrics, time_split
from aloe_jax.train.settings import LoggingSettings
from aloe_jax.train.stop import StopRequest
from aloe_jax.train.work import works_of
from helpers.small_training import CAPACITY, COMPUTE, copied, records, training
from helpers.tiny import MODEL, params


def send(step, number):
    """A report callback that sends this process a signal after a step."""

    def report(done, total, record):
        if done == step:
            os.kill(os.getpid(), number)

    return report


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(number, whole, batches, reference, one_device, tmp_path):
    """It arrives while step 3 runs, which is then saved outside the checkpoint interval."""
    before = signal.getsignal(number)
    given = training(batches, reference, one_device, tmp_path, checkpoint_every=100)
    with pytest.raises(ResumableError, match=r"stopped after step 3 of 5 in .*; the same command continues"):
        train(given, copied, send(2, number))
    assert signal.getsignal(number) is before
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3]
    state = train(given, lambda: pytest.fail("the checkpoint has the parameters"))
    assert records(tmp_path) == records(whole[0])
    jax.tree.map(np.testing.assert_array_equal, state.params, whole[1].params)


@pytest.mark.parametrize("changes", [{"checkpoint_every": 1}, {"checkpoint_every": 100, "measure_every": 1}])
def test_a_signal_stops_several_hosts(changes, whole, batches, reference, one_device, tmp_path, monkeypatch):
    """With several hosts the request is an array over the mesh, as here, which is read with the metrics of its step:
    when a checkpoint or a measurement is due, within the same step. The line of step 2 is written in step 3, which
    therefore carries the request."""
    monkeypatch.setattr(hosts, "is_multiprocess", lambda: True)
    given = training(batches, reference, one_device, tmp_path, **changes)
    if "measure_every" in changes:
        given = dataclasses.replace(given, held_out=HeldOut(given.feed.batches, given.settings.measure_every))
    with pytest.raises(ResumableError, match="stopped after step 3 of 5"):
        train(given, copied, send(2, signal.SIGTERM))
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3]
    assert (tmp_path / "checkpoints/3").is_dir()


def test_a_signal_saves_before_it_measures(batches, reference, one_device, tmp_path):
    """Measurements are due after steps 3 and 5. A signal while one of these runs leaves its checkpoint and no
    measurement, which the next call makes up for, to the same lines as without signals."""

    def given(folder):
        made = training(batches, reference, one_device, folder, checkpoint_every=100, measure_every=3)
        return dataclasses.replace(made, held_out=HeldOut(made.feed.batches, made.settings.measure_every))

    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    train(given(tmp_path / "whole"), copied)
    folder = tmp_path / "stopped"
    for step in (3, 5):
        with pytest.raises(ResumableError, match=f"stopped after step {step} of 5"):
            train(given(folder), copied, send(step - 1, signal.SIGTERM))
        assert (folder / f"checkpoints/{step}").is_dir()
        assert not any(name.startswith("held_out_") for name in records(folder)[-1])
    train(given(folder), lambda: pytest.fail("the checkpoint has the parameters"))
    assert records(folder) == records(tmp_path / "whole")
    assert [record["step"] for record in records(folder) if "held_out_loss" in record] == [3, 5]


def test_a_request_from_before_the_first_step(batches, reference, one_device, tmp_path):
    """The signal arrived while the model was loaded, for the steps or for the reference pass."""
    with StopRequest(one_device) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(ResumableError, match=r"stopped before step 1 of 5 in .*; the same command continues"):
            train(training(batches, reference, one_device, tmp_path), copied, stop=stop)
    assert records(tmp_path) == []


def test_a_second_signal_does_not_wait(batches, reference, one_device, tmp_path):
    def report(done, total, record):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(training(batches, reference, one_device, tmp_path), copied, report)


def test_a_state_that_is_not_finite_is_never_saved(batches, reference, one_device, tmp_path):
    """The third step has a reference that is not a number, which is noticed while the fourth runs."""
    third = {number for row in batches.plan.steps[2] for number in row}
    owners = {int(batches.source.conversation[number]) for number in third}
    broken = {key: math.nan if key[0] in owners else value for key, value in reference.items()}
    with pytest.raises(AloeError, match=r"step 3: loss nan"):
        train(training(batches, broken, one_device, tmp_path, checkpoint_every=1), copied)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]
    assert [record["step"] for record in records(tmp_path)] == [1, 2]


LOADING = []  # seconds per call of `loaded`


def loaded():
    """The parameters, drawn again, which takes measurable time."""
    began = time.monotonic()
    made = jax.tree.map(np.array, params.__wrapped__())
    LOADING.append(time.monotonic() - began)
    return made


@pytest.fixture(scope="module")
def measured(batches, reference, one_device, tmp_path_factory):
    """A training that holds out two of the five conversations, traces its second step and writes TensorBoard files."""
    folder = tmp_path_factory.mktemp("measured")
    first, second = PackPlan(batches.plan.steps[:3]), PackPlan(batches.plan.steps[3:])
    part = lambda plan: dataclasses.replace(batches, plan=plan)  # noqa: E731
    given = training(part(first), reference, one_device, folder)
    aside = Batches(batches.source, second, CAPACITY, batches.rows, reference)
    logging = LoggingSettings(tensorboard=True, trace_from=2, trace_steps=1)
    held_out = HeldOut(aside, given.settings.measure_every)
    given = dataclasses.replace(given, held_out=held_out, logging=logging)
    return given, train(given, loaded)


def test_what_is_held_out_is_measured(measured):
    """After every second step and the last one; the last value is that of the final parameters, counted by hand."""
    given, state = measured
    found = read_metrics(given.directory / "metrics.jsonl")
    assert ["held_out_accuracy" in record for record in found] == [False, True, True]
    score, right = make_score(MODEL, COMPUTE), []
    for step, rows in enumerate(given.held_out.batches.plan.steps):
        for number in range(len(rows)):
            row = given.held_out.batches.row(step, number)
            batch = jax.tree.map(lambda leaf: leaf[None], row)
            gain = np.asarray(score(state.params, batch))[0] - row.reference
            right += [
                (1 + np.sign(gain[c] - gain[r])) / 2
                for (c, r), weight in zip(row.pairs, row.pair_weight, strict=True)
                if weight
            ]
    assert found[-1]["held_out_accuracy"] == pytest.approx(np.mean(right), abs=1e-6)
    assert found[-1]["held_out_loss"] > 0


def test_which_conversations_are_held_out():
    owners = np.repeat(np.arange(100), 3)
    aside = held_out(owners, 0.1, seed=0)
    assert len(set(owners[aside])) == 10
    assert not set(owners[aside]) & set(owners[~aside])
    np.testing.assert_array_equal(aside, held_out(owners, 0.1, seed=0))
    assert (aside != held_out(owners, 0.1, seed=1)).any()
    assert not held_out(np.arange(12), 0.02, seed=0).any()


def test_parts_of_the_time_add_up(measured):
    found = read_metrics(measured[0].directory / "metrics.jsonl")
    for record in found:
        parts = [record[f"{name}_seconds"] for name in (*PARTS, "step")]
        assert min(parts) >= 0
        assert sum(parts) == pytest.approx(record["seconds"], abs=0.004)  # each rounded to a thousandth
    assert [record["compile_seconds"] > 0 for record in found] == [True, False, False]
    assert [record["start_seconds"] > 0 for record in found] == [True, False, False]
    assert found[0]["start_seconds"] > LOADING[0] - 0.001 > 0.01  # not counted as time of the first step
    assert [record["held_out_seconds"] > 0 for record in found] == [False, True, True]
    assert found[2]["checkpoint_seconds"] > 0  # of the save after step 2
    assert "mfu" not in found[0]  # the table has no peak of this processor
    rest = dict.fromkeys(Clock().read(), 1.0)
    assert time_split(found, rest)["seconds"] == pytest.approx(1 + sum(record["seconds"] for record in found))


def test_trace(measured):
    assert list(measured[0].directory.glob("trace/plugins/profile/*/*.xplane.pb"))


def test_tensorboard_holds_the_same_numbers(measured):
    from tensorboardX.proto.event_pb2 import Event

    (file,) = (measured[0].directory / "tensorboard").iterdir()
    content, found = file.read_bytes(), {}
    while content:  # a record: its length, a checksum, the event, a checksum
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        found |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
        content = content[16 + length :]
    for record in read_metrics(measured[0].directory / "metrics.jsonl"):
        for name, value in record.items():
            if name not in ("step", "time") and value is not None:
                assert found[record["step"], name] == pytest.approx(value, rel=1e-6), name


def test_work_by_hand(batches):
    """A backward pass takes twice a forward pass; a token at position p attends to p + 1 tokens."""
    work = works_of(batches, MODEL)[0]
    members = [batches.source[number] for row in batches.plan.steps[0] for number in row]
    tokens = sum(part.tokens.size for part in members)
    pairs = sum(int((part.positions + 1).sum()) for part in members)
    targets = sum(part.target.size for part in members)
    assert work.flops == 3 * MODEL.matmul_flops(tokens, pairs, targets)
    assert work.tokens == tokens
    assert work.trained_tokens == targets

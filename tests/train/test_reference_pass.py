"""Reference log-probabilities: scored once, checked when read, and continued after an interruption."""

import os
import signal

import jax
import pytest
from etils import epath

from aloe_jax.data.plan import PackPlan
from aloe_jax.errors import AloeError, ResumableError
from aloe_jax.parallel import hosts
from aloe_jax.train.forward import make_score
from aloe_jax.train.reference import reference_log_probs
from aloe_jax.train.stop import StopRequest
from helpers.small_training import COMPUTE, StoppedError
from helpers.tiny import MODEL, params

SCORE = make_score(MODEL, COMPUTE)


@pytest.fixture
def scored(batches, one_device, tmp_path):
    """A pass in a folder of its own, with the list of the batches it scored."""
    calls = []

    def call(progress=lambda done, total: None, weights=None, **changes):
        def counted(values, row):
            calls.append(1)
            return SCORE(values, row)

        given = changes.pop("batches", batches)
        weights = params() if weights is None else weights
        arguments = (weights, counted, given, one_device, epath.Path(tmp_path), {"model": "tiny"}, progress)
        return reference_log_probs(*arguments, **changes)

    call.calls = calls
    return call


def stop_at(batch):
    def progress(done, total):
        if done == batch:
            raise StoppedError

    return progress


def test_it_is_stored_once_and_checked(scored, batches, reference):
    assert scored() == reference
    assert len(scored.calls) == len(batches)
    assert scored() == reference
    assert len(scored.calls) == len(batches) + 1  # the check of one batch
    with pytest.raises(AloeError, match=r"reference-.*jsonl: .* differs from the model's by .* delete the file"):
        scored(weights=params(1))


def test_an_interrupted_pass_goes_on(scored, batches, reference, tmp_path):
    """Stopped after the third batch, whose line is torn: two batches are left, and one of them is checked."""
    with pytest.raises(StoppedError):
        scored(stop_at(3))
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:-5])
    scored.calls.clear()
    reported = []
    assert scored(lambda done, total: reported.append((done, total))) == reference
    assert reported == [(3, 5), (4, 5), (5, 5)]
    assert len(scored.calls) == 1 + 3
    assert len(file.read_text().splitlines()) == len(batches)


def test_what_comes_again_is_not_scored_again(scored, batches, reference):
    twice = PackPlan(batches.plan.steps + batches.plan.steps[::-1])
    assert scored(batches=type(batches)(batches.source, twice, batches.capacity, batches.rows)) == reference
    assert len(scored.calls) == len(batches)


def test_a_signal_stops_a_pass_of_several_hosts(scored, reference, one_device, monkeypatch):
    """With several processes the request is an array over the mesh, as here; a signal that arrives while the second
    batch is scored stops the pass before the third."""
    monkeypatch.setattr(hosts, "is_multiprocess", lambda: True)

    def progress(done, total):
        if done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with StopRequest(one_device) as stop:
        assert isinstance(stop.anywhere(), jax.Array)
        with pytest.raises(ResumableError, match=r"stopped before batch 3 of 5 of .*; the same command continues"):
            scored(progress, stop=stop)
    assert len(scored.calls) == 2
    assert scored() == reference

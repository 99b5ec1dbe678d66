"""Incomplete checkpoints: a killed save, and a file that was truncated or lost afterwards."""

import json
import os
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from etils import epath

from aloe_jax.errors import InputError
from aloe_jax.models import decoder
from aloe_jax.parallel.sharding import param_shardings
from aloe_jax.train.checkpoints import Checkpoints, restore_params
from aloe_jax.train.loop import train
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.state import abstract_state
from helpers.aloe_command import DEADLINE, HELPERS, LOOK_EVERY, ROOT
from helpers.small_training import SETTINGS, copied, records, training
from helpers.tiny import MODEL


@pytest.mark.slow
def test_killed_in_the_middle_of_a_save(source, reference, batches, whole, one_device, tmp_path):
    """SIGKILL while the checkpoint after step 4 is written: the run continues from the one after step 2, to the same
    end, and the remains of the killed save are removed."""
    stored, held, folder = tmp_path / "reference.json", tmp_path / "held", tmp_path / "preference"
    stored.write_text(json.dumps([[*reply, value] for reply, value in reference.items()]))
    path = os.pathsep.join(str(ROOT / part) for part in ("", "tests"))
    script = HELPERS / "save_and_hold.py"
    process = subprocess.Popen(
        [sys.executable, script, source.directory, stored, folder, held],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + DEADLINE
        while not held.exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(LOOK_EVERY)
    finally:
        process.kill()
        process.communicate()
    checkpoints = folder / "checkpoints"
    left = {path.name for path in checkpoints.iterdir()} - {"2"}
    assert len(left) == 1
    assert [path for path in (checkpoints / left.pop()).rglob("*") if path.is_file()]
    state = train(training(batches, reference, one_device, folder), lambda: pytest.fail("there is a checkpoint"))
    assert records(folder) == records(whole[0])
    jax.tree.map(np.testing.assert_array_equal, state.params, whole[1].params)
    assert [path.name for path in checkpoints.iterdir()] == ["5"]


ARRAYS = "params/ocdbt.process_0/d/*"


def damaged(whole, folder, files=ARRAYS):
    """Copies of the whole run's checkpoint as those of steps 3 and 5; the largest of `files` of the newest is cut in
    half."""
    for name in ("3", "5"):
        shutil.copytree(whole[0] / "checkpoints/5", folder / "checkpoints" / name)
    path = max((folder / "checkpoints/5").glob(files), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("files", [ARRAYS, "optimizer/_METADATA", "data/manifest.ocdbt"])
def test_a_file_that_was_cut_off(files, whole, batches, reference, one_device, tmp_path):
    """The message names a remedy that works: the older checkpoint is restored."""
    damaged(whole, tmp_path, files)
    abstract = abstract_state(MODEL, make_optimizer(SETTINGS, 5), one_device)
    newest = tmp_path / "checkpoints/5"
    with pytest.raises(InputError, match=rf"checkpoint '{newest}' cannot be read \(.+\); move that folder away"):
        train(training(batches, reference, one_device, tmp_path), lambda: pytest.fail("there is a checkpoint"))
    shutil.move(newest, tmp_path / "away")
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest == 3
        state, _ = checkpoints.restore(abstract, 3)
    jax.tree.map(np.testing.assert_array_equal, state.params, whole[1].params)


def test_the_next_stage_cannot_read_it(whole, one_device, tmp_path):
    damaged(whole, tmp_path)
    places = param_shardings(decoder.abstract_params(MODEL), decoder.logical_axes(MODEL), one_device)
    with pytest.raises(InputError, match=rf"cannot be read .*; delete '{tmp_path}' and train again"):
        restore_params(epath.Path(tmp_path / "checkpoints"), MODEL, places)


def test_the_agreed_one_is_restored(batches, reference, one_device, tmp_path):
    """Not the newest one in the folder of this process."""
    given = training(batches, reference, one_device, tmp_path, keep=3)
    train(given, copied)
    with Checkpoints(tmp_path / "checkpoints", keep=3) as checkpoints:
        assert checkpoints.latest == 5
        state, position = checkpoints.restore(abstract_state(MODEL, make_optimizer(SETTINGS, 5), one_device), 2)
    assert (int(state.step), position) == (2, {"next_index": 2})


def flipped(path, place, bit=3):
    """The file with one bit of the byte at `place`, a share of its length, the other way round."""
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1 << bit
    path.write_bytes(data)


FLIPS = [
    *((ARRAYS, place) for place in (0.0, 0.2, 0.5, 0.8, 1.0)),
    ("params/_METADATA", 0.5),
    ("params/manifest.ocdbt", 0.5),
    ("params/_sharding", 0.5),
    ("_CHECKPOINT_METADATA", 0.5),
    ("digests.json", 0.5),
    ("digests.json", 0.0),
]


@pytest.mark.parametrize(("files", "place"), FLIPS)
def test_a_flipped_bit_is_refused_by_resume_and_export(files, place, whole, batches, reference, one_device, tmp_path):
    """Without digests Orbax loads most of these as other parameters."""
    shutil.copytree(whole[0] / "checkpoints", tmp_path / "checkpoints")
    newest = tmp_path / "checkpoints/5"
    path = max(newest.glob(files), key=lambda path: path.stat().st_size)
    flipped(path, place)
    named = path.relative_to(newest) if path.name != "digests.json" else ""
    resume = training(batches, reference, one_device, tmp_path)
    with pytest.raises(InputError, match=rf"checkpoint '{newest}' cannot be read \(.*{named}.*\); move that folder"):
        train(resume, lambda: pytest.fail("there is a checkpoint"))
    places = param_shardings(decoder.abstract_params(MODEL), decoder.logical_axes(MODEL), one_device)
    with pytest.raises(InputError, match=rf"checkpoint '{newest}' cannot be read \(.*{named}.*\); delete '{tmp_path}'"):
        restore_params(epath.Path(tmp_path / "checkpoints"), MODEL, places)


def test_an_export_does_not_read_the_optimiser(whole, one_device, tmp_path):
    """So its damage is noticed where it matters, and the parameters are verified alone."""
    shutil.copytree(whole[0] / "checkpoints", tmp_path / "checkpoints")
    flipped(max((tmp_path / "checkpoints/5").glob("optimizer/*/d/*"), key=lambda path: path.stat().st_size), 0.5)
    places, lines = decoder.shardings(MODEL, one_device), []
    params = restore_params(epath.Path(tmp_path / "checkpoints"), MODEL, places, lines.append)
    jax.tree.map(np.testing.assert_array_equal, params, whole[1].params)
    assert len(lines) == 1
    assert "GB verified in " in lines[0]
    assert lines[0].endswith("% of the restore")


def test_the_one_before_is_used_on_request(batches, reference, one_device, tmp_path):
    """The remedy of the sentence, step by step."""
    train(training(batches, reference, one_device, tmp_path, keep=3), copied)
    places = decoder.shardings(MODEL, one_device)
    flipped(max((tmp_path / "checkpoints/5").glob(ARRAYS), key=lambda path: path.stat().st_size), 0.5)
    with pytest.raises(InputError, match=r"or move that folder away to use the checkpoint of step 4$"):
        restore_params(tmp_path / "checkpoints", MODEL, places)
    shutil.move(tmp_path / "checkpoints/5", tmp_path / "away")
    restore_params(tmp_path / "checkpoints", MODEL, places)


def test_a_file_that_is_gone_is_named(whole, one_device, tmp_path):
    shutil.copytree(whole[0] / "checkpoints", tmp_path / "checkpoints")
    path = max((tmp_path / "checkpoints/5").glob(ARRAYS), key=lambda path: path.stat().st_size)
    path.unlink()
    with pytest.raises(InputError, match=f"its file .*{path.name} is missing"):
        restore_params(tmp_path / "checkpoints", MODEL, decoder.shardings(MODEL, one_device))


def test_a_file_that_was_not_saved_is_named(whole, one_device, tmp_path):
    """Orbax takes a copy beside its metadata for metadata, and fails in the middle of its reads."""
    shutil.copytree(whole[0] / "checkpoints", tmp_path / "checkpoints")
    copy = tmp_path / "checkpoints/5/params/array_metadatas/process_0.orig"
    shutil.copy(copy.with_suffix(""), copy)
    with pytest.raises(InputError, match=r"its file params/array_metadatas/process_0.orig is none of those that were"):
        restore_params(tmp_path / "checkpoints", MODEL, decoder.shardings(MODEL, one_device))
    copy.rename(tmp_path / "checkpoints/5/optimizer/process_0.orig")  # which is not read
    restore_params(tmp_path / "checkpoints", MODEL, decoder.shardings(MODEL, one_device))


def test_a_checkpoint_of_before_is_read_as_it_is(whole, one_device, tmp_path):
    shutil.copytree(whole[0] / "checkpoints", tmp_path / "checkpoints")
    (tmp_path / "checkpoints/5/digests.json").unlink()
    lines = []
    params = restore_params(tmp_path / "checkpoints", MODEL, decoder.shardings(MODEL, one_device), lines.append)
    jax.tree.map(np.testing.assert_array_equal, params, whole[1].params)
    assert len(lines) == 1
    assert "has no digests.json" in lines[0]

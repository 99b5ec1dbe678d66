"""A run in a bucket, on a server of this machine: killed, it goes on from the bucket alone."""

from __future__ import annotations

import functools
import re
import shutil
import signal

import pytest

from aloe_jax.bucket.lease import acquire
from aloe_jax.bucket.mirror import Mirror
from aloe_jax.bucket.places import local_copy
from aloe_jax.bucket.reading import readable
from aloe_jax.bucket.settings import BucketSettings
from aloe_jax.bucket.store import Store
from helpers.aloe_command import STAGES, has_lines, run_arguments
from helpers.bucket_servers import BUCKET, storage_emulator
from helpers.run_files import steps

URL = f"gs://{BUCKET}/experiments/first"


@pytest.fixture
def machine(aloe_process, tmp_path, monkeypatch):
    """The command in an environment where `gs://` leads to the server, as in this process; its cache is `tmp_path`."""
    with storage_emulator() as environment:
        for name, value in (environment | {"ALOE_CACHE": str(tmp_path)}).items():
            monkeypatch.setenv(name, value)
            monkeypatch.setitem(aloe_process.environment, name, value)
        yield aloe_process


def put(workdir, url, folder, stages):
    """Put some stages of a local run into a bucket."""
    store = Store(url)
    lease = acquire(store, "a test", "", 60.0, [].append, pytest.fail)
    mirror = Mirror(store, lease, folder, BucketSettings())
    mirror.restore()
    shutil.copy(workdir / "config.json", folder)
    for stage in stages:
        shutil.copytree(workdir / stage, folder / stage, ignore=shutil.ignore_patterns("checkpoints"))
        mirror.finish(stage)
    mirror.close()
    lease.release()


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_from_the_bucket_alone(machine, aloe, tiny_model, finished, tmp_path):
    """With SIGKILL after a checkpoint; the local copy is deleted, as with the machine. The steps are those of a local
    run, and a reader finds their checkpoints."""
    put(finished.workdir, URL, tmp_path / "put", STAGES[:3])
    copy = local_copy(URL, "run")
    arguments = run_arguments(tiny_model, URL, "--stages=sft", "--config.sft.checkpoint_every=2")
    code, errors = machine.stopped(arguments, has_lines(copy / "sft/metrics.jsonl", 5))
    assert code == -signal.SIGKILL, errors
    shutil.rmtree(copy)
    assert re.search(rf"^{URL}: killed \(process \d+\) in sft", aloe("status", URL)[1])

    result = machine.call(arguments)
    assert result.returncode == 0, result.stderr
    assert f"'{URL}': taken over from process" in result.stderr
    assert re.search(r"sft: continuing from step [24] of 12", result.stderr)
    read = readable(URL)
    assert steps(tmp_path / read, "sft") == steps(finished.workdir, "sft")
    code, _, errors = aloe("export", f"{URL}/sft", f"--out={tmp_path / 'model'}")
    assert code == 0, errors
    code, _, errors = aloe("export", finished.workdir / "sft", f"--out={tmp_path / 'other'}")
    assert code == 0, errors
    exported = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("model", "other")]
    assert exported[0] == exported[1]


@pytest.mark.slow
def test_commands_that_read(machine, aloe, finished, tmp_path, monkeypatch):
    """They show of a run in a bucket what they show of the same run on this machine, and need no lease."""
    put(finished.workdir, URL, tmp_path / "put", STAGES)
    monkeypatch.chdir(tmp_path)

    def shown(*arguments):
        """What a command prints, without the name of the run."""
        code, printed, errors = aloe(*arguments)
        assert code == 0, errors
        names = (URL, str(finished.workdir), str(local_copy(URL, "read")))
        return functools.reduce(lambda text, name: text.replace(name, "RUN"), names, printed)

    for arguments in (
        ("metrics", "{}/benchmark/sft/scores.jsonl"),
        ("metrics", "{}/benchmark", "--json"),
        ("compare", "{}/benchmark/base", "{}/benchmark/sft", "--json"),
        ("status", "{}"),
    ):
        local, there = ([each.format(run) for each in arguments] for run in (finished.workdir, URL))
        assert shown(*there) == shown(*local), arguments
    assert shown("report", URL) == shown("report", finished.workdir, "--out=page.html").replace(
        "page", "RUN/report/index"
    )
    pages = [path.read_text() for path in (local_copy(URL, "read") / "report/index.html", tmp_path / "page.html")]
    assert pages[0].count("<svg") == pages[1].count("<svg") > 0
    code, printed, errors = aloe("run", f"--workdir={URL}", "--dry-run")
    assert code == 0, errors
    assert printed.count("finished before, unchanged") == len(STAGES)

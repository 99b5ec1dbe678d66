"""A training that is killed or stopped at a random step continues with the same batches, also on other devices."""

import json
import random
import signal

import pytest

from aloe_jax.train.metrics_log import TIME_FIELDS
from helpers.aloe_command import STAGES, copy_stages, has_lines, run_arguments

EIGHT = "--xla_force_host_platform_device_count=8"
SEED = random.SystemRandom().randrange(1 << 30)  # a different step in every session; printed on failure


def steps(workdir):
    records = [json.loads(line) for line in (workdir / "preference/metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name not in TIME_FIELDS} for record in records]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_goes_on_where_it_was(aloe_process, tiny_model, finished, tmp_path, number):
    """Resumed on the same device it is equal bit for bit. A copy is resumed on eight devices as replica 2 x fsdp 2 x
    tensor 2, with settings for less memory and disk; it is equal up to rounding, which grows from step to step."""
    expected = steps(finished.workdir)
    stop = random.Random(SEED + number).randrange(1, len(expected) - 2)
    print(f"seed {SEED}: stopped after step {stop} of {len(expected)}")
    workdir = copy_stages(finished.workdir, tmp_path / "run", *STAGES[:4])
    arguments = run_arguments(tiny_model, workdir, "--stages=preference")
    code, errors = aloe_process.stopped(arguments, has_lines(workdir / "preference/metrics.jsonl", stop), number)
    assert code == (-number if number == signal.SIGKILL else 75), errors
    if number == signal.SIGTERM:
        done = len(steps(workdir))
        assert f"aloe: stopped after step {done} of {len(expected)}" in errors.splitlines()[-1]
        assert (workdir / f"preference/checkpoints/{done}").is_dir()
    elsewhere = copy_stages(workdir, tmp_path / "elsewhere", *STAGES[:5])

    result = aloe_process.call(arguments)
    assert result.returncode == 0, result.stderr
    assert steps(workdir) == expected

    mesh = ("--config.mesh.replica=2", "--config.mesh.fsdp=2", "--config.mesh.tensor=2")
    smaller = [
        f"--config.{name}"
        for name in (
            "compute.remat=none", "compute.chunk=16", "compute.attention=dense", "preference.rows=8",
            "preference.checkpoint_every=1", "preference.keep=2", "preference.async_checkpoint=False",
        )
    ]  # fmt: skip
    other = run_arguments(tiny_model, elsewhere, "--stages=preference", *mesh, *smaller)
    result = aloe_process.call(other, flags=EIGHT)
    assert result.returncode == 0, result.stderr
    for got, wanted in zip(steps(elsewhere), expected, strict=True):
        assert (got["step"], got["tokens"], got["weight"]) == (wanted["step"], wanted["tokens"], wanted["weight"])
        assert got["loss"] == pytest.approx(wanted["loss"], abs=1e-4)

"""A run in a bucket that is killed in every stage and goes on from the bucket alone. Run by hand:

    JAX_PLATFORMS=cpu PYTHONPATH=tests uv run python tests/long/bucket_kills.py --out=bucket_kills.log

Once with SIGKILL and once with SIGTERM: the same command is started again and again, is killed in the next stage, and
its local copy is deleted each time, as if the machine were gone. At the end what a reader downloads from the bucket
must be equal to a local run that nothing happened to. A line per kill says where the run was, and what the bucket had.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aloe_jax.bucket.places import local_copy
from aloe_jax.bucket.reading import readable
from aloe_jax.bucket.snapshot import read_snapshot, size_of
from aloe_jax.bucket.store import Store
from aloe_jax.run.manifest import find_manifest
from helpers import aloe_command, tiny
from helpers.aloe_command import STAGES, Aloe, has_lines, lines, run_arguments, says
from helpers.bucket_servers import BUCKET, storage_emulator
from helpers.run_files import EQUAL, assert_equal_runs

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM}
# A file of the stage and the lines in it at which it is killed; a stage without one as soon as it has begun.
POINTS = {
    "conversations": ("conversations/trees.jsonl", 2),
    "sft": ("sft/metrics.jsonl", 5),
    "preference": ("preference/metrics.jsonl", 5),
    "benchmark": ("benchmark/sft/trees.jsonl", 1),
}
OFTEN = "--config.bucket.upload_seconds=1"  # so that the bucket has something of a stage that takes seconds


def point(stage: str, copy: Path) -> Callable[[Path], bool]:
    """Whether the run is in the middle of the stage."""
    if stage not in POINTS:
        return says(f"{stage}: started")
    file, count = POINTS[stage]
    return has_lines(copy / file, count)


def killed(aloe: Aloe, arguments: list[str], url: str, stage: str, name: str) -> str:
    """Start the command, kill it in a stage, and delete the local copy; returns what became of it."""
    copy = local_copy(url, "run")
    code, errors = aloe.stopped(arguments, point(stage, copy), SIGNALS[name])
    assert code == (-signal.SIGKILL if name == "SIGKILL" else 75), errors
    found = find_manifest(copy / stage)
    had = {file: len(lines(copy / file)) for file, _ in POINTS.values() if (copy / file).exists()}
    shutil.rmtree(copy)
    snapshot, _ = read_snapshot(Store(url))
    stored = sum(map(size_of, snapshot.files.values()))
    return (
        f"{name} in {stage} ({found.status if found else 'not begun'}; {had or 'no lines yet'}): "
        f"{len(snapshot.files)} files of {stored:,} bytes in the bucket"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", default=",".join(SIGNALS), help="some of: " + ", ".join(SIGNALS))
    parser.add_argument("--stages", default=",".join(STAGES), help="the stages to kill it in")
    parser.add_argument("--out", type=Path, help="file for the lines that are printed")
    options = parser.parse_args()
    aloe_command.DEADLINE = 3600
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as opened:
        out = opened.enter_context(open(options.out, "w")) if options.out else None

        def say(text: str) -> None:
            line = f"[{time.monotonic() - began:5.0f} s] {text.replace(made, '...')}"
            print(line, flush=True)
            if out is not None:
                print(line, file=out, flush=True)

        def called(arguments: list[str]) -> None:
            result = aloe.call(arguments)
            assert result.returncode == 0, result.stderr

        folder = Path(made)
        aloe, model = Aloe(folder), tiny.write_folder(folder / "model")
        environment = opened.enter_context(storage_emulator()) | {"ALOE_CACHE": str(folder / "cache")}
        os.environ |= environment
        aloe.environment |= environment
        called(run_arguments(model, folder / "local"))
        say("a local run: done")
        called(run_arguments(model, f"gs://{BUCKET}/whole"))
        assert_equal_runs(Path(readable(f"gs://{BUCKET}/whole")), folder / "local")
        say(f"a run in a bucket: all {len(EQUAL)} files and both trainings are those of the local run")
        for name in options.signals.split(","):
            url = f"gs://{BUCKET}/{name.lower()}"
            arguments = run_arguments(model, url, OFTEN)
            for stage in options.stages.split(","):
                say(killed(aloe, arguments, url, stage, name))
            called(arguments)
            assert_equal_runs(Path(readable(url)), folder / "local")
            say(f"{name}: all {len(EQUAL)} files and both trainings are those of the local run")


if __name__ == "__main__":
    main()

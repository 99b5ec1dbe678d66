"""`aloe launch`: write the file of a launcher, say what it costs and how it is started, and start it on request."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aloe_jax import files
from aloe_jax.errors import AloeError, InputError
from aloe_jax.launch import jobset, skypilot
from aloe_jax.launch.job import NO_BUCKET_YET, Job

SKYPILOT, JOBSET = "skypilot", "jobset"
LAUNCHERS = (SKYPILOT, JOBSET)
_INSTALL = {
    "sky": "`uv tool install 'skypilot[gcp]'` installs it",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/ says how to install it",
}


@dataclass(frozen=True)
class Prepared:
    """The text of the file, and the command that starts it."""

    text: str
    start: Sequence[str]
    also: str = ""  # another tool's command to the same end


def prepare(launcher: str, job: Job, file: str, image: str = "", queue: str = "") -> Prepared:
    """The file of `launcher` for a job; `image` and `queue` are for JobSets. Raises InputError where one is missing."""
    if launcher == SKYPILOT:
        if image or queue:
            raise InputError("--image and --queue are for --on=jobset; SkyPilot copies this folder to TPU VMs")
        return Prepared(skypilot.skypilot_task(job, file), skypilot.start_line(job, file))
    if not image or not queue:
        missing, example = ("--image", "REGISTRY/NAME:TAG") if not image else ("--queue", "NAME of a Kueue LocalQueue")
        raise InputError(f"{missing} is missing; --on=jobset needs {missing}={example}")
    manifest = jobset.jobset_manifest(job, file, image, queue)
    return Prepared(manifest, jobset.start_line(file), shlex.join(jobset.gcluster_line(job, image, queue)))


def launch(
    job: Job,
    prepared: Prepared,
    file: str,
    *,
    price: float | None,
    overwrite: bool,
    run: bool,
    yes: bool,
    say: Callable[[str], None],
) -> None:
    """Write and print the file, its cost and the line that starts it; with `run` and `yes` call that line.

    Raises InputError, before anything is written, for a file with other contents unless `overwrite`, for a call without
    `yes`, without the tool, or with a run directory that `aloe run` would not write to; AloeError if the tool fails.
    """
    path = Path(file)
    if path.exists() and not overwrite and path.read_bytes() != prepared.text.encode():
        raise InputError(f"--out: '{file}' exists with other contents; give another file, or --overwrite to replace it")
    if run:
        _check_start(job, prepared, price, yes)
    files.write_text(path, prepared.text)
    say(prepared.text)
    say(f"{file}: written")
    say(job.cost(price))
    if job.in_bucket:
        say(f"note: {NO_BUCKET_YET}")
    say(f"start it with:\n  {shlex.join(prepared.start)}")
    if prepared.also:
        say(f"or, without the file:\n  {prepared.also}")
    if run:
        _start(prepared.start)


def _check_start(job: Job, prepared: Prepared, price: float | None, yes: bool) -> None:
    if job.in_bucket:
        raise InputError(f"--run: {NO_BUCKET_YET}")
    tool = prepared.start[0]
    if shutil.which(tool) is None:
        raise InputError(f"--run: '{tool}' is not installed; {_INSTALL[tool]}, or leave --run out")
    if not yes:
        raise InputError(f"--run starts what costs money ({job.cost(price)}); add --yes to agree")


def _start(line: Sequence[str]) -> None:
    """Call the tool on this terminal. `--yes` has been given, so SkyPilot need not ask once more."""
    words = [*line[:-1], "--yes", line[-1]] if line[0] == "sky" else list(line)
    code = subprocess.run(words, check=False).returncode
    if code:
        raise AloeError(f"'{shlex.join(words)}' ended with exit code {code}; its own messages are above")

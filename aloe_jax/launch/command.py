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
from aloe_jax.launch.job import Job

SKYPILOT, JOBSET = "skypilot", "jobset"
LAUNCHERS = (SKYPILOT, JOBSET)
_INSTALL = {
    "sky": "`uv tool install 'skypilot[gcp]'` installs it",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/ says how to install it",
}


@dataclass(frozen=True)
class Prepared:
    """The text of the file, the line that starts it, the calls that do so without asking, and what else is said."""

    text: str
    start: str
    calls: Sequence[Sequence[str]]
    notes: tuple[str, ...] = ()


def prepare(launcher: str, job: Job, file: str) -> Prepared:
    """The file of `launcher` for a job. Raises InputError for a setting that the launcher needs and does not have."""
    merge = (
        (
            f"when all {job.servers.count} shards have ended, make one run of them and launch it without --servers:\n"
            f"  {job.merge_line}",
        )
        if job.servers
        else ()
    )
    if launcher == SKYPILOT:
        text, start = skypilot.skypilot_task(job, file), skypilot.start_text(job, file)
        return Prepared(text, start, skypilot.start_calls(job, file), merge)
    for name, value, example in (
        ("image", job.settings.image, "REGISTRY/NAME:TAG"),
        ("queue", job.settings.queue, "NAME, that of a Kueue LocalQueue"),
    ):
        if not value:
            raise InputError(f"config.launch.{name} is empty; --on=jobset needs --config.launch.{name}={example}")
    line = jobset.start_line(file)
    other = () if job.servers else (f"or, without the file:\n  {shlex.join(jobset.gcluster_line(job))}",)
    return Prepared(jobset.jobset_manifest(job, file), shlex.join(line), [line], other + merge)


def check(job: Job, prepared: Prepared, file: str, overwrite: bool, run: bool, yes: bool) -> None:
    """Raise InputError for a file with other contents unless `overwrite`, and for `run` without `yes` or without the
    tool."""
    path, tool = Path(file), prepared.calls[0][0]
    if path.exists() and not overwrite and path.read_bytes() != prepared.text.encode():
        raise InputError(f"--out: '{file}' exists with other contents; give another file, or --overwrite to replace it")
    if run and shutil.which(tool) is None:
        raise InputError(f"--run: '{tool}' is not installed; {_INSTALL[tool]}, or leave --run out")
    if run and not yes:
        raise InputError(f"--run starts what costs money ({job.cost}); add --yes to agree")


def launch(
    job: Job, prepared: Prepared, file: str, planned: Sequence[str], run: bool, say: Callable[[str], None]
) -> None:
    """Write and print the file, what was `planned`, the cost and the line that starts it; with `run` make its calls.
    AloeError if the tool fails."""
    files.write_text(Path(file), prepared.text)
    say(prepared.text)
    say(f"{file}: written")
    for line in (*planned, job.cost, f"start it with:\n  {prepared.start}", *prepared.notes):
        say(line)
    if run:
        for call in prepared.calls:
            _start(call)


def _start(call: Sequence[str]) -> None:
    """Call the tool on this terminal."""
    code = subprocess.run(call, check=False).returncode
    if code:
        raise AloeError(f"'{shlex.join(call)}' ended with exit code {code}; its own messages are above")

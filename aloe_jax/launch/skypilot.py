"""A job as a SkyPilot task: TPU VMs that are set up and run on every host, and recovered after preemption.

SkyPilot is no dependency; the keys are those that version 0.14.1 accepts (`sky.Task.from_yaml`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from functools import partial

from aloe_jax.launch.job import MOUNT, RESUMES, Job, header

_text = partial(json.dumps, ensure_ascii=False)  # a JSON string is a YAML string


def start_line(job: Job, file: str) -> list[str]:
    """The command that starts the task in `file` as a managed job, the only kind that recovers."""
    return ["sky", "jobs", "launch", f"--name={job.name}", file]


def skypilot_task(job: Job, file: str) -> str:
    """The task as YAML text, to be written to `file`."""
    return "\n".join(_lines(job, file)) + "\n"


def _lines(job: Job, file: str) -> Iterator[str]:
    yield from header(job, [shlex.join(start_line(job, file))])
    yield f"name: {job.name}"
    yield ""
    yield "resources:"
    place = f"gcp/{job.zone.rpartition('-')[0]}/{job.zone}" if job.zone else "gcp"
    yield f"  infra: {place}"
    yield f"  accelerators: tpu-{job.slice.accelerator_type}"
    yield "  accelerator_args:"
    yield f"    runtime_version: {job.slice.names.runtime}"
    if job.zone:  # without one SkyPilot tries zone after zone, and a queue would hold it in the first
        yield "    gcp_queued_resource: true"
    yield f"  use_spot: {json.dumps(job.spot)}"
    yield "  job_recovery:"
    yield f"    recover_on_exit_codes: [{RESUMES}]"
    yield ""
    yield "workdir: .  # this folder, copied to every host"
    yield ""
    yield "envs:"
    yield from (f"  {name}: {_text(value)}" for name, value in job.environment.items())
    yield ""
    yield "setup: |"
    yield "  set -e"
    if job.nfs:
        yield "  sudo apt-get update -qq && sudo apt-get install -y -qq nfs-common"
        yield f"  sudo mkdir -p {MOUNT}"
        yield f"  mountpoint -q {MOUNT} || sudo mount -t nfs -o hard {job.nfs} {MOUNT}"
    yield "  # The image's own Python is too old; uv installs one."
    yield "  python3 -m pip install --quiet --user uv"
    yield "  python3 -m uv sync --python=3.12 --no-default-groups --extra=tpu --extra=gcs"
    yield ""
    yield "run: |"
    yield "  # exec: the exit code and the signals are those of aloe"
    yield f"  exec .venv/bin/{shlex.join(job.command)}"

"""A job as a SkyPilot task: VMs that are set up and run on every host, and recovered after preemption.

SkyPilot is no dependency; the keys are those that version 0.14.1 accepts (`sky.Task.from_yaml`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from functools import partial

from aloe_jax.launch.job import RESUMES, SERVER_PORT, SHARD, Job

_text = partial(json.dumps, ensure_ascii=False)  # a JSON string is a YAML string


def start_calls(job: Job, file: str) -> list[list[str]]:
    """The calls that start the task in `file` as a managed job, the only kind that recovers: one per shard, as each
    recovers by itself. SkyPilot does not ask for consent in them."""
    if not job.servers:
        return [["sky", "jobs", "launch", f"--name={job.name}", "--yes", file]]
    return [_of_shard(job, str(number), "--yes", file) for number in job.servers.shards]


def start_text(job: Job, file: str) -> str:
    """The same as one line of a shell, in which SkyPilot asks."""
    if not job.servers:
        return shlex.join(["sky", "jobs", "launch", f"--name={job.name}", file])
    call = " ".join([*_of_shard(job, "$shard"), shlex.quote(file)])
    return f"for shard in $(seq 0 {job.servers.count - 1}); do {call} || break; done"


def _of_shard(job: Job, number: str, *more: str) -> list[str]:
    return ["sky", "jobs", "launch", f"--name={job.name}-{number}", f"--env={SHARD}={number}", "--detach-run", *more]


def skypilot_task(job: Job, file: str) -> str:
    """The task as YAML text, to be written to `file`."""
    return "\n".join(_lines(job, file)) + "\n"


def _lines(job: Job, file: str) -> Iterator[str]:
    machines, zone = job.machines, job.settings.zone
    yield from job.header(start_text(job, file))
    yield f"name: {job.name}"
    yield ""
    yield "resources:"
    yield "  infra: " + (f"gcp/{zone.rpartition('-')[0]}/{zone}" if zone else "gcp")
    yield f"  accelerators: {machines.accelerator}"
    if machines.runtime:
        yield "  accelerator_args:"
        yield f"    runtime_version: {machines.runtime}"
        if zone:  # without one SkyPilot tries zone after zone, and a queue would hold it in the first
            yield "    gcp_queued_resource: true"
    yield f"  use_spot: {json.dumps(job.spot)}"
    yield "  job_recovery:"
    yield f"    recover_on_exit_codes: [{RESUMES}]"
    yield ""
    yield "workdir: .  # this folder, copied to every host"
    yield ""
    yield "envs:"
    if job.servers:
        yield f'  {SHARD}: "0"  # the part of the conversations that this host grows'
    else:
        yield from (f"  {name}: {_text(value)}" for name, value in job.environment.items())
    yield ""
    yield "setup: |"
    yield from (f"  {line}" for line in _setup(job))
    yield ""
    yield "run: |"
    yield from (f"  {line}" for line in (_growth(job) if job.servers else _training(job)))


def _setup(job: Job) -> Iterator[str]:
    yield "set -e"
    yield "# The image's own Python is too old; uv installs one."
    yield "python3 -m pip install --quiet --user uv"
    extra = "" if job.servers else " --extra=tpu"
    yield f"python3 -m uv sync --python=3.12 --no-default-groups{extra} --extra=gcs"
    if job.servers:
        package = "vllm-tpu" if job.machines.runtime else "vllm"
        yield "python3 -m uv venv --python=3.12 --allow-existing ~/vllm"
        yield f"python3 -m uv pip install --quiet --python ~/vllm/bin/python {package}"


def _training(job: Job) -> Iterator[str]:
    yield "# exec: the exit code and the signals are those of aloe"
    yield f"exec .venv/bin/{shlex.join(job.command)}"


def _growth(job: Job) -> Iterator[str]:
    """The server in the background, and the shard once it answers. A server that does not start ends the job with its
    own words; one that fails later costs `config.serve.patience` seconds, and the run ends with the code to resume."""
    assert job.servers
    yield f"~/vllm/bin/vllm {shlex.join(job.servers.arguments(job.machines.accelerators))} > ~/vllm.log 2>&1 &"
    yield "server=$!"
    yield "trap 'kill $server' EXIT"
    yield f"until curl --silent --fail http://127.0.0.1:{SERVER_PORT}/health; do"
    yield "  kill -0 $server || { tail -n 50 ~/vllm.log; exit 1; }"
    yield "  sleep 5"
    yield "done"
    variables = " ".join(f"{name}={value}" for name, value in job.environment.items())
    yield f"{variables} .venv/bin/{shlex.join(job.command)} {' '.join(job.shard_words(f'${SHARD}'))}"

"""A job as a JobSet (jobset.x-k8s.io/v1alpha2) that Kueue admits to a GKE cluster, and as a call of `gcluster`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from aloe_jax.launch.job import RESTARTS, RESUMES, SERVER_PORT, SHARD, Job

GRACE_SECONDS = 120  # from SIGTERM to SIGKILL, for the step and its checkpoint; a preempted node has less
CONTAINER, SERVER = "aloe", "server"
INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
TPU_SERVER_IMAGE, GPU_SERVER_IMAGE = "vllm/vllm-tpu:latest", "vllm/vllm-openai:latest"
_text = partial(json.dumps, ensure_ascii=False)  # a JSON string is a YAML string


def start_line(file: str) -> list[str]:
    """The command that starts the manifest in `file`."""
    return ["kubectl", "apply", f"--filename={file}"]


def gcluster_line(job: Job) -> list[str]:
    """The call of Google's Cluster Toolkit that makes such a JobSet of a slice itself, by machine type and topology, as
    the toolkit counts the number in a v5p's name differently. It takes no variables, so `env` sets them."""
    variables = [f"{name}={value}" for name, value in job.environment.items()]
    words = [
        "gcluster",
        "job",
        "submit",
        f"--name={job.name}",
        f"--image={job.settings.image}",
        f"--compute-type={job.machines.machine_type}",
        f"--topology={job.machines.shape}",
        f"--queue={job.settings.queue}",
        f"--restarts={RESTARTS}",
        f"--restart-on-exit-codes={RESUMES}",
        f"--grace-period={GRACE_SECONDS}s",
    ]
    if job.spot:
        words.append("--gke-nap-provisioning=spot")
    return [*words, f"--command={shlex.join(['env', *variables, *job.command])}"]


def jobset_manifest(job: Job, file: str) -> str:
    """The manifest as YAML text, to be written to `file`."""
    return "\n".join(_lines(job, file)) + "\n"


def _lines(job: Job, file: str) -> Iterator[str]:
    yield from job.header(shlex.join(start_line(file)))
    yield "apiVersion: jobset.x-k8s.io/v1alpha2"
    yield "kind: JobSet"
    yield "metadata:"
    yield f"  name: {job.name}"
    yield "  labels:"
    yield f"    kueue.x-k8s.io/queue-name: {_text(job.settings.queue)}"
    if job.machines.hosts > 1:
        yield "  annotations:  # all hosts in one node pool, which is one slice"
        yield "    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool"
    yield "spec:"
    yield from (f"  {line}" for line in (_restarted_alone() if job.servers else _restarted_together()))
    yield "  replicatedJobs:"
    yield f"  - name: {'shard' if job.servers else 'slice'}"
    yield "    replicas: 1"
    yield "    template:"
    yield "      spec:"
    yield from (f"        {line}" for line in _pods(job))
    yield "        template:"
    yield "          spec:"
    yield from (f"            {line}" for line in _pod(job))


def _restarted_together() -> Iterator[str]:
    yield "failurePolicy:"
    yield f"  maxRestarts: {RESTARTS}"
    yield "  rules:"
    yield "  - name: afterAnotherCode"
    yield "    action: FailJobSet"
    yield "    onJobFailureReasons: [PodFailurePolicy]"


def _restarted_alone() -> Iterator[str]:
    yield "failurePolicy: {maxRestarts: 0}  # each shard restarts by itself"


def _pods(job: Job) -> Iterator[str]:
    """How many hosts there are, and what happens when one fails: nothing goes on after another code than the one to
    resume from, or a node that is taken away."""
    hosts = job.servers.count if job.servers else job.machines.hosts
    yield f"parallelism: {hosts}"
    yield f"completions: {hosts}"
    if job.servers:
        yield "completionMode: Indexed"
        yield f"backoffLimitPerIndex: {RESTARTS}"
        taken, failed = "Ignore  # a preempted node: the shard starts again, whatever the exit code", "FailIndex"
    else:
        yield "backoffLimit: 0"
        taken, failed = "Count  # a preempted node: the JobSet restarts, whatever the exit code", "FailJob"
    yield "podFailurePolicy:"
    yield "  rules:"
    yield f"  - action: {taken}"
    yield "    onPodConditions: [{type: DisruptionTarget}]"
    yield f"  - action: {failed}"
    yield f"    onExitCodes: {{containerName: {CONTAINER}, operator: NotIn, values: [{RESUMES}]}}"


def _pod(job: Job) -> Iterator[str]:
    machines, tpu = job.machines, bool(job.machines.runtime)
    yield "restartPolicy: Never"
    yield f"terminationGracePeriodSeconds: {GRACE_SECONDS}"
    yield "nodeSelector:"
    yield from (f"  {label}: {value}" for label, value in machines.labels.items())
    if job.spot:
        yield '  cloud.google.com/gke-spot: "true"'
    if job.settings.zone:
        yield f"  topology.kubernetes.io/zone: {job.settings.zone}"
    yield "tolerations:"
    yield f"- {{key: {machines.resource}, operator: Exists, effect: NoSchedule}}"
    if job.spot:
        yield '- {key: cloud.google.com/gke-spot, operator: Equal, value: "true", effect: NoSchedule}'
    if job.servers:
        image = job.settings.server_image or (TPU_SERVER_IMAGE if tpu else GPU_SERVER_IMAGE)
        yield "initContainers:"
        yield f"- name: {SERVER}"
        yield "  restartPolicy: Always  # beside the shard, and ended after it"
        server = ["vllm", *job.servers.arguments(machines.accelerators)]
        yield from _container(image, server, {})
        yield from (f"  {line}" for line in _accelerators(job))
        yield "  startupProbe:  # the shard starts when the server answers, at the latest after an hour"
        yield f"    httpGet: {{path: /health, port: {SERVER_PORT}}}"
        yield "    periodSeconds: 10"
        yield "    failureThreshold: 360"
    yield "containers:"
    yield f"- name: {CONTAINER}"
    if job.servers:
        yield from _container(job.settings.image, job.command, job.environment, job.shard_words(f"$({SHARD})"))
        yield f"  - {{name: {SHARD}, valueFrom: {{fieldRef: {{fieldPath: {_text(INDEX)}}}}}}}"
    else:
        yield from _container(job.settings.image, job.command, job.environment)
        yield from (f"  {line}" for line in _accelerators(job))
    yield "volumes:"
    yield "- {name: shm, emptyDir: {medium: Memory}}  # the default of 64 MB is too small"


def _container(
    image: str, command: Sequence[str], environment: Mapping[str, str], expanded: Sequence[str] = ()
) -> Iterator[str]:
    """Lines of a container, up to its variables. Kubernetes replaces $(NAME) in the words of `expanded` alone."""
    yield f"  image: {_text(image)}"
    yield "  command:"
    yield from (f"  - {_text(word.replace('$(', '$$('))}" for word in command)
    yield from (f"  - {_text(word)}" for word in expanded)
    if environment:
        yield "  env:"
        yield from (f"  - {{name: {name}, value: {_text(value)}}}" for name, value in environment.items())


def _accelerators(job: Job) -> Iterator[str]:
    if job.machines.runtime:
        yield "securityContext: {privileged: true}  # to lock the memory that the chips read"
    yield "resources:"
    yield f"  limits: {{{job.machines.resource}: {job.machines.accelerators}}}"
    yield "volumeMounts:"
    yield "- {name: shm, mountPath: /dev/shm}"

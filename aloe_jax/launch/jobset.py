"""A job as a JobSet (jobset.x-k8s.io/v1alpha2) that Kueue admits to a GKE cluster, and as a call of `gcluster`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from functools import partial

from aloe_jax.launch.job import MOUNT, RESUMES, Job, header

RESTARTS = 20  # of the whole JobSet; a bound, as a full disk too ends with the code to resume from
GRACE_SECONDS = 120  # from SIGTERM to SIGKILL, for the step and its checkpoint; a preempted node has less
CONTAINER = "aloe"
_text = partial(json.dumps, ensure_ascii=False)  # a JSON string is a YAML string


def start_line(file: str) -> list[str]:
    """The command that starts the manifest in `file`."""
    return ["kubectl", "apply", f"--filename={file}"]


def gcluster_line(job: Job, image: str, queue: str) -> list[str]:
    """The call of Google's Cluster Toolkit that makes such a JobSet itself. It takes no variables, so `env` sets them,
    and NFS only as a Filestore instance, whose name is left to fill in."""
    variables = [f"{name}={value}" for name, value in job.environment.items()]
    words = [
        "gcluster",
        "job",
        "submit",
        f"--name={job.name}",
        f"--image={image}",
        f"--compute-type={job.slice.accelerator_type}",
        f"--topology={job.slice.shape}",
        f"--queue={queue}",
        f"--restarts={RESTARTS}",
        f"--restart-on-exit-codes={RESUMES}",
        f"--grace-period={GRACE_SECONDS}s",
    ]
    if job.spot:
        words.append("--gke-nap-provisioning=spot")
    if job.nfs:
        words.append(f"--mount=filestore://INSTANCE{job.server[1].rstrip('/')}:{MOUNT}:rw")
    return [*words, f"--command={shlex.join(['env', *variables, *job.command])}"]


def jobset_manifest(job: Job, file: str, image: str, queue: str) -> str:
    """The manifest as YAML text, to be written to `file`; `image` is the container's, `queue` the name of Kueue's
    LocalQueue."""
    return "\n".join(_lines(job, file, image, queue)) + "\n"


def _lines(job: Job, file: str, image: str, queue: str) -> Iterator[str]:
    yield from header(job, [shlex.join(start_line(file))])
    yield "apiVersion: jobset.x-k8s.io/v1alpha2"
    yield "kind: JobSet"
    yield "metadata:"
    yield f"  name: {job.name}"
    yield "  labels:"
    yield f"    kueue.x-k8s.io/queue-name: {_text(queue)}"
    if job.slice.hosts > 1:
        yield "  annotations:  # all hosts in one node pool, which is one slice"
        yield "    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool"
    yield "spec:"
    yield "  failurePolicy:"
    yield f"    maxRestarts: {RESTARTS}"
    yield "    rules:"
    yield "    - action: FailJobSet"
    yield "      onJobFailureReasons: [PodFailurePolicy]"
    yield "  replicatedJobs:"
    yield "  - name: slice"
    yield "    replicas: 1"
    yield "    template:"
    yield "      spec:"
    yield f"        parallelism: {job.slice.hosts}"
    yield f"        completions: {job.slice.hosts}"
    yield "        backoffLimit: 0"
    yield "        podFailurePolicy:"
    yield "          rules:"
    yield "          - action: Count  # a preempted node: the JobSet restarts, whatever the exit code"
    yield "            onPodConditions: [{type: DisruptionTarget}]"
    yield "          - action: FailJob"
    yield f"            onExitCodes: {{containerName: {CONTAINER}, operator: NotIn, values: [{RESUMES}]}}"
    yield "        template:"
    yield "          spec:"
    yield from (f"            {line}" for line in _pod(job, image))


def _pod(job: Job, image: str) -> Iterator[str]:
    yield "restartPolicy: Never"
    yield f"terminationGracePeriodSeconds: {GRACE_SECONDS}"
    yield "nodeSelector:"
    yield f"  cloud.google.com/gke-tpu-accelerator: {job.slice.names.node}"
    yield f"  cloud.google.com/gke-tpu-topology: {job.slice.shape}"
    if job.spot:
        yield '  cloud.google.com/gke-spot: "true"'
    if job.zone:
        yield f"  topology.kubernetes.io/zone: {job.zone}"
    yield "tolerations:"
    yield "- {key: google.com/tpu, operator: Exists, effect: NoSchedule}"
    if job.spot:
        yield '- {key: cloud.google.com/gke-spot, operator: Equal, value: "true", effect: NoSchedule}'
    yield "containers:"
    yield f"- name: {CONTAINER}"
    yield f"  image: {_text(image)}"
    yield "  securityContext: {privileged: true}  # to lock the memory that the chips read"
    yield "  command:"
    yield from (f"  - {_text(word)}" for word in job.command)
    yield "  env:"
    yield from (f"  - {{name: {name}, value: {_text(value)}}}" for name, value in job.environment.items())
    yield "  resources:"
    yield f"    limits: {{google.com/tpu: {job.slice.chips_per_host}}}"
    yield "  volumeMounts:"
    yield "  - {name: shm, mountPath: /dev/shm}"
    if job.nfs:
        yield f"  - {{name: runs, mountPath: {MOUNT}}}"
    yield "volumes:"
    yield "- {name: shm, emptyDir: {medium: Memory}}  # the default of 64 MB is too small"
    if job.nfs:
        address, path = job.server
        yield f"- {{name: runs, nfs: {{server: {_text(address)}, path: {_text(path)}}}}}"

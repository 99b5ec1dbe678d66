"""`aloe launch`: the files as a whole, what they say in YAML, and when it starts something."""

from pathlib import Path

import pytest
import yaml

from aloe_jax.cli.main import main
from helpers.aloe_in_process import refused

GOLDEN = Path(__file__).parent / "golden"
JOBSET = ("--on=jobset", "--image=eu.pkg.dev/p/r/aloe:1", "--queue=tpus")
NAMED = {  # each named topology: accelerator, image, GKE node, chips per host, hosts
    "v5e:4x4": ("tpu-v5litepod-16", "v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", 4, 4),
    "v6e:2x4": ("tpu-v6e-8", "v2-alpha-tpuv6e", "tpu-v6e-slice", 8, 1),
    "v6e:4x4": ("tpu-v6e-16", "v2-alpha-tpuv6e", "tpu-v6e-slice", 4, 4),
    "v5p:2x2x4": ("tpu-v5p-32", "v2-alpha-tpuv5", "tpu-v5p-slice", 4, 4),
}


def manifest(path="a.yaml"):
    return yaml.safe_load(Path(path).read_text())


@pytest.mark.parametrize(
    ("golden", "arguments"),
    [
        ("skypilot.yaml", ["--on=skypilot", "--spot", "--zone=us-west4-a", "--stages=sft,preference"]),
        ("jobset.yaml", [*JOBSET, "--spot", "--config.seed=3"]),
    ],
)
def test_the_whole_file(launch, golden, arguments):
    code, out, errors = launch(*arguments, "--price=1.2")
    assert (code, errors) == (0, "")
    assert Path("a.yaml").read_text() == (GOLDEN / golden).read_text()
    assert out.startswith(Path("a.yaml").read_text())
    assert "16 chips at 1.2 USD per chip-hour: 19.20 USD per hour" in out


@pytest.mark.parametrize("topology", NAMED)
def test_skypilot_by_topology(launch, topology):
    accelerator, image, _, _, hosts = NAMED[topology]
    code, out, _ = launch("--on=skypilot", f"--topology={topology}")
    task = manifest()
    assert code == 0
    assert task["resources"] == {
        "infra": "gcp",
        "accelerators": accelerator,
        "accelerator_args": {"runtime_version": image},
        "use_spot": False,
        "job_recovery": {"recover_on_exit_codes": [75]},
    }
    assert task["run"].endswith(" --distributed\n") == (hosts > 1)
    assert out.endswith("start it with:\n  sky jobs launch --name=a a.yaml\n")


@pytest.mark.parametrize("topology", NAMED)
def test_jobset_by_topology(launch, topology):
    """Hosts as pods of one job, all chips of a host per pod, restarts after 75 alone."""
    _, _, node, chips, hosts = NAMED[topology]
    assert launch(*JOBSET, f"--topology={topology}")[0] == 0
    found = manifest()
    assert found["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "tpus"}
    (job,) = found["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (hosts, hosts, 0)
    assert spec["podFailurePolicy"]["rules"][1] == {
        "action": "FailJob",
        "onExitCodes": {"containerName": "aloe", "operator": "NotIn", "values": [75]},
    }
    pod = spec["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": node,
        "cloud.google.com/gke-tpu-topology": topology.partition(":")[2],
    }
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": chips}
    assert (container["command"][-1] == "--distributed") == (hosts > 1)


def test_the_tool_of_the_cluster_toolkit_gets_the_same_command(launch):
    _, out, _ = launch(*JOBSET, "--spot")
    line = out.splitlines()[-1]
    for part in (
        "gcluster job submit --name=a --image=eu.pkg.dev/p/r/aloe:1 --compute-type=v5litepod-16 --topology=4x4",
        "--queue=tpus",
        "--restart-on-exit-codes=75",
        "--gke-nap-provisioning=spot",
        "--mount=filestore://INSTANCE/x:/mnt/aloe:rw",
        "aloe run --config=llama3_8b:preference --workdir=/mnt/aloe/runs/a --distributed",
    ):
        assert part in line


def test_the_command_keeps_its_quotes(launch):
    """A value with a space and quotes reaches `aloe run` as it was given."""
    value = """--config.model.source=it's "a" {model}: #1"""
    assert launch("--on=skypilot", value)[0] == 0
    assert """'--config.model.source=it'"'"'s "a" {model}: #1'""" in manifest()["run"]
    assert launch(*JOBSET, value, "--overwrite")[0] == 0
    pod = manifest()["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert value in pod["containers"][0]["command"]


def test_a_bucket_is_written_down_and_not_started(launch):
    code, out, _ = launch("--on=skypilot", "--workdir=gs://bucket/runs/My_Run", "--nfs=")
    assert code == 0
    assert manifest("my-run.yaml")["envs"]["JAX_COMPILATION_CACHE_DIR"] == "gs://bucket/runs/compiled"
    assert "does not write run directories to gs:// yet" in out
    Path("my-run.yaml").unlink()
    refused(launch("--on=skypilot", "--workdir=gs://bucket/runs/b", "--nfs=", "--run", "--yes"), "gs:// yet", "--nfs")
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--on=jobset", "--queue=q"], ["--image is missing"]),
        (["--on=jobset", "--image=i"], ["--queue is missing"]),
        (["--on=skypilot", "--image=i"], ["--image and --queue are for --on=jobset"]),
        (["--on=skypilot", "--nfs="], ["is lost with the machine", "--nfs"]),
        (["--on=skypilot", "--nfs=10.0.0.2"], ["ADDRESS:/EXPORT"]),
        (["--on=skypilot", "--workdir=/home/a"], ["must lie under /mnt/aloe"]),
        (["--on=skypilot", "--workdir=/mnt/aloe/../a"], ["must lie under /mnt/aloe"]),
        (["--on=skypilot", "--workdir=gs://bucket"], ["folder of a bucket"]),
        (["--on=skypilot", "--name=A_b"], ["--name: 'A_b'", "lower-case"]),
        (["--on=skypilot", "--zone=us-west4"], ["--zone: 'us-west4'", "us-west4-a"]),
        (["--on=skypilot", "--topology=v5e:4x2"], ["no usual slice"]),
        (["--on=skypilot", "--stages=fly"], ["'fly' is no stage"]),
        (["--on=skypilot", "--price=-1"], ["--price: -1.0"]),
        (["--on=skypilot", "--config.sft.bach=1"], ["did you mean 'batch'?"]),
        (["--on=skypilot", "--config.model.source=a\nb"], ["line break"]),
    ],
)
def test_bad_input(launch, arguments, parts):
    refused(launch(*arguments), *parts)
    assert not list(Path.cwd().iterdir())


def test_an_edited_file_stays(launch):
    assert launch("--on=skypilot")[0] == launch("--on=skypilot")[0] == 0
    refused(launch("--on=skypilot", "--spot"), "'a.yaml' exists with other contents", "--overwrite")
    assert not manifest()["resources"]["use_spot"]
    assert launch("--on=skypilot", "--spot", "--overwrite")[0] == 0
    assert manifest()["resources"]["use_spot"]


def test_a_config_that_the_hosts_would_not_find(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place = ["--on=skypilot", "--topology=v5e-8", "--workdir=/mnt/aloe/a", "--nfs=h:/x"]
    assert main(["launch", f"--config={tmp_path / 'own.py'}", *place]) == 2
    assert "relative to this folder" in capsys.readouterr().err


@pytest.fixture
def sky(tmp_path_factory, monkeypatch):
    """A program `sky` that writes its arguments to the returned file and ends with the code in $CODE."""
    folder = tmp_path_factory.mktemp("bin")
    program, called = folder / "sky", folder / "called"
    program.write_text(f'#!/bin/sh\necho "$@" > {called}\nexit ${{CODE:-0}}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return called


class TestRun:
    def test_needs_the_tool(self, launch, monkeypatch):
        monkeypatch.setenv("PATH", "")
        refused(launch("--on=skypilot", "--run", "--yes"), "'sky' is not installed", "skypilot[gcp]")

    def test_needs_yes(self, launch, sky):
        refused(launch("--on=skypilot", "--run", "--price=2"), "32.00 USD per hour", "add --yes")
        assert not sky.exists()
        assert not list(Path.cwd().iterdir())

    def test_starts(self, launch, sky):
        assert launch("--on=skypilot", "--run", "--yes")[0] == 0
        assert sky.read_text() == "jobs launch --name=a --yes a.yaml\n"

    def test_the_failure_of_the_tool_is_ours(self, launch, sky, monkeypatch):
        monkeypatch.setenv("CODE", "3")
        code, _, errors = launch("--on=skypilot", "--run", "--yes")
        assert code == 1
        assert "ended with exit code 3" in errors

"""`aloe launch`: the files as a whole, what they say in YAML, what is said beside them, and what is refused."""

import subprocess
from pathlib import Path

import pytest
import yaml

from aloe_jax.cli.main import main
from helpers.aloe_in_process import refused

GOLDEN = Path(__file__).parent / "golden"
JOBSET = ("--on=jobset", "--config.launch.image=eu.pkg.dev/p/r/aloe:1", "--config.launch.queue=tpus")
SERVERS = ("--servers=3", "--config.serve.model=Qwen/Qwen3-32B", "--config.serve.context=8192")
ZONE = "--config.launch.zone=us-west4-a"


def manifest(path="a.yaml"):
    return yaml.safe_load(Path(path).read_text())


@pytest.mark.parametrize(
    ("golden", "arguments"),
    [
        ("skypilot.yaml", ["--on=skypilot", "--spot", ZONE, "--stages=sft,preference"]),
        ("jobset.yaml", [*JOBSET, "--spot", "--config.seed=3"]),
        ("skypilot_servers.yaml", ["--on=skypilot", *SERVERS, "--topology=v6e:2x4", "--spot"]),
        ("jobset_servers.yaml", [*JOBSET, *SERVERS, "--topology=L4:4"]),
    ],
)
def test_the_whole_file(launch, golden, arguments):
    code, out, errors = launch(*arguments, "--config.launch.price=1.2")
    assert (code, errors) == (0, "")
    assert Path("a.yaml").read_text() == (GOLDEN / golden).read_text()
    assert out.startswith(Path("a.yaml").read_text())


@pytest.mark.parametrize(
    ("arguments", "cost"),
    [
        (
            ["--config.launch.price=1.2"],
            "cost: 16 chips until the job ends, at 1.2 USD per chip-hour: 19.20 USD per hour",
        ),
        ([], "cost: 16 chips until the job ends, at a price that is not known: config.launch.price is not set"),
        (
            [*SERVERS, "--topology=L4:4", "--config.launch.price=0.5"],  # 3 hosts of 4 at half a dollar
            "cost: 12 GPUs until the job ends, at 0.5 USD per GPU-hour: 6.00 USD per hour",
        ),
    ],
)
def test_what_it_costs(launch, arguments, cost):
    assert cost in launch("--on=skypilot", *arguments)[1].splitlines()


def test_the_same_on_one_host(launch):
    """Without other hosts nothing has to be distributed, and no node pool has to be the job's alone."""
    assert launch("--on=skypilot", "--topology=v6e-8")[0] == 0
    assert manifest()["run"].endswith(" --workdir=gs://bucket/runs/a\n")
    assert launch(*JOBSET, "--topology=v6e-4", "--overwrite")[0] == 0
    assert "annotations" not in manifest()["metadata"]
    assert "--distributed" not in Path("a.yaml").read_text()


def test_the_line_that_starts_it(launch):
    out = launch("--on=skypilot")[1]
    assert out.endswith("start it with:\n  sky jobs launch --name=a a.yaml\n")
    out = launch(*JOBSET, "--out=b.yaml")[1]
    assert "start it with:\n  kubectl apply --filename=b.yaml\n" in out


def test_the_tool_of_the_cluster_toolkit_gets_the_same_command(launch):
    _, out, _ = launch(*JOBSET, "--spot", "--topology=v5p-32")
    line = out.splitlines()[-1]
    for part in (
        "gcluster job submit --name=a --image=eu.pkg.dev/p/r/aloe:1 --compute-type=ct5p-hightpu-4t --topology=2x2x4",
        "--queue=tpus",
        "--restart-on-exit-codes=75",
        "--gke-nap-provisioning=spot",
        "JAX_COMPILATION_CACHE_DIR=gs://bucket/runs/compiled",
        "aloe run --config=llama3_8b:preference",
        "--workdir=gs://bucket/runs/a --distributed'",
    ):
        assert part in line


def test_the_command_keeps_its_quotes(launch):
    """A value with a space, quotes and what shells and Kubernetes replace reaches `aloe run` as it was given."""
    value = """--config.model.source=it's "a" {model}: #1 $(HOME) $HOME"""
    assert launch("--on=skypilot", value)[0] == 0
    script = manifest()["run"].replace("exec .venv/bin/aloe", "printf '%s\\n'")
    assert value in subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert launch(*JOBSET, value, "--overwrite")[0] == 0
    pod = manifest()["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert value.replace("$(HOME)", "$$(HOME)") in pod["containers"][0]["command"]


def test_shards_are_merged_into_the_run(launch):
    out = launch("--on=skypilot", *SERVERS, "--topology=L4:1", "--workdir=gs://bucket/runs/My_Run/")[1]
    assert "for shard in $(seq 0 2); do sky jobs launch --name=my-run-$shard --env=SHARD=$shard --detach-run" in out
    folder = "gs://bucket/runs/My_Run"
    assert out.endswith(f"  aloe merge {folder}-shards/0 {folder}-shards/1 {folder}-shards/2 --out={folder}\n")
    assert f"--workdir={folder}-shards/$SHARD --shard=$SHARD/3\n" in manifest("my-run.yaml")["run"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--on=jobset", "--config.launch.queue=q"], ["config.launch.image is empty"]),
        (["--on=jobset", "--config.launch.image=i"], ["config.launch.queue is empty"]),
        (["--on=skypilot", "--workdir=/mnt/runs/a"], ["'/mnt/runs/a'", "gs://BUCKET/runs/a", "lost"]),
        (["--on=skypilot", "--workdir=gs://bucket"], ["folder of a bucket"]),
        (["--on=skypilot", "--workdir=gs://bucket/../a"], ["folder of a bucket"]),
        (["--on=skypilot", "--workdir=gs://bucket/a b"], ["folder of a bucket"]),
        (["--on=skypilot", "--name=A_b"], ["--name: 'A_b'", "28 lower-case"]),
        (["--on=skypilot", "--config.launch.zone=us-west4"], ["config.launch.zone: 'us-west4'", "us-west4-a"]),
        (["--on=skypilot", "--topology=v5e:4x2"], ["no usual slice"]),
        (["--on=skypilot", "--topology=v9:4x4"], ["'v9:4x4' is unknown", "v5e:4x4"]),
        (["--on=skypilot", "--topology=L4:1"], ["'L4:1' is unknown"]),
        (["--on=skypilot", "--stages=fly"], ["'fly' is no stage"]),
        (["--on=skypilot", "--config.launch.price=-1"], ["config.launch.price: -1", "at least 0"]),
        (["--on=skypilot", "--config.sft.bach=1"], ["did you mean 'batch'?"]),
        (["--on=skypilot", "--config.model.source=a\nb"], ["line break"]),
        (["--on=skypilot", "--servers=2"], ["config.serve.model is empty"]),
        (["--on=skypilot", *SERVERS, "--servers=0"], ["--servers: 0 must be"]),
        (["--on=skypilot", *SERVERS, "--stages=sft"], ["with --servers only conversations"]),
        (["--on=skypilot", *SERVERS], ["'v5e:4x4' has 4 hosts; a model server has one"]),
        (
            ["--on=skypilot", *SERVERS, "--topology=L4:1", "--config.personas.source=generated"],
            ["every shard would make its own", "--stages=personas"],
        ),
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


def test_what_has_to_be_given(launch, capsys):
    """A bucket, a launcher and a topology have no default."""
    for left in ("--workdir", "--on", "--topology"):
        given = {"--workdir": "gs://bucket/runs/a", "--on": "skypilot", "--topology": "v5e:4x4"}
        del given[left]
        assert main(["launch", "--config=demo", *(f"{name}={value}" for name, value in given.items())]) == 2
        assert left in capsys.readouterr().err


def test_a_config_that_the_hosts_would_not_find(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place = ["--on=skypilot", "--topology=v5e-8", "--workdir=gs://bucket/runs/a"]
    Path("own.py").write_text("from aloe_jax.cli.experiment import experiment as get_config\n")
    assert main(["launch", "--config=own.py", *place, "--plan=no"]) == 0
    capsys.readouterr()
    assert main(["launch", f"--config={tmp_path / 'own.py'}", *place]) == 2
    assert "relative to this folder" in capsys.readouterr().err

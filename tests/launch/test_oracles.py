"""The files in the eyes of the tools that get them, for each named topology. CONTRIBUTING.md says how to install these;
without them the tests are skipped.

SKYPILOT_PYTHON is an interpreter with SkyPilot, XPK the program, JOBSET_CRD the file jobset.x-k8s.io_jobsets.yaml of a
JobSet release (which needs `jsonschema` here).
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from helpers.named_topologies import ROWS

TOPOLOGIES = [row[0] for row in ROWS]
TYPES = {row[0]: row[1] for row in ROWS}
SERVERS = ("--servers=2", "--config.serve.model=m")
JOBSET = ("--on=jobset", "--config.launch.image=i", "--config.launch.queue=q")
MACHINES = ("L4:1", "A100-80GB:8", "v5e:2x2", "v6e:1x1")  # of model servers
PARSE = """
import json, sys, sky
found = {}
for path in sys.argv[1:]:
    task = sky.Task.from_yaml(path)
    (one,) = task.resources
    found[path] = [one.accelerators, one.accelerator_args, one.use_spot, one.job_recovery, task.run.splitlines()[-1]]
print(json.dumps(found))
"""


def needs(variable):
    return pytest.mark.skipif(variable not in os.environ, reason=f"{variable} is not set")


@needs("SKYPILOT_PYTHON")
def test_skypilot_reads_the_tasks(launch):
    """All in one process, as it takes seconds to start."""
    for number, topology in enumerate(TOPOLOGIES):
        given = ("--spot", "--config.launch.zone=us-west4-a") if number % 2 else ()
        assert launch("--on=skypilot", f"--topology={topology}", f"--out={topology}.yaml", *given)[0] == 0
    for machine in MACHINES:
        assert launch("--on=skypilot", *SERVERS, f"--topology={machine}", f"--out=servers-{machine}.yaml")[0] == 0
    command = [os.environ["SKYPILOT_PYTHON"], "-c", PARSE, *map(str, Path().glob("*.yaml"))]
    environment = os.environ | {"HOME": str(Path.cwd()), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    found = json.loads(printed.splitlines()[-1])
    assert len(found) == len(TOPOLOGIES) + len(MACHINES)
    for number, topology in enumerate(TOPOLOGIES):
        accelerators, arguments, spot, recovery, last = found[f"{topology}.yaml"]
        assert accelerators == {f"tpu-{TYPES[topology]}": 1}
        assert arguments["runtime_version"].startswith("v2-alpha-tpuv")
        assert arguments.get("gcp_queued_resource", False) == spot == bool(number % 2)
        assert recovery["recover_on_exit_codes"] == [75]
        assert last.startswith("exec .venv/bin/aloe run --config=llama3_8b:preference --workdir=gs://bucket/runs/a")
    assert found["servers-A100-80GB:8.yaml"][0] == {"A100-80GB": 8}
    assert found["servers-v5e:2x2.yaml"][0] == {"tpu-v5litepod-4": 1}


@needs("JOBSET_CRD")
def test_the_manifests_have_the_form_of_the_crd(launch):
    jsonschema = pytest.importorskip("jsonschema")
    crd = yaml.safe_load(Path(os.environ["JOBSET_CRD"]).read_text())
    (schema,) = (each["schema"]["openAPIV3Schema"] for each in crd["spec"]["versions"] if each["name"] == "v1alpha2")
    validator = jsonschema.Draft202012Validator(strict(schema))
    for topology in TOPOLOGIES:
        assert launch(*JOBSET, f"--topology={topology}", "--spot", "--overwrite")[0] == 0
        validator.validate(yaml.safe_load(Path("a.yaml").read_text()))
    for machine in MACHINES:
        assert launch(*JOBSET, *SERVERS, f"--topology={machine}", "--overwrite")[0] == 0
        validator.validate(yaml.safe_load(Path("a.yaml").read_text()))
    broken = yaml.safe_load(Path("a.yaml").read_text())
    broken["spec"]["replicatedJobs"][0]["template"]["spec"]["paralelism"] = 4
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(broken)


def strict(schema):
    """The schema, in which an object of known fields has no others: the API server drops or refuses these."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and schema["properties"]:
        found.setdefault("additionalProperties", False)
    return found


# xpk adds its own codes to those it is given: 42, and 127 to 255 (src/xpk/core/workload_decorators of its source, and
# each manifest). Ours restarts on 75 alone.
XPK_RESTARTS = {42, *range(127, 256)}
UNKNOWN_TO_XPK = ("v5e:1x1", "v5e:2x2")


@needs("XPK")
@pytest.mark.parametrize("topology", [one for one in TOPOLOGIES if one not in UNKNOWN_TO_XPK])
def test_the_manifest_is_that_of_xpk(launch, topology):
    """In hosts, chips, nodes and the rules of restarts."""
    command = [os.environ["XPK"], "workload", "create", "--cluster=c", "--project=p", "--zone=us-west4-a"]
    command += ["--workload=a", f"--tpu-type={TYPES[topology]}", "--docker-image=i", "--command=true"]
    command += ["--restart-on-exit-codes=75", "--max-restarts=20", "--dry-run", "--skip-validation"]
    environment = os.environ | {"HOME": str(Path.cwd())}
    subprocess.run([*command, "--output-manifest-file=xpk.yaml"], env=environment, capture_output=True, check=True)
    assert launch(*JOBSET, f"--topology={topology}")[0] == 0
    ours, theirs = (in_short(yaml.safe_load(Path(name).read_text())) for name in ("a.yaml", "xpk.yaml"))
    assert theirs.pop("codes") - XPK_RESTARTS == ours.pop("codes") == {75}
    assert ours == theirs


def in_short(manifest):
    """What decides hosts, chips, nodes and restarts."""
    (replicated,) = manifest["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    failed = job["podFailurePolicy"]["rules"][-1]
    (rule,) = manifest["spec"]["failurePolicy"]["rules"]
    rule.pop("name", None)  # which the CRD's schema asks for and JobSet fills in
    return {
        "codes": set(failed["onExitCodes"]["values"]),
        "rule": (failed["action"], failed["onExitCodes"]["operator"]),
        "restarts": manifest["spec"]["failurePolicy"],
        "queue": "kueue.x-k8s.io/queue-name" in manifest["metadata"]["labels"],
        "pods": (replicated["replicas"], job["parallelism"], job["completions"], job["backoffLimit"]),
        "chips": container["resources"]["limits"],
        "nodes": pod["nodeSelector"],
        "restart policy": pod["restartPolicy"],
        "tolerated": [one["key"] for one in pod["tolerations"]],
    }

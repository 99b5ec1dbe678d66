"""The files under the tools' own eyes. Skipped without SkyPilot (`uv pip install "skypilot[gcp]"`, 455 MB), or without
`jsonschema` and the schema of JobSet's CRD: JOBSET_CRD names the file jobset.x-k8s.io_jobsets.yaml of its release."""

import os
from pathlib import Path

import pytest
import yaml


@pytest.mark.parametrize("topology", ["v5e:4x4", "v6e:2x4", "v6e:4x4", "v5p:2x2x4"])
def test_skypilot_reads_the_task(launch, topology):
    sky = pytest.importorskip("sky")
    assert launch("--on=skypilot", f"--topology={topology}", "--spot", "--zone=us-west4-a")[0] == 0
    task = sky.Task.from_yaml("a.yaml")
    (resources,) = task.resources
    assert resources.use_spot
    assert task.run.rstrip().endswith("--distributed") == (topology != "v6e:2x4")


@pytest.mark.skipif("JOBSET_CRD" not in os.environ, reason="JOBSET_CRD does not name the schema of JobSet's CRD")
@pytest.mark.parametrize("topology", ["v5e:4x4", "v6e:2x4", "v6e:4x4", "v5p:2x2x4"])
def test_the_manifest_has_the_form_of_the_crd(launch, topology):
    jsonschema = pytest.importorskip("jsonschema")
    crd = yaml.safe_load(Path(os.environ["JOBSET_CRD"]).read_text())
    (schema,) = (each["schema"]["openAPIV3Schema"] for each in crd["spec"]["versions"] if each["name"] == "v1alpha2")
    assert launch("--on=jobset", "--image=i", "--queue=q", f"--topology={topology}", "--spot")[0] == 0
    jsonschema.validate(yaml.safe_load(Path("a.yaml").read_text()), _strict(schema))


def _strict(schema):
    """The schema, in which an object of known fields has no others: the API server drops or refuses these."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and schema["properties"]:
        found.setdefault("additionalProperties", False)
    return found

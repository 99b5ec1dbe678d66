"""A finished stage that asks for more goes on, and one that is made of others' files alone is made anew."""

import dataclasses
import io
import json

import pytest
from etils import epath
from rich.console import Console

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.progress import Progress
from aloe_jax.run.stage import Run, Stage, run_stages
from aloe_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class Wanted:
    names: tuple[str, ...] = setting((), "what is to be there", decides=False)
    size: int = setting(1, "of each")


def missing(run):
    return [name for name in run.section("parts", Wanted).names if not (run.directory("parts") / name).exists()]


def write(run):
    made = missing(run)
    for name in made:
        files.write_text(run.directory("parts") / name, name)
    return {"made": made}


def listed(run):
    names = sorted(path.name for path in run.directory("parts").glob("*.txt"))
    files.write_text(run.directory("list") / "list", " ".join(names))
    return {}


class Pipeline:
    """`parts` has a file per name, whose content is an input too; `list` names the files."""

    def __init__(self, workdir):
        self.workdir = workdir
        self.inputs = {"a.txt": "1", "b.txt": "1"}

    def run(self, *names, size=1):
        def inputs(run):
            return {name: self.inputs[name] for name in names}

        parts = Stage("parts", (), ("parts",), write, inputs, ("*.txt",), unfinished=lambda run: bool(missing(run)))
        stages = [parts, Stage("list", ("parts",), (), listed, outputs=("list",), derived=True)]
        settings = {"seed": 1, "parts": Wanted(names, size)}
        run_stages(
            stages, Run(epath.Path(self.workdir), settings, Progress(Console(file=io.StringIO()))), ["parts", "list"]
        )
        return json.loads((self.workdir / "parts/manifest.json").read_text())


@pytest.fixture
def pipeline(tmp_path):
    return Pipeline(tmp_path / "run")


def test_what_is_added_is_made_and_the_rest_stays(pipeline):
    assert pipeline.run("a.txt")["counts"] == {"made": ["a.txt"]}
    grown = pipeline.run("a.txt", "b.txt")
    assert grown["counts"] == {"made": ["b.txt"]}
    assert grown["inputs"] == {"a.txt": "1", "b.txt": "1"}
    assert len(grown["free"]) == 2
    assert (pipeline.workdir / "list/list").read_text() == "a.txt b.txt"


def test_less_is_no_change_and_keeps_what_is_known_of_the_rest(pipeline):
    grown = pipeline.run("a.txt", "b.txt")
    assert pipeline.run("b.txt") == grown


def test_another_content_under_a_known_name_is_refused(pipeline):
    pipeline.run("a.txt")
    pipeline.run("b.txt")
    pipeline.inputs["a.txt"] = "2"
    with pytest.raises(InputError, match=r"input 'a\.txt' has other content since"):
        pipeline.run("a.txt", "b.txt")


def test_a_setting_that_decides_is_refused(pipeline):
    pipeline.run("a.txt")
    with pytest.raises(InputError, match=r"parts\.size: 1 -> 2"):
        pipeline.run("a.txt", "b.txt", size=2)

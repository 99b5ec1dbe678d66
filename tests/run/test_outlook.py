"""What a dry run says of each stage: nothing is written, and the run then does what it said."""

import dataclasses
import io

import pytest
from etils import epath
from rich.console import Console

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.outlook import expected
from aloe_jax.run.progress import Progress
from aloe_jax.run.stage import Run, Stage, run_stages
from aloe_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class Words:
    text: str = setting("a", "what is written")


def write(run):
    if run.section("words", Words).text == "broken":
        raise KeyboardInterrupt
    files.write_text(run.directory("words") / "words.txt", run.section("words", Words).text)
    return {}


def count(run):
    return {"letters": len((run.directory("words") / "words.txt").read_text())}


STAGES = [
    Stage(
        "words",
        (),
        ("words",),
        write,
        lambda run: {"book": "1"},
        ("words.txt",),
        places=lambda run: {"book": ["b.txt"]},
    ),
    Stage("count", ("words",), (), count),
    Stage("page", (), (), lambda run: {}, skips=lambda run: "nobody reads it"),
]
ALL = tuple(stage.name for stage in STAGES)


@pytest.fixture
def run(tmp_path):
    def make(text="a"):
        progress = Progress(Console(file=io.StringIO()))
        return Run(epath.Path(tmp_path / "run"), {"seed": 1, "stages": (), "words": Words(text)}, progress)

    return make


def outlook(run, selected=ALL, fresh=False):
    return {each.stage: each for each in expected(STAGES, run, selected, fresh)}


def actions(run, **options):
    return [each.action for each in outlook(run, **options).values()]


def test_a_new_run(run, tmp_path):
    found = outlook(run())
    assert [each.action for each in found.values()] == ["run", "run", "skip"]
    assert found["words"].reads == ("b.txt",)
    assert found["count"].reads == ("words",)
    assert found["words"].writes == (f"{tmp_path / 'run' / 'words'}/", "words.txt")
    assert found["page"].why == "nobody reads it"
    assert not (tmp_path / "run").exists()


def test_what_is_finished_interrupted_or_changed(run):
    with pytest.raises(KeyboardInterrupt):
        run_stages(STAGES, run("broken"), ALL)
    assert actions(run("broken")) == ["continue", "run", "skip"]
    run_stages(STAGES, run(), ALL, fresh=True)
    assert actions(run()) == ["skip", "skip", "skip"]
    assert outlook(run())["count"].time.startswith("took ")
    with pytest.raises(InputError, match=r'another setting .*words\.text: "a" -> "b"'):
        outlook(run("b"))
    found = outlook(run("b"), fresh=True)
    assert [each.action for each in found.values()] == ["start over", "decided then", "skip"]
    assert found["words"].why == 'words.text: "a" -> "b"'
    assert found["count"].why == "done before; it starts over if words comes out different"


def test_what_is_missing_is_refused_as_in_a_run(run):
    with pytest.raises(InputError, match="'count' needs 'words'"):
        outlook(run(), selected=("count",))

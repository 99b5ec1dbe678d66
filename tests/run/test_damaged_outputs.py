"""Output files of a stage are verified against its manifest where a later stage reads them."""

import io

import pytest
from etils import epath
from rich.console import Console

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.manifest import read_manifest
from aloe_jax.run.progress import Progress
from aloe_jax.run.stage import Run, Stage, run_stages


def made(run):
    for name in ("b", "a"):
        files.write_text(run.directory("made") / "inner" / f"{name}.data", name)
    return {}


def read(run):
    return {"text": (run.directory("made") / "inner" / "a.data").read_text()}


STAGES = [
    Stage("made", (), (), made, outputs=("inner/*.data",), paid=("answers",)),
    Stage("read", ("made",), (), read),
]


@pytest.fixture
def call(tmp_path):
    progress = Progress(Console(file=io.StringIO()))
    run = Run(epath.Path(tmp_path), {"seed": 1}, progress)
    return lambda *selected, **options: run_stages(STAGES, run, selected, **options)


@pytest.mark.parametrize("damage", [lambda path: path.write_text("x"), lambda path: path.unlink()])
def test_a_damaged_output_is_refused_where_a_later_stage_reads_it(call, tmp_path, damage):
    """The sentence names the file, and its remedy keeps what was paid for; a finished stage does not read again."""
    call("made")
    files.write_text(tmp_path / "made" / "answers", "paid")
    damage(tmp_path / "made" / "inner" / "a.data")
    with pytest.raises(InputError, match=r"inner/a\.data .* --stages=made --fork") as caught:
        call("read")
    assert f"'{tmp_path / 'made'}' is damaged" in str(caught.value)
    call("made", fork=True)
    assert (tmp_path / "made" / "answers").read_text() == "paid"
    call("read")
    assert read_manifest(tmp_path / "read").counts == {"text": "a"}
    damage(tmp_path / "made" / "inner" / "a.data")
    call("read")


def test_a_pattern_names_all_files_that_it_matches(call, tmp_path):
    call("made")
    known = {f"inner/{name}.data": files.hash_file(tmp_path / "made/inner" / f"{name}.data") for name in ("a", "b")}
    assert read_manifest(tmp_path / "made").outputs == known

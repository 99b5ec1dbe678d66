"""Where commands may write: an output never is, contains or lies in what it is made from, nor in a run."""

import json
import os
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.outputs import check_apart, check_no_run
from aloe_jax.tree.schema import write_records
from helpers import hub_files, tiny
from helpers.aloe_in_process import contents, refused
from helpers.tree_samples import aloe_tree


@pytest.fixture
def run(tmp_path):
    """A run directory with a training, as far as its layout goes."""
    folder = tmp_path / "run"
    for stage in ("conversations", "sft"):
        (folder / stage).mkdir(parents=True)
        (folder / stage / "manifest.json").write_text(json.dumps({"stage": stage, "status": "finished"}))
    (folder / "sft/checkpoints/5").mkdir(parents=True)
    (folder / "sft/checkpoints/5/array").write_bytes(b"weights")
    (folder / "config.json").write_text('{"seed": 0}')
    write_records(folder / "conversations/trees.jsonl", [aloe_tree(1)])
    return folder


@pytest.fixture
def model(tmp_path):
    return hub_files.write_tiny(tmp_path / "models/tiny")


RUN_PLACES = ("run", "run/sft", "run/sft/checkpoints", "run/sft/new", "run/export", ".", "link", "link/sft/deep/er")


@pytest.mark.parametrize("out", RUN_PLACES)
@pytest.mark.parametrize("source", ["run/sft", "run/sft/checkpoints", "link/sft"])
def test_an_export_never_replaces_its_run(aloe, run, tmp_path, source, out):
    """With --overwrite the checkpoints, or the whole run, would be gone."""
    (tmp_path / "link").symlink_to(run)
    before = contents(tmp_path)
    refused(aloe("export", tmp_path / source, f"--out={tmp_path / out}", "--overwrite"), tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", ["import", "export"])
@pytest.mark.parametrize(
    "out", ["models/tiny", "models", "models/tiny/inner", "link", "link/inner", "run/sft", "run/new"]
)
def test_a_model_is_never_replaced_by_its_copy(aloe, run, model, tmp_path, command, out):
    (tmp_path / "link").symlink_to(model)
    before = contents(tmp_path)
    refused(aloe(command, model, f"--out={tmp_path / out}", "--overwrite"), "'" + str(tmp_path / out) + "'")
    assert contents(tmp_path) == before


def test_weights_that_links_lead_to_are_a_source_too(model, tmp_path):
    """As in a hub's cache, whose snapshots hold links into a folder of blobs."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    model.rename(blobs)
    snapshot.mkdir()
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    with pytest.raises(InputError, match=r"contains '.*snapshot', which it would be made from"):
        check_apart(blobs, snapshot)


@pytest.mark.parametrize(
    "out", ["in.jsonl", "link.jsonl", "hard.jsonl", "run/trees.jsonl", "run/conversations/trees.jsonl"]
)
def test_convert_never_writes_over_its_file_or_into_a_run(aloe, run, tmp_path, out):
    write_records(tmp_path / "in.jsonl", [aloe_tree(1)])
    (tmp_path / "link.jsonl").symlink_to("in.jsonl")
    os.link(tmp_path / "in.jsonl", tmp_path / "hard.jsonl")
    before = contents(tmp_path)
    refused(aloe("convert", tmp_path / "in.jsonl", f"--out={tmp_path / out}"), "--out: ", tmp_path / out)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("out", ["run", "run/published", "."])
def test_a_data_set_is_never_written_into_its_run(aloe, run, tmp_path, out):
    before = contents(tmp_path)
    refused(aloe("convert", run, f"--out={tmp_path / out}"), "--out: ", tmp_path / out)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("out", ["in.jsonl", "models/tiny/config.json", "models/tiny/scores.jsonl", "run/scores.jsonl"])
def test_scores_never_replace_trees_or_model(aloe, run, model, tmp_path, out):
    write_records(tmp_path / "in.jsonl", [aloe_tree(1)])
    before = contents(tmp_path)
    trees = f"--trees={tmp_path / 'in.jsonl'}"
    refused(aloe("score", f"--model={model}", trees, f"--out={tmp_path / out}"), "--out: ", tmp_path / out)
    assert contents(tmp_path) == before


def test_merged_shards_never_lie_in_a_shard(aloe, run, tmp_path):
    refused(aloe("merge", run, f"--out={run / 'merged'}"), "--out: ", "lies in")


def test_a_model_folder_is_no_run_directory(aloe, model):
    """`aloe run` would write its own config.json over the model's."""
    before = contents(model)
    config = Path(__file__).parents[1] / "configs/demo.py"
    refused(aloe("run", f"--config={config}:debug", f"--workdir={model}", "--stages=personas"), "--workdir: ", model)
    assert {path: data for path, data in contents(model).items() if path.name != ".lock"} == before


@pytest.mark.parametrize("source", ["owner/name", "embedded:smollm2", "gs://bucket/model"])
def test_a_source_elsewhere_is_not_in_the_way(source, tmp_path):
    check_apart(tmp_path / "out", source)
    check_no_run(tmp_path / "out")


def test_a_score_that_is_no_number_is_never_written(aloe, tmp_path):
    """Weights that are finite, and overflow when they are multiplied."""
    model = tiny.write_folder(tmp_path / "model")
    stored = load_file(model / "model.safetensors")
    stored = {name: array * (1e30 if "mlp" in name else 1) for name, array in stored.items()}
    save_file({name: array.astype("float32") for name, array in stored.items()}, model / "model.safetensors")
    write_records(tmp_path / "in.jsonl", [aloe_tree(1)])
    out = tmp_path / "scores.jsonl"
    code, _, errors = aloe("score", f"--model={model}", f"--trees={tmp_path / 'in.jsonl'}", f"--out={out}")
    assert code == 2
    assert "node 'good1'" in errors.splitlines()[-1]
    assert "its log-probability under" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert not out.exists()


def test_an_ordinary_neighbour_is_fine(aloe, run, model, tmp_path):
    for command in ("import", "export"):
        assert aloe(command, model, f"--out={tmp_path / 'models' / command}")[0] == 0
        assert aloe(command, model, f"--out={tmp_path / 'models' / command}", "--overwrite")[0] == 0
    assert aloe("convert", run / "conversations/trees.jsonl", f"--out={tmp_path / 'trees.parquet'}")[0] == 0


class TestLinks:
    """An output that is a symbolic link: its target is replaced, the link stays."""

    @pytest.mark.parametrize("there", [True, False])
    def test_folder(self, aloe, model, tmp_path, there):
        target, link = tmp_path / "disk/target", tmp_path / "link"
        if there:
            target.mkdir(parents=True)
            (target / "old.txt").write_text("old")
        link.symlink_to(target)
        result = aloe("import", model, f"--out={link}", "--overwrite")
        assert result[0] == 0, result
        assert link.is_symlink()
        assert (target / "model.safetensors").exists()
        assert not (target / "old.txt").exists()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link", "models"]
        assert [path.name for path in target.parent.iterdir()] == ["target"]

    def test_file(self, aloe, tmp_path):
        write_records(tmp_path / "in.jsonl", [aloe_tree(1)])
        target, link = tmp_path / "target.jsonl", tmp_path / "link.jsonl"
        target.write_text("old")
        link.symlink_to(target)
        assert aloe("convert", tmp_path / "in.jsonl", f"--out={link}")[0] == 0
        assert link.is_symlink()
        assert target.read_bytes() == (tmp_path / "in.jsonl").read_bytes()


def test_a_folder_with_folders_is_never_replaced(aloe, model, tmp_path):
    """`--out=~ --overwrite`, say."""
    (tmp_path / "home/papers").mkdir(parents=True)
    before = contents(tmp_path)
    refused(aloe("import", model, f"--out={tmp_path / 'home'}", "--overwrite"), "holds the folder 'papers'")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
@pytest.mark.parametrize("command", ["convert", "score"])
def test_what_is_no_file_is_refused_as_one(aloe, model, tmp_path, command, kind):
    write_records(tmp_path / "in.jsonl", [aloe_tree(1)])
    out = tmp_path / "out"
    if kind == "fifo":
        os.mkfifo(out)
    elif kind == "folder":
        out.mkdir()
    else:
        out = Path("/dev/null")
    given = (
        [tmp_path / "in.jsonl"] if command == "convert" else [f"--model={model}", f"--trees={tmp_path / 'in.jsonl'}"]
    )
    refused(aloe(command, *given, f"--out={out}"), f"cannot write '{out}': it is a ")
    assert not out.is_file()


class TestLitter:
    """A write that fails leaves neither a partial file nor a changed one."""

    @pytest.mark.parametrize(
        "error", [OSError(28, "No space left on device"), ValueError("half way"), KeyboardInterrupt()]
    )
    @pytest.mark.parametrize("before", [None, "old"])
    def test_lines(self, tmp_path, error, before):
        path = tmp_path / "out.jsonl"
        if before:
            path.write_text(before)

        def items():
            yield "one"
            raise error

        with pytest.raises(BaseException, match=r"No space left|half way|^$"):
            files.write_lines(path, items())
        assert [found.name for found in tmp_path.iterdir()] == (["out.jsonl"] if before else [])
        assert before is None or path.read_text() == before

    @pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
    def test_a_full_disk_in_convert(self, aloe, tmp_path, suffix, monkeypatch):
        write_records(tmp_path / "in.jsonl", [aloe_tree(1)])
        (tmp_path / "out").mkdir()
        (tmp_path / f"out/.trees{suffix}.partial").symlink_to("/dev/full")
        result = aloe("convert", tmp_path / "in.jsonl", f"--out={tmp_path / 'out' / ('trees' + suffix)}")
        refused(result, "cannot write", "No space left on device", code=75)
        assert list((tmp_path / "out").iterdir()) == []

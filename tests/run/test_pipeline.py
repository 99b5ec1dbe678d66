"""The files and the output of a whole run, and the tools on its files."""

import json

import numpy as np
import pytest

from aloe_jax.hub.load import load_model
from aloe_jax.tree.schema import read_personas, read_trees
from helpers.aloe_command import STAGES, TURNS, copy_stages, run_arguments

MODELS = ("base", "sft", "preference")
FIGURES = {"AL", "average", "IR", "R2", "N_IR", "N_R2"}


def manifest(workdir, stage):
    return json.loads((workdir / stage / "manifest.json").read_text())


def test_it_leaves_the_files_that_others_read(finished):
    workdir = finished.workdir
    assert len(read_personas(workdir / "personas/personas.jsonl")) == 6
    trees = list(read_trees(workdir / "conversations/trees.jsonl"))
    assert len(trees) == 6
    assert all(len([node for node in tree.nodes if node.role == "user"]) == TURNS for tree in trees)
    assert list((workdir / "dataset").rglob("*.array_record*"))
    for stage in ("sft", "preference"):
        assert (workdir / stage / "checkpoints").is_dir()
        steps = [json.loads(line) for line in (workdir / stage / "metrics.jsonl").read_text().splitlines()]
        assert [step["step"] for step in steps] == list(range(1, manifest(workdir, stage)["counts"]["steps"] + 1))
    for model in MODELS:
        folder = workdir / "benchmark" / model
        scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
        assert len(scores) == 6 * TURNS
        metrics = json.loads((folder / "metrics.json").read_text())
        assert set(metrics) >= FIGURES
        assert set(metrics["ci"]) >= FIGURES
        assert (metrics["cases"], metrics["unscored"], metrics["turns"]) == (6, 0, TURNS)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (workdir / "export").iterdir()
    }
    assert "<html" in (workdir / "report/index.html").read_text()


def test_preference_starts_at_log_2(finished):
    """The policy is the reference model then: -log sigmoid(0)."""
    first = json.loads((finished.workdir / "preference/metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-5)


def test_what_is_held_out_is_measured_at_the_end(finished):
    """One of six trees in preference training; none in SFT, as 2 % of six trees round down to 0."""
    held_out = [manifest(finished.workdir, stage)["counts"]["held_out_conversations"] for stage in MODELS[1:]]
    assert held_out == [0, 1]
    *others, last = map(json.loads, (finished.workdir / "preference/metrics.jsonl").read_text().splitlines())
    assert not any("held_out_accuracy" in record or "held_out_loss" in record for record in others)
    assert last["held_out_loss"] > 0
    assert last["held_out_accuracy"] in (0, 0.25, 0.5, 0.75, 1)  # of two turns, a pair each; a tie is half


def test_the_display_names_each_stage_and_ends_with_what_to_do_next(finished):
    lines = finished.stderr.splitlines()
    assert [line for line in lines if line.endswith(": started")] == [f"{stage}: started" for stage in STAGES]
    assert sum(": done in " in line for line in lines) == len(STAGES)
    assert any(line.startswith("conversations: 6/6 trees, 24 calls, ") for line in lines)
    following = lines[lines.index("Next:") + 1 :]
    assert [line.split()[:2] for line in following] == [
        ["open", f"{finished.workdir}/report/index.html"],
        ["aloe", "view"],
        ["aloe", "chat"],
        ["aloe", "score"],
    ]


def test_a_finished_run_is_skipped_as_a_whole(aloe, tiny_model, finished, tmp_path):
    workdir = copy_stages(finished.workdir, tmp_path / "run", *STAGES)
    code, _, errors = aloe(*run_arguments(tiny_model, workdir))
    assert code == 0, errors
    assert errors.count("finished before, skipped") == len(STAGES)
    for stage in STAGES:
        assert manifest(workdir, stage) == manifest(finished.workdir, stage)


def test_the_score_command_works_as_it_is_shown(aloe_process, finished, tmp_path):
    shown = next(line for line in finished.stderr.splitlines() if line.strip().startswith("aloe score")).split()
    scores = tmp_path / "scores.jsonl"
    result = aloe_process.call([*shown[1:-1], f"--out={scores}"])
    assert result.returncode == 0, result.stderr
    trees = list(read_trees(finished.workdir / "conversations/trees.jsonl"))
    assert len(scores.read_text().splitlines()) == sum(len(tree.replies()) for tree in trees)


def test_scores_are_the_log_probabilities_that_the_engine_gave(aloe_process, tiny_model, finished, tmp_path):
    """For plain first replies, which were sampled from exactly the path on which they are scored; truncated ones have
    no end-of-turn in both, those with thoughts, which are cut, have no stored ids. Later replies were sampled after
    earlier ones as text, and text of a random model does not tokenise to the same ids again."""
    trees, scores = finished.workdir / "conversations/trees.jsonl", tmp_path / "scores.jsonl"
    result = aloe_process.call(["score", f"--model={tiny_model}", f"--trees={trees}", f"--out={scores}"])
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in scores.read_text().splitlines()]
    found = {(record["conversation"], record["node"]): record for record in records}
    sampled = [
        (tree.id, node)
        for tree in read_trees(trees)
        for node in tree.replies()
        if node.condition == "plain" and node.parent == "u1"
    ]
    assert len(sampled) == 6
    whole = [(name, node) for name, node in sampled if "thought" not in node.flags]
    assert len(whole) >= 5
    for name, node in whole:
        record = found[name, node.id]
        assert record["tokens"] == len(node.token_ids)
        # Two ways to compute attention, in f32: sums of eight numbers of magnitude up to 10 over 1,000 keys.
        assert record["log_prob"] == pytest.approx(sum(node.logprobs), abs=1e-3)


@pytest.mark.parametrize("source", ["preference", "preference/checkpoints"])
def test_export_of_a_stage_is_the_model_that_the_run_exported(aloe, finished, tmp_path, source):
    out = tmp_path / "model"
    code, printed, errors = aloe("export", finished.workdir / source, f"--out={out}")
    assert code == 0, errors
    assert printed.strip() == str(out)
    exported, whole = load_model(out), load_model(finished.workdir / "export")
    assert exported[0] == whole[0]
    np.testing.assert_array_equal(exported[1]["embed"], whole[1]["embed"])
    assert (out / "model.safetensors").read_bytes() == (finished.workdir / "export/model.safetensors").read_bytes()


def test_export_of_a_stage_that_has_not_trained(aloe, finished, tmp_path):
    code, _, errors = aloe("export", finished.workdir / "personas", f"--out={tmp_path / 'model'}")
    assert code == 2
    assert errors.startswith("aloe: ")
    assert errors.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_chat_with_the_exported_model(aloe_process, finished):
    result = aloe_process.call(["chat", f"--model={finished.workdir / 'export'}", "--max-tokens=4"], stdin="Hello\n")
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("\n")


def test_a_training_of_another_run_is_measured_by_its_folder(aloe, tiny_model, finished, tmp_path):
    """Equal cases, seeds and parameters: its scores are those that the other run's own benchmark gave it."""
    workdir = copy_stages(finished.workdir, tmp_path / "run", "personas")
    models = f"--config.benchmark.models=('other={finished.workdir}/sft',)"
    code, _, errors = aloe(*run_arguments(tiny_model, workdir, "--stages=benchmark", models))
    assert code == 0, errors
    own, other = finished.workdir / "benchmark/sft/scores.jsonl", workdir / "benchmark/other/scores.jsonl"
    assert other.read_bytes() == own.read_bytes()
    inputs = json.loads((workdir / "benchmark/other/manifest.json").read_text())["inputs"]
    assert set(inputs) == {"personas", "model other"}

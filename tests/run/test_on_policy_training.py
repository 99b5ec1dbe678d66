"""Objectives of a policy's own replies in `aloe run`, on stored trees whose replies have advantages."""

import json

import pytest

from aloe_jax.tree.schema import write_records
from helpers.aloe_command import run_arguments
from helpers.on_policy import grown

pytestmark = pytest.mark.slow


def trained(aloe_process, model, workdir, trees, objective, *more):
    stages = "--stages=conversations,dataset,preference"
    given = (f"--config.conversations.source={trees}", "--config.preference.start=base", "--config.preference.batch=2")
    own = ("--config.preference.held_out=0.0", "--config.preference.beta=0.9")  # beta: as where nothing is said
    arguments = (stages, *given, *own, f"--config.preference.objective={objective}")
    return aloe_process.call(run_arguments(model, workdir, *arguments, *more))


def test_stored_trees_are_trained_on(aloe_process, tiny_model, tmp_path):
    """Three trees of one group each, with sample variances 2, 2 and 2, so that the first loss is 2 whichever two are in
    the batch. The start model is the old policy."""
    trees = [grown(f"t{number}", (2.0 + number, float(number))) for number in range(3)]
    write_records(tmp_path / "trees.jsonl", trees)
    result = trained(aloe_process, tiny_model, tmp_path / "run", tmp_path / "trees.jsonl", "tree_regression")
    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "run/preference/metrics.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert first["loss"] == pytest.approx(2.0, abs=1e-4)
    assert first["ratio_max"] == pytest.approx(1.0, abs=1e-4)
    assert first["groups_without_spread"] == 0.0
    (reference,) = (tmp_path / "run/preference").glob("reference-*.jsonl")
    (_, _, tokens), *_ = json.loads(reference.read_text().splitlines()[0])["replies"]
    assert len(tokens) > 1


def test_trees_without_advantages_are_refused(aloe_process, tiny_model, tmp_path):
    trees = [grown(f"t{number}", (1.0, 0.0)) for number in range(2)]
    bare = [
        tree.model_copy(update={"nodes": tuple(node.model_copy(update={"advantage": None}) for node in tree.nodes)})
        for tree in trees
    ]
    write_records(tmp_path / "trees.jsonl", bare)
    result = trained(aloe_process, tiny_model, tmp_path / "run", tmp_path / "trees.jsonl", "policy_gradient")
    assert result.returncode == 2
    assert "config.preference.objective: 'policy_gradient': no reply of the dataset has an advantage" in result.stderr

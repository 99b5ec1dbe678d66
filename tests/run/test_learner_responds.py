"""A responder on our own engine that is the result of a training: the learner itself, for replies on policy."""

import json

import pytest

from aloe_jax.tree.schema import read_trees
from helpers.aloe_command import copy_stages, run_arguments

pytestmark = pytest.mark.slow
GREEDY = ("--config.roles.responder.temperature=0.0", "--stages=conversations")


def replies(workdir):
    return [node.text for tree in read_trees(workdir / "conversations/trees.jsonl") for node in tree.nodes[1:2]]


def test_the_learner_responds(finished, aloe_process, tiny_model, tmp_path):
    """The same conversations as of its exported folder, other ones than of the base model."""
    made, exported = {}, tmp_path / "model"
    assert aloe_process.call(["export", str(finished.workdir / "sft"), f"--out={exported}"]).returncode == 0
    learner = f"--config.roles.responder.model={finished.workdir / 'sft'}"
    for name, model, more in (
        ("base", tiny_model, ()), ("learner", tiny_model, (learner,)), ("exported", exported, ()),
    ):  # fmt: skip
        workdir = copy_stages(finished.workdir, tmp_path / name, "personas")
        result = aloe_process.call(run_arguments(model, workdir, *GREEDY, *more))
        assert result.returncode == 0, result.stderr
        made[name] = replies(workdir)
    assert made["learner"] == made["exported"] != made["base"]
    manifest = json.loads((tmp_path / "learner/conversations/manifest.json").read_text())
    trained = json.loads((finished.workdir / "sft/manifest.json").read_text())
    assert set(manifest["inputs"]) >= {"model", "responder_model"}
    assert trained["status"] == "finished"


def test_one_model_on_our_engine(finished, aloe_process, tiny_model, tmp_path):
    workdir = copy_stages(finished.workdir, tmp_path / "run", "personas")
    learner = f"--config.roles.responder.model={finished.workdir / 'sft'}"
    for more, sentence in (
        ((learner, "--config.roles.judge.player=model"), "our engine holds one model, but the judge"),
        (("--config.roles.judge.player=model", "--config.roles.judge.model=other"), "'other' is on no server"),
        (("--config.roles.responder.model=/nowhere/sft",), "/nowhere/sft"),
    ):
        result = aloe_process.call(run_arguments(tiny_model, workdir, *GREEDY, *more))
        assert (result.returncode, sentence in result.stderr) == (2, True), result.stderr

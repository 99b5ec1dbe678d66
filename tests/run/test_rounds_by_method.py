"""A round of every method on a tiny model, all in one process on one device."""

import json
import math
import subprocess
import sys

import pytest

from aloe_jax.tree.schema import read_trees
from data_gen.online.methods import METHODS
from helpers.aloe_command import DEADLINE, ROOT

pytestmark = pytest.mark.slow
OBJECTIVES = dict.fromkeys(("tree", "chain", "leaf"), "policy_gradient") | {"pairs": "dpo"}
# Runs each list of arguments of stdin, one after the other; the last exit code that is not 0 is its own.
ALL = "import json, sys; from aloe_jax.cli.main import main; sys.exit(max(main(each) for each in json.load(sys.stdin)))"


def arguments(model, folder, method):
    settings = {
        "model.source": model,
        "seed": 2,
        "serve.slots": 6,
        "serve.context": 512,
        "personas.profiles": 4,
        "personas.personalities": 4,
        "dataset.max_path": 512,
        "dataset.row.tokens": 512,
        "dataset.row.targets": 256,
        "online.method": method,
        "online.objective": OBJECTIVES.get(method, "tree_regression"),
        "online.start": "base",
        "online.reference": "base",
        "online.rounds": 3,
        "online.budget": 1,
        "online.trees": 4,
        "online.max_tokens": 8,
        "online.rollout.turns": 2,
        "online.rollout.siblings": 3,
        "online.rollout.share": 1.0,
        "online.rollout.reward.length_budget": 1,  # replies of a random model differ by their length alone
        "online.rollout.reward.length": 1.0,
        "online.alarm.flat": 0,
        "online.alarm.repetition": 0,
        "online.alarm.truncated": 0,
    }
    given = [f"--config.{name}={value}" for name, value in settings.items()]
    config = f"--config={ROOT / 'configs/demo.py'}:debug"
    return ["run", config, f"--workdir={folder / method}", "--stages=personas,online", *given]


def called(aloe_process, calls):
    result = subprocess.run(
        [sys.executable, "-c", ALL],
        cwd=aloe_process.folder,
        env=aloe_process.environment,
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert result.returncode == 0, result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def rounds(aloe_process, tiny_model, tmp_path_factory):
    """The folder of a run by each method, and what they said. At the end that of `turn` is as a kill between the last
    checkpoint and the end leaves it, and goes on."""
    folder = tmp_path_factory.mktemp("rounds")
    said = called(aloe_process, [arguments(tiny_model, folder, method) for method in METHODS])
    manifest = folder / "turn/online/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"status": "running"}))
    return folder, said, called(aloe_process, [arguments(tiny_model, folder, "turn")])


@pytest.mark.parametrize("method", METHODS)
def test_a_round_of_each_method(rounds, method):
    """The budget of one token is used up in the first round. The loss that its trees lead to is checked by the round
    itself, and log 2 for pairs, as policy and reference are one model."""
    folder, said, _ = rounds
    (line,) = (folder / method / "online/metrics.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["ratio_max"] == pytest.approx(1, abs=1e-4)
    assert record["ratio"] == pytest.approx(1, abs=1e-4)
    assert record["reference_kl"] == pytest.approx(0, abs=1e-6)
    assert record["weight"] > 0
    if method == "pairs":
        assert record["loss"] == pytest.approx(math.log(2), abs=1e-5)
    trees = list(read_trees(folder / method / "online/rounds/0001/trees.jsonl"))
    replies = [reply for tree in trees for reply in tree.replies()]
    assert record["judge_calls"] == len(replies)
    assert record["sampled_tokens"] == sum(len(reply.token_ids) for reply in replies)
    assert len({tree.persona.id for tree in trees}) == (1 if method == "chain" else 4)
    assert len({tree.id for tree in trees}) == 4
    if method == "chain":
        assert "the method chain decides rollout.siblings=1, rollout.share=0.0" in said
        assert len({tree.nodes[0].text for tree in trees}) == 1  # one user, whose draws they share
        assert len({tree.nodes[1].text for tree in trees}) > 1


def test_a_run_whose_budget_was_used_up_does_not_go_on(rounds):
    folder, _, said = rounds
    assert "online: done" in said
    assert len((folder / "turn/online/metrics.jsonl").read_text().splitlines()) == 1
    assert json.loads((folder / "turn/online/manifest.json").read_text())["status"] == "finished"

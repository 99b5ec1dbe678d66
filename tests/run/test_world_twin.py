"""Training aligns: the tiny model of the scripted world, before and after SFT, on held-out users."""

import subprocess
import sys

import pytest

from aloe_jax.tree.schema import Message, read_personas, read_trees
from data_gen.world.judge import assess
from eval.benchmark.paired import paired_difference
from eval.benchmark.scores import read_scores, score_table
from helpers.aloe_command import ALOE, ROOT

pytestmark = pytest.mark.slow
KINDS = ("other_persona", "repetition")  # for pairs, which SFT has no use for


@pytest.fixture(scope="module")
def workdir(aloe_process, tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "twin"
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            ALOE,
            "run",
            f"--config={ROOT / 'configs/world.py:twin'}",
            f"--workdir={folder}",
            "--stages=personas,conversations,dataset,sft,benchmark",
            "--config.benchmark.models=base,sft",
            "--config.benchmark.controls=",
            *(f"--config.conversations.mix.{kind}=0" for kind in KINDS),
        ],
        env=aloe_process.environment | {"XLA_FLAGS": ""},  # a training is worth compiling well
        capture_output=True,
        text=True,
        timeout=1_500,
    )
    assert result.returncode == 0, result.stderr
    return folder


def table(workdir, model, scale):
    return score_table(read_scores(workdir / f"benchmark/{model}/scores.jsonl"), scale=scale)


def style_met(workdir, model):
    """The mean share of shown traits that replies meet."""
    met = []
    for tree in read_trees(workdir / f"benchmark/{model}/trees.jsonl"):
        talk = []
        for node in tree.nodes:
            if node.role == "assistant":
                met.append(assess(tree.persona, talk, node.text).style)
            talk.append(Message(role=node.role, content=node.text))
    return sum(met) / len(met)


@pytest.mark.parametrize(("scale", "least"), [("shown", 0.1), ("persona", 0.0)])
def test_training_aligns(workdir, scale, least):
    """The gains were 0.39 [0.28, 0.50] and 0.23 [0.15, 0.32] when the figures of docs/effect.md were measured: what is
    asserted is five and three standard errors away."""
    gain = paired_difference(table(workdir, "sft", scale), table(workdir, "base", scale)).average
    assert gain.interval[0] > least, gain
    assert len(list(read_personas(workdir / "personas/benchmark.jsonl"))) == 100


def test_it_meets_more_of_what_it_was_shown(workdir):
    assert style_met(workdir, "sft") > 1.4 * style_met(workdir, "base")

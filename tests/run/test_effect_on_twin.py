"""Training aligns: a tiny model from scratch, on the scripted teacher's replies, measured on held-out users."""

import json

import numpy as np
import pytest

from eval.benchmark.paired import paired_difference
from eval.benchmark.scores import read_scores, score_table
from helpers.aloe_command import ROOT

pytestmark = pytest.mark.slow
GAIN = 0.3  # points of five; an untrained model scores 1.0 at every turn
ARGUMENTS = (
    f"--config={ROOT / 'configs/world.py'}:twin",
    "--stages=personas,conversations,dataset,sft,benchmark",
    "--config.conversations.trees=200",
    "--config.conversations.turns=4",
    "--config.conversations.mix.other_persona=0",
    "--config.conversations.mix.plain=1",
    "--config.sft.epochs=2",
    "--config.benchmark.turns=4",
    "--config.benchmark.cases=12",
    "--config.benchmark.models=('base','sft')",
    "--config.benchmark.controls=()",
)


def test_supervised_fine_tuning_lifts_held_out_users(aloe_process, tmp_path):
    result = aloe_process.call(["run", f"--workdir={tmp_path}", *ARGUMENTS])
    assert result.returncode == 0, result.stderr
    scores = {name: read_scores(tmp_path / f"benchmark/{name}/scores.jsonl") for name in ("base", "sft")}
    for scale in ("shown", "persona"):
        tables = {name: score_table(records, scale=scale) for name, records in scores.items()}
        found = paired_difference(tables["sft"], tables["base"]).average
        assert found.interval[0] > GAIN, (scale, found)

"""`aloe score` on folders that are easily read wrongly, against `transformers` (golden: tests/fixtures/hub)."""

from __future__ import annotations

import json

import pytest

from aloe_jax.run.progress import Progress
from aloe_jax.train.score import score_file
from aloe_jax.tree.schema import write_records
from helpers import odd_folders
from helpers.tree_samples import FIXTURES

GOLDEN = json.loads((FIXTURES / "hub" / "folder_log_probs.json").read_text())


def test_every_folder_has_its_golden():
    assert GOLDEN.keys() == odd_folders.FOLDERS.keys()


@pytest.mark.parametrize("name", odd_folders.FOLDERS)
def test_scores_are_those_of_transformers(name, tmp_path):
    """A reply's sum of some 30 log-probabilities of order 5 in f32: 1e-3 is the bound that the project promises."""
    folder = odd_folders.write(name, tmp_path / "model")
    write_records(tmp_path / "trees.jsonl", odd_folders.FOLDERS[name][2])
    out = tmp_path / "scores.jsonl"
    score_file(str(folder), tmp_path / "trees.jsonl", out, "float32", "keep", Progress())
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    found = {f"{line['conversation']}/{line['node']}": [line["log_prob"], line["tokens"]] for line in lines}
    expected = GOLDEN[name]
    assert {key: tokens for key, (_, tokens) in found.items()} == {key: tokens for key, (_, tokens) in expected.items()}
    for key, (log_prob, _) in expected.items():
        assert found[key][0] == pytest.approx(log_prob, abs=1e-3), key

"""Trees that were generated under another schedule: equal but for the rounding of log-probabilities."""

import json
from pathlib import Path

import pytest

ROUNDING = 5e-5  # of a sampled token's log-probability in f32, beside other neighbours and after other pages


def assert_same_trees(found: Path, expected: Path) -> None:
    """Hold two files of trees to be equal, in any order, log-probabilities to `ROUNDING`."""
    pairs = list(zip(_trees(found), _trees(expected), strict=True))
    assert pairs
    for tree, other in pairs:
        for node, twin in zip(tree["nodes"], other["nodes"], strict=True):
            assert node.pop("logprobs", None) == pytest.approx(twin.pop("logprobs", None), abs=ROUNDING)
        assert tree == other


def _trees(path: Path) -> list[dict]:
    return sorted(map(json.loads, path.read_text().splitlines()), key=lambda tree: tree["id"])

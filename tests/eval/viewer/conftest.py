"""Run directories of made-up trees, each with a client of the viewer."""

import json

import pytest
from starlette.testclient import TestClient

from eval.viewer import make_app
from helpers import viewer_trees
from helpers.viewer_client import HOME, small_tree, trees_file


@pytest.fixture
def run(tmp_path):
    return viewer_trees.write_run(tmp_path / "run", count=6, turns=4, candidates=3)


@pytest.fixture
def client(run):
    return TestClient(make_app(run), base_url=HOME, raise_server_exceptions=False)


@pytest.fixture
def small(tmp_path):
    """A run directory with one small tree, and a client for it."""
    (tmp_path / "conversations").mkdir()
    trees_file(tmp_path).write_text(json.dumps(small_tree()) + "\n")
    return tmp_path, TestClient(make_app(tmp_path), base_url=HOME)

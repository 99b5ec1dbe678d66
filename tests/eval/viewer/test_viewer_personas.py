"""The viewer of a run that has personas and no trees yet."""

import json

import pytest
from starlette.testclient import TestClient

from aloe_jax.errors import InputError
from eval.viewer import make_app
from helpers.viewer_client import HOME, small_tree, trees_file


def persona(profile, personality):
    return {
        "id": f"{profile}-{personality}",
        "profile": profile,
        "personality": personality,
        "facts": [{"id": "f", "text": f"fact of {profile}"}],
        "traits": [{"id": "t", "text": f"trait of {personality}"}],
    }


@pytest.fixture
def run(tmp_path):
    (tmp_path / "personas").mkdir()
    lines = [json.dumps(persona(*pair)) for pair in (("baker", "shy"), ("baker", "loud"), ("miner", "shy"))]
    (tmp_path / "personas/personas.jsonl").write_text("\n".join([*lines[:2], "[]", lines[2]]) + "\n")
    return tmp_path


def test_each_profile_and_personality_is_listed_once(run):
    client = TestClient(make_app(run), base_url=HOME)
    index = client.get("/api/index").json()
    assert (index["trees"], index["personas"], index["more"]) == ([], True, False)
    (pool,) = client.get("/api/personas").json()["pools"]
    assert (pool["name"], pool["personas"], pool["broken"]) == ("for training", 3, 1)
    assert pool["profiles"] == [
        {"name": "baker", "items": ["fact of baker"], "partners": ["shy", "loud"]},
        {"name": "miner", "items": ["fact of miner"], "partners": ["shy"]},
    ]
    assert [entry["name"] for entry in pool["personalities"]] == ["shy", "loud"]


def test_trees_appear_when_the_run_has_them(run):
    client = TestClient(make_app(run), base_url=HOME)
    assert client.get("/api/index").json()["trees"] == []
    (run / "conversations").mkdir()
    trees_file(run).write_text(json.dumps(small_tree()) + "\n")
    assert [tree["id"] for tree in client.get("/api/index").json()["trees"]] == ["t"]


def test_neither_trees_nor_personas_are_refused(run):
    (run / "personas/personas.jsonl").write_text("\n")
    with pytest.raises(InputError, match=r"has neither conversations/trees\.jsonl nor personas"):
        make_app(run)

"""Ratings of single replies: what is offered, what is written, and that the report is corrected by it."""

import json
import shutil

import pytest
from starlette.testclient import TestClient

from aloe_jax import files
from eval.benchmark.labels import read_labels
from eval.benchmark.scores import read_scores
from eval.report.reading import read_result
from eval.viewer import make_app
from helpers.synthetic_run import write_run
from helpers.viewer_client import HOME, ORIGIN


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three models and two controls over 4 cases of 2 turns, one reply of each unscored."""
    return write_run(tmp_path_factory.mktemp("runs") / "run", profiles=2, personalities=2, turns=2)


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def client_of(directory):
    return TestClient(make_app(directory), base_url=HOME, raise_server_exceptions=False)


@pytest.fixture
def client(run):
    return client_of(run)


def offered(client, labeller="ann"):
    return client.get(f"/api/ratings?labeller={labeller}").json()


def rate(client, reply, score, labeller="ann", **more):
    place = {name: reply[name] for name in ("result", "case", "turn")}
    return client.post("/api/ratings", json=place | {"score": score, "labeller": labeller} | more, headers=ORIGIN)


def lines(run, name):
    path = run / "benchmark" / name / "ratings.jsonl"
    return files.read_json_lines(path) if path.exists() else []


def test_what_is_shown_is_the_dialogue_and_the_reply_alone(run, client):
    found = offered(client)
    assert (found["rated"], found["total"]) == (0, 3 * 7)
    reply = found["reply"]
    assert set(reply) == {"result", "case", "turn", "dialogue", "reply"}
    assert len(reply["dialogue"]) == 2 * reply["turn"] - 1
    assert reply["dialogue"][-1]["role"] == "user"


def test_all_models_are_mixed_and_no_control_is_rated(run, client):
    """Every reply is offered once; of any prefix the models have as many, give or take one."""
    seen, found = [], offered(client)
    while (reply := found["reply"]) is not None:
        seen.append((reply["result"], reply["case"], reply["turn"]))
        found = rate(client, reply, 3).json()
    scored = {
        (name, each.case, each.turn)
        for name in ("base", "sft", "preference")
        for each in read_scores(run / "benchmark" / name / "scores.jsonl")
        if each.score is not None
    }
    assert len(seen) == len(set(seen))
    assert set(seen) == scored
    assert found == {"rated": 21, "total": 21, "reply": None}
    for end in range(len(seen)):
        counts = [sum(name == each for name, *_ in seen[:end]) for each in ("base", "sft", "preference")]
        assert max(counts) - min(counts) <= 1
    assert len({name for name, *_ in seen[::3]}) > 1  # not always the same one first
    assert offered(client, "ben")["rated"] == 0


def test_a_rating_is_a_label_that_the_report_and_the_command_read(run, client, aloe):
    """Of 18 ratings six are of each model."""
    found = offered(client)
    for number in range(18):
        found = rate(client, found["reply"], 1 + number % 5).json()
    assert found["rated"] == 18
    path = run / "benchmark/sft/ratings.jsonl"
    assert len(read_labels(path)) == 6
    assert set(lines(run, "sft")[0]) == {"case", "turn", "score", "labeller", "reply", "time"}
    made = read_result(files.existing(run / "benchmark/sft")).metrics.corrected
    assert (made.labelled, made.labels) == (6, "ratings.jsonl")
    code, out, errors = aloe("metrics", run / "benchmark/sft/scores.jsonl", f"--labels={path}")
    assert (code, errors) == (0, "")
    assert json.loads(out)["corrected"]["average"] == made.average.model_dump(mode="json")


def test_rating_again_replaces_and_other_lines_stay(run, client):
    reply = offered(client)["reply"]
    rate(client, reply, 2)
    rate(client, reply, 4, labeller="ben")
    assert rate(client, reply, 5).json()["rated"] == 1
    assert [(line["labeller"], line["score"]) for line in lines(run, reply["result"])] == [("ann", 5), ("ben", 4)]
    with (run / "benchmark" / reply["result"] / "ratings.jsonl").open("a") as file:
        file.write('{"case": "torn')
    assert offered(client)["rated"] == 1
    assert len(lines(run, reply["result"])) == 2


def test_the_folder_of_one_result_offers_its_own(run):
    client = client_of(run / "benchmark/preference+wrong_persona")
    found = offered(client)
    assert found["reply"]["result"] == "preference+wrong_persona"
    rate(client, found["reply"], 1)
    assert len(lines(run, "preference+wrong_persona")) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": 0}, "field 'score' is 0; expected a whole number from 1 to 5"),
        ({"score": 3.5}, "field 'score' is 3.5"),
        ({"score": True}, "field 'score' is True"),
        ({"turn": "1"}, "field 'turn' must be a whole number"),
        ({"case": "p9-q9"}, "'{result}' has no scored reply of case 'p9-q9'"),
        ({"result": "../../x"}, "'../../x' has no scored reply"),
        ({"labeller": " "}, "field 'labeller' must be a text that is not empty"),
        ({"more": 1}, "the body must be a JSON object with"),
    ],
)
def test_refuses(run, client, change, said):
    reply = offered(client)["reply"]
    answer = rate(client, reply, **{"score": 3, **change})
    assert answer.status_code == 400
    assert said.format(**reply) in answer.json()["error"]
    assert not list(run.rglob("ratings.jsonl"))


def test_broken_files_are_told(run, client):
    (run / "benchmark/sft/ratings.jsonl").write_text("no label\n{}\n")
    answer = client.get("/api/ratings?labeller=ann")
    assert answer.status_code == 400
    assert "ratings.jsonl line 1" in answer.json()["error"]
    assert client.get("/api/ratings").status_code == 400
    assert client.get("/api/index").json()["rate"] is True


def test_a_run_without_a_benchmark_offers_nothing(small):
    _, client = small
    assert client.get("/api/index").json()["rate"] is False
    assert offered(client) == {"rated": 0, "total": 0, "reply": None}

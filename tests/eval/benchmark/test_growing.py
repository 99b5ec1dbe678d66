"""A finished benchmark takes more models, controls and cases, and is then what it would be had they been there at the
start. Its users and judge are scripted; its models are tiny, in this process, in a folder and behind a server."""

import json

import pytest

from aloe_jax.decode.engine import Engine
from aloe_jax.serve.server.server import Server
from aloe_jax.tree.schema import read_trees
from helpers import tiny
from helpers.aloe_command import run_arguments
from helpers.aloe_in_process import contents
from helpers.same_trees import assert_same_trees

STAGES = "--stages=personas,benchmark"
RESULTS = ("base", "twin", "far", "oracle", "twin+wrong_persona", "twin+length_judge", "base+style_prompt")


def manifest(workdir, name="."):
    return json.loads((workdir / "benchmark" / name / "manifest.json").read_text())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return tiny.write_folder(folder / "start", 0), tiny.write_folder(folder / "other", 1)


@pytest.fixture(scope="module")
def server():
    """The model of the second folder behind a server."""
    tokenizer = tiny.CHAT.tokenizer
    sizes = {"slots": 6, "context": 1024}
    engine = Engine(
        tiny.MODEL, tiny.params(1), **sizes, end_of_turn=tokenizer.end_of_turn_ids, vocab=tokenizer.vocab_size
    )
    with Server(engine, tiny.CHAT, "tiny") as started:
        yield started.base_url


def grow(aloe, start, tmp_path, everything, results):
    """Run a benchmark of two cases with `base` alone, let it grow to three cases with `everything`, and hold it to one
    that had all that from the start; returns both folders."""

    def run(name, *more):
        code, _, errors = aloe(*run_arguments(start, tmp_path / name, STAGES, *more))
        assert code == 0, errors
        return tmp_path / name

    grown = run("grown", "--config.benchmark.models=('base',)", "--config.benchmark.cases=2")
    first = [tree.id for tree in read_trees(grown / "benchmark/base/trees.jsonl")]
    run("grown", *everything, "--config.benchmark.cases=3")
    assert [tree.id for tree in read_trees(grown / "benchmark/base/trees.jsonl")][:2] == first
    assert [each["benchmark"]["cases"] for each in manifest(grown, "base")["free"]] == [2, 3]
    assert manifest(grown, "base")["counts"]["cases"] == 3
    whole = run("whole", *everything, "--config.benchmark.cases=3")
    for name in results:
        for file in ("scores.jsonl", "metrics.json"):
            assert (grown / "benchmark" / name / file).read_bytes() == (whole / "benchmark" / name / file).read_bytes()
        assert_same_trees(*(workdir / "benchmark" / name / "trees.jsonl" for workdir in (grown, whole)))
        assert manifest(grown, name)["inputs"] == manifest(whole, name)["inputs"]
    return grown, whole


def test_a_benchmark_grows(aloe, models, tmp_path):
    controls = (
        "--config.benchmark.controls=('oracle', 'base+length_judge', 'base+scripted_judge')",
        "--config.benchmark.control_cases=2",
    )
    everything = ("--config.benchmark.models=('base',)", *controls)
    grown, _ = grow(aloe, models[0], tmp_path, everything, ("base", "oracle", "base+length_judge"))

    def run(*more):
        return aloe(*run_arguments(models[0], grown, STAGES, *everything, *more))

    before = contents(grown / "benchmark")
    code, _, errors = run("--config.benchmark.cases=1")  # less than there is
    assert code == 0
    assert errors.count("finished before, skipped") == 2
    assert contents(grown / "benchmark") == before
    code, _, errors = run("--config.benchmark.turns=3")
    assert code == 2
    assert "benchmark.turns: 2 -> 3" in errors

    metrics = grown / "benchmark/base/metrics.json"
    assert "the scripted judge scored 2 of 3 cases" in json.loads(metrics.read_text())["corrected"]["refused"]
    lines = [json.loads(line) for line in (grown / "benchmark/base/scores.jsonl").read_text().splitlines()]
    rated = [json.dumps({**line, "score": line["score"] - 0.5}) for line in lines]
    (grown / "benchmark/base/ratings.jsonl").write_text("\n".join(rated))
    code, _, errors = run("--config.benchmark.general=True")
    assert code == 0, errors
    plain = json.loads((grown / "benchmark/base/general.json").read_text())
    assert len(plain["dialogues"]) == 20
    assert plain["interval"][0] < plain["nats_per_token"] < plain["interval"][1]
    made = json.loads(metrics.read_text())
    assert made["corrected"]["average"]["corrected"] == pytest.approx(made["average"] - 0.5)
    code, _, errors = run("--config.benchmark.general=True")
    assert errors.count("finished before, skipped") == 2


@pytest.mark.slow
def test_it_grows_by_models_of_every_kind(aloe, models, server, tmp_path):
    start, other = models
    everything = (
        f"--config.benchmark.models=('base', 'twin={other}', 'far={server}#tiny')",
        "--config.benchmark.controls=('oracle', 'twin+wrong_persona', 'twin+length_judge', 'base+style_prompt')",
        "--config.benchmark.control_cases=2",
    )
    grown, whole = grow(aloe, start, tmp_path, everything, RESULTS)
    assert "model twin" in manifest(grown, "twin+wrong_persona")["inputs"]
    assert manifest(grown, "far")["inputs"]["model far"] == "served as tiny"
    assert "model" not in manifest(grown, "twin")["inputs"]
    there, here = (read_trees(whole / "benchmark" / name / "trees.jsonl") for name in ("far", "twin"))
    for one, two in zip(there, here, strict=True):
        assert [node.text for node in one.nodes] == [node.text for node in two.nodes]

    kept = {name: contents(grown / "benchmark" / name) for name in RESULTS[1:]}
    code, _, errors = aloe(*run_arguments(start, grown, STAGES, "--config.benchmark.models=('base',)"))  # all six cases
    assert code == 0, errors
    assert manifest(grown, "base")["counts"]["cases"] == 6
    assert {name: contents(grown / "benchmark" / name) for name in RESULTS[1:]} == kept
    code, _, errors = aloe(*run_arguments(start, grown, STAGES, everything[0].replace(str(other), str(start))))
    assert code == 2
    assert "input 'model twin' has other content" in errors


def test_replay(aloe, models, tmp_path):
    """The first model plays with the user; the other one answers its dialogues, and a third run those of the file."""
    start, other = models
    both = (f"--config.benchmark.models=('twin={other}', 'base')", "--config.benchmark.cases=2", STAGES)
    code, _, errors = aloe(*run_arguments(start, tmp_path / "one", *both, "--config.benchmark.mode=replay"))
    assert code == 0, errors
    base, twin = (
        {tree.id: tree for tree in read_trees(tmp_path / "one/benchmark" / name / "trees.jsonl")}
        for name in ("base", "twin")
    )
    for case, tree in base.items():
        assert [tree.node(f"u{turn}").text for turn in (1, 2)] == [twin[case].node(f"u{turn}").text for turn in (1, 2)]
        assert twin[case].node("s1").text == tree.node("a1").text != twin[case].node("a1").text
    file = f"--config.benchmark.replay={tmp_path / 'one/benchmark/base/trees.jsonl'}"
    code, _, errors = aloe(*run_arguments(start, tmp_path / "two", *both, "--config.benchmark.mode=replay", file))
    assert code == 0, errors
    again = {tree.id: tree for tree in read_trees(tmp_path / "two/benchmark/base/trees.jsonl")}
    for case, tree in base.items():  # its replies to its own dialogues are those it gave
        assert [again[case].node(name).text for name in ("a1", "a2")] == [tree.node(name).text for name in ("a1", "a2")]
    code, _, errors = aloe(
        *run_arguments(start, tmp_path / "three", *both, "--config.benchmark.mode=replay", file),
        "--config.benchmark.cases=3",
    )
    assert code == 2
    assert "expected 2 with the same persona" in errors

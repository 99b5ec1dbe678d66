"""Presets and panels of the judge from the command line, behind servers: what is stored of each judge, and what is
refused. One judge is a tiny model on a server that does not constrain it, whose answers are garbage."""

import dataclasses
import json

import pytest
from aiohttp import web

from aloe_jax.decode.engine import Engine
from aloe_jax.serve.client import client
from aloe_jax.serve.server.server import Server
from aloe_jax.tree.schema import read_trees
from helpers import tiny
from helpers.aloe_command import ROOT
from helpers.aloe_in_process import refused
from helpers.fake_server import FakeServer, choices_of, running

CRITERIA = {"overall", "persona", "style", "content", "engaging", "tact"}
SMALL = (
    f"--config={ROOT / 'configs/demo_llm.py'}",
    "--config.personas.source=scripted",
    "--config.personas.profiles=24",
    "--config.personas.personalities=16",
    "--config.personas.pairings=1",
    "--config.personas.benchmark_profiles=2",
    "--config.personas.benchmark_personalities=2",
    "--config.conversations.trees=2",
    "--config.conversations.turns=1",
    "--config.tree.min_turns=1",
    "--config.roles.user.player=scripted",
    "--config.roles.inducer.player=scripted",
    "--config.roles.judge.trials=2",
    "--config.roles.judge.preset=robust",
    "--config.benchmark.turns=2",
    "--config.benchmark.resamples=20",
)


class Plain(FakeServer):
    """Gives no log-probabilities."""

    def choice(self, asked, index):
        return super().choice({**asked, "logprobs": False}, index)


class Decided(FakeServer):
    """Gives the same choice whatever is asked."""

    def choice(self, asked, index):
        found = super().choice(asked, index)
        if options := choices_of(asked):
            found["message"]["content"] = options[-1]
            found.pop("logprobs", None)
        return found


@pytest.fixture
def run(aloe, tmp_path, monkeypatch):
    """`run(stages, server, *more)` with such a server in every role that a model plays."""
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.001)
    monkeypatch.delenv("ALOE_API_KEY", raising=False)

    def call(stages, url, *more):
        shared = (f"--config.serve.base_url={url}", "--config.serve.model=alpha-1")
        tested = f"--config.benchmark.models=('far={url}#alpha-1',)"
        return aloe(
            "run", *SMALL, f"--workdir={tmp_path / 'run'}", f"--stages=personas,{stages}", *shared, tested, *more
        )

    return call


@pytest.fixture
def garbage():
    """A server of a tiny model without training, which keeps to no choices."""
    model, tokenizer = dataclasses.replace(tiny.MODEL, context=2048), tiny.CHAT.tokenizer
    ends, vocab = tokenizer.end_of_turn_ids, tokenizer.vocab_size
    engine = Engine(model, tiny.params(0), slots=2, context=2048, end_of_turn=ends, vocab=vocab)
    with Server(engine, tiny.CHAT, "tiny") as started:
        yield started.base_url


def panel(*members):
    return f"--config.roles.judge.panel=({', '.join(map(repr, members))},)"


def test_a_panel_grows_trees_and_keeps_what_each_judge_said(run, tmp_path):
    with running(FakeServer()) as url, running(FakeServer(bias=True)) as other:
        code, _, errors = run("conversations", url, panel(f"{other}#beta-2"))
    assert code == 0, errors
    assert "are all of the family" not in errors
    folder = tmp_path / "run/conversations"
    name = "panel of alpha-1, beta-2"
    for tree in read_trees(folder / "trees.jsonl"):
        for reply in tree.replies():
            both, *each = (score.value for score in reply.scores)
            assert [score.judge for score in reply.scores] == [name, "alpha-1", "beta-2"]
            assert both == reply.value == pytest.approx(sum(each) / 2, abs=1e-4)
    for line in (folder / "preferences.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["judge"] == name
        assert record["members"]["beta-2"] == pytest.approx([1.0, 0.0], abs=1e-6)  # by the place: it abstains
        assert record["orders"] == record["members"]["alpha-1"]
    counts = json.loads((folder / "manifest.json").read_text())
    assert counts["inputs"]["panel"] == "beta-2"
    assert counts["counts"]["judge"]["trials"]["judge"] == name
    roles = {json.loads(line)["role"] for line in (folder / "calls.jsonl").read_text().splitlines()}
    assert roles == {"responder", "judge", "judge:beta-2"}


def test_a_panel_with_a_judge_that_talks_garbage(run, garbage, tmp_path):
    """Its verdicts are no numbers, so the score is the mean of the other two. The scripted judge scores the same
    replies again."""
    controls = ("--config.benchmark.controls=('scripted_judge',)", "--config.benchmark.cases=2")
    with running(FakeServer()) as url, running(FakeServer()) as other:
        code, _, errors = run("benchmark", url, panel(f"{other}#beta-2", f"{garbage}#tiny"), *controls)
    assert code == 0, errors
    assert "the judge 'alpha-1' and the model under test 'alpha-1' are of one family" in errors
    folder = tmp_path / "run/benchmark"
    for tree in read_trees(folder / "far/trees.jsonl"):
        for reply in tree.replies():
            by_judge = {}
            for score in reply.scores:
                by_judge.setdefault(score.judge, {})[score.criterion] = score.value
            assert list(by_judge) == ["panel of alpha-1, beta-2, tiny", "alpha-1", "beta-2", "tiny"]
            assert by_judge["tiny"]["overall"] is None
            assert set(by_judge["alpha-1"]) == set(by_judge["beta-2"]) == CRITERIA
            for scale in ("overall", "persona"):
                mean = (by_judge["alpha-1"][scale] + by_judge["beta-2"][scale]) / 2
                assert next(iter(by_judge.values()))[scale] == pytest.approx(mean, abs=1e-4)
    truth = [json.loads(line) for line in (folder / "far+scripted_judge/scores.jsonl").read_text().splitlines()]
    assert len(truth) == 4
    assert all(1 <= line["score"] <= 5 and 1 <= line["score_persona"] <= 5 for line in truth)


def test_garbage_from_every_judge_is_unscored_by_reason_and_never_a_number(run, tmp_path):
    with running(FakeServer()) as url, running(FakeServer(ignores=True)) as prose:
        judge = (f"--config.roles.judge.base_url={prose}", "--config.roles.judge.model=prose-1")
        code, _, errors = run("benchmark", url, *judge)
    assert code == 0, errors
    assert "8 of 8 replies of far are unscored: 8 x unreadable verdict" in errors
    counts = json.loads((tmp_path / "run/benchmark/far/manifest.json").read_text())["counts"]
    assert (counts["average"], counts["unscored"]) == (None, {"unreadable verdict": 8})


class Overloaded(FakeServer):
    """Has no answer to the second message of one dialogue as long as it is `busy`."""

    busy, opening = True, ""

    async def complete(self, request):
        messages = (await request.json())["messages"]
        if self.busy and len(messages) == 3:
            self.opening = self.opening or messages[0]["content"]
            if messages[0]["content"] == self.opening:
                return web.json_response({"error": {"message": "overloaded"}}, status=503)
        return await super().complete(request)


def test_a_case_that_a_server_failed_on_is_played_again_on_request_alone(run, tmp_path):
    """Failed cases counted as done for ever (METR/inspect-action#169, Krzysztof318/MailFathom#2061)."""
    scripted = (
        "--config.roles.judge.player=scripted",
        "--config.roles.judge.preset=overall",
        "--config.serve.patience=0.1",
    )
    server, calls = Overloaded(), tmp_path / "run/benchmark/far/calls.jsonl"
    with running(server) as url:
        code, _, errors = run("benchmark", url, *scripted)
        assert code == 0, errors
        assert "1 of 4 cases of far were given up; --config.benchmark.retry=True plays them again" in errors
        assert len(calls.read_text().splitlines()) == 7
        server.busy = False
        assert "benchmark: finished before, skipped" in run("benchmark", url, *scripted)[2]
        code, _, errors = run("benchmark", url, *scripted, "--config.benchmark.retry=True")
        assert code == 0, errors
    assert len(calls.read_text().splitlines()) == 8  # of 4 cases and 2 turns
    counts = json.loads((tmp_path / "run/benchmark/far/manifest.json").read_text())["counts"]
    assert (counts["cases"], counts["unscored"], counts["given_up"]) == (4, {}, {})


def test_without_log_probabilities_the_answer_counts_and_the_run_says_so(run, tmp_path):
    with running(FakeServer()) as url, running(Plain()) as plain:
        judge = (f"--config.roles.judge.base_url={plain}", "--config.roles.judge.model=plain-1")
        code, _, errors = run("benchmark", url, *judge)
    assert code == 0, errors
    assert "gives no most probable tokens; a judge's verdicts are then all or nothing" in errors
    for tree in read_trees(tmp_path / "run/benchmark/far/trees.jsonl"):
        for reply in tree.replies():
            parts = {score.criterion: score.value for score in reply.scores}
            assert parts["overall"] == 1 + sum(parts[name] for name in CRITERIA - {"overall", "persona"})
            assert all(parts[name] in (0.0, 0.25, 0.5, 0.75, 1.0) for name in CRITERIA - {"overall", "persona"})


def test_the_paper_preset_gives_integers_on_one_scale(run, tmp_path):
    with running(FakeServer()) as url:
        code, _, errors = run("benchmark", url, "--config.roles.judge.preset=aloe-paper")
    assert code == 0, errors
    lines = [json.loads(line) for line in (tmp_path / "run/benchmark/far/scores.jsonl").read_text().splitlines()]
    assert {line["score"] for line in lines} <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert all(line["score"] == line["score_persona"] for line in lines)


def test_the_address_of_a_panel_may_change_and_its_models_may_not(run):
    with running(FakeServer()) as url, running(FakeServer()) as first, running(FakeServer()) as second:
        assert run("benchmark", url, panel(f"{first}#beta-2"))[0] == 0
        code, _, errors = run("benchmark", url, panel(f"{second}#beta-2"))
        assert code == 0, errors
        assert run("benchmark", url, panel(f"{second}#gamma-3"))[0] == 2


def test_settings_that_cannot_work(run):
    address = "http://127.0.0.1:9/v1"
    refused(
        run("benchmark", address, "--config.roles.judge.preset=best"), "config.roles.judge.preset: 'best'", "robust"
    )
    refused(run("benchmark", address, panel(address)), "config.roles.judge.panel:", "names no model")
    refused(run("benchmark", address, panel(f"{address}#alpha-1")), "config.roles.judge.panel: 'alpha-1' is the judge")
    scripted = "--config.roles.judge.player=scripted"
    refused(run("benchmark", address, scripted), "config.roles.judge.preset: a scripted judge has none")

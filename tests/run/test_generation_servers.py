"""Data generation from the command line with servers that fail on some prompts, think, or judge in prose."""

import json
import signal

import pytest

from aloe_jax.cli import main as cli
from aloe_jax.serve.client import client
from aloe_jax.tree.schema import read_trees
from data_gen.game.settings import CONDITIONS
from helpers.aloe_command import ROOT
from helpers.fake_server import MODEL, FakeServer, running

SMALL = (
    f"--config.serve.model={MODEL}",
    "--config.personas.source=scripted",
    "--config.personas.profiles=24",
    "--config.personas.personalities=16",
    "--config.personas.pairings=1",
    "--config.personas.benchmark_profiles=1",
    "--config.personas.benchmark_personalities=1",
    "--config.conversations.trees=6",
    "--config.conversations.turns=1",
    "--config.conversations.mix.hinted=1",
    "--config.conversations.mix.plain=1",
    "--config.roles.judge.trials=4",
    "--config.tree.min_turns=1",
)


@pytest.fixture
def aloe(tmp_path, monkeypatch, capsys):
    """`aloe(server, ...)` grows conversations in this process with such a server; exit code and stderr."""
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.001)
    monkeypatch.delenv("ALOE_API_KEY", raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def run(server, *more):
        stages = "--stages=personas,conversations"
        config = f"--config={ROOT / 'configs/demo_llm.py'}"
        with running(server) as url:
            address = f"--config.serve.base_url={url}"
            code = cli.main(["run", config, f"--workdir={tmp_path / 'run'}", address, *SMALL, stages, *more])
        return code, capsys.readouterr().err

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_summary_says_how_many_were_given_up_and_why(aloe, tmp_path):
    code, errors = aloe(FakeServer(hopeless={"refused": 0.3}))
    assert code == 0, errors
    counts = json.loads((tmp_path / "run/conversations/manifest.json").read_text())["counts"]
    refused = counts["given_up_because"]["400 content_filter"]
    assert counts["trees"] == 6
    assert refused > 0
    assert f"{counts['given_up']} given up: " in errors
    assert f"{refused} x 400 content_filter" in errors


def test_a_judge_in_prose_stops_the_run_before_trees_are_paid_for(aloe, tmp_path):
    prose = FakeServer(ignores=True)
    code, errors = aloe(prose)
    assert code == 2, errors
    assert "config.roles.judge: 4 of 4 verdicts" in errors.splitlines()[-1]
    assert "it said 'My " in errors.splitlines()[-1]
    assert not (tmp_path / "run/conversations/trees.jsonl").exists()
    code, errors = aloe(FakeServer(), "--config.roles.judge.max_tokens=16", "--fork")  # the remedy
    assert code == 0, errors


EVERY = [f"--config.conversations.mix.{kind}=1" for kind in CONDITIONS]


def calls_of(run):
    """The requests of a run by role, each as (model, longest answer)."""
    found = {}
    for line in (run / "conversations/calls.jsonl").read_text().splitlines():
        call = json.loads(line)
        found.setdefault(call["role"], set()).add((call["request"]["model"], call["request"]["max_tokens"]))
    return found


def conditions(run):
    trees = read_trees(run / "conversations/trees.jsonl")
    return {node.condition for tree in trees for node in tree.replies()}


def test_a_served_teacher_and_a_learner_with_their_own_models_and_sampling(aloe, tmp_path):
    strong = FakeServer()
    with running(strong) as url:
        teacher = [f"--config.roles.teacher.{name}" for name in ("player=model", f"base_url={url}", "max_tokens=77")]
        scripted = [f"--config.roles.{role}.player=scripted" for role in ("user", "inducer", "judge")]
        more = [*teacher, *scripted, *EVERY, "--config.conversations.turns=2", "--config.roles.teacher.price_out=2.0"]
        learner = FakeServer()
        code, errors = aloe(learner, *more)
        assert code == 0, errors
    run = tmp_path / "run"
    assert conditions(run) == set(CONDITIONS)
    assert calls_of(run) == {"teacher": {(MODEL, 77)}, "responder": {(MODEL, 40)}}
    assert strong.paid.total() > 3 * learner.paid.total() > 0
    status = json.loads((run / "conversations/status.json").read_text())
    assert set(status["roles"]) == {"teacher", "responder"}
    assert status["cost"] > 0
    counts = json.loads((run / "conversations/manifest.json").read_text())["counts"]
    assert set(counts["kinds"]) == set(CONDITIONS)
    assert sum(kind["preferred"] for kind in counts["kinds"].values()) == counts["preferences"]
    assert sum(kind["preferences"] for kind in counts["kinds"].values()) == 2 * counts["preferences"]


def test_a_scripted_teacher_calls_no_model(aloe, tmp_path):
    """With no plain reply in the mix the responder is not called either, so that nothing is."""
    server = FakeServer()
    scripted = [f"--config.roles.{role}.player=scripted" for role in ("user", "inducer", "judge", "teacher")]
    mix = ["--config.conversations.mix.plain=0", "--config.conversations.mix.other_persona=2"]
    code, errors = aloe(server, *scripted, *mix, "--config.roles.teacher.skill=0.9")
    assert code == 0, errors
    assert conditions(tmp_path / "run") == {"hinted", "other_persona"}
    assert server.asked.total() == 0


def test_a_responder_that_teaches_words_leaks_as_the_teacher_does(aloe, tmp_path):
    server = FakeServer()
    code, errors = aloe(server, *EVERY, "--config.conversations.turns=2")
    assert code == 0, errors
    assert "teacher" not in calls_of(tmp_path / "run")
    calls = (tmp_path / "run/conversations/calls.jsonl").read_text()
    assert "You also know something that they have never told you" in calls
    assert "teacher_template" in json.loads((tmp_path / "run/conversations/manifest.json").read_text())["inputs"]


class Thinker(FakeServer):
    """Thinks for 300 tokens before it answers."""

    def answer(self, asked):
        found = super().answer(asked)
        for each in found["choices"]:
            each["message"]["reasoning_content"] = "Hm."
            if asked["max_tokens"] < 300:
                each["message"]["content"] = ""
                each["finish_reason"] = "length"
        return found


def test_a_model_that_only_thinks_is_told_before_anything_is_paid_for(aloe):
    code, errors = aloe(Thinker())
    assert code == 2
    last = errors.splitlines()[-1]
    assert "max_tokens: all of " in last
    assert "went into reasoning" in last
    assert "config.roles.user.chat_template_kwargs" in last
    longer = [f"--config.roles.{role}.max_tokens=400" for role in ("user", "inducer", "responder", "judge")]
    code, errors = aloe(Thinker(), *longer, "--fork")
    assert code == 0, errors
    assert "thinks before it answers" in errors
    assert "thoughts were cut out of" in errors


def test_how_our_own_engine_thinks_cannot_be_set(capsys, tmp_path):
    more = ("--config.roles.responder.reasoning_effort=low", "--stages=personas,conversations")
    code = cli.main(["run", f"--config={ROOT / 'configs/demo_llm.py'}", f"--workdir={tmp_path / 'run'}", *SMALL, *more])
    assert code == 2
    assert "config.roles.responder.reasoning_effort: our own engine takes none" in capsys.readouterr().err

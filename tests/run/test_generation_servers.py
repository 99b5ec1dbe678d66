"""Data generation from the command line with servers that fail on some prompts, think, or judge in prose."""

import json
import signal

import pytest

from aloe_jax.cli import main as cli
from aloe_jax.serve.client import client
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
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

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

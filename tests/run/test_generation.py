"""Data generation with a model in every role, from the command line: personas, conversations, shards, what is shown and
what is given away."""

import json
import shutil
import signal

import pyarrow.parquet as pq
import pytest

from aloe_jax.cli import main as cli
from aloe_jax.serve.client import client
from aloe_jax.tree.schema import dump, read_personas, read_trees
from helpers.aloe_command import ROOT
from helpers.fake_server import MODEL, FakeServer, running

SMALL = (
    f"--config.serve.model={MODEL}",
    "--config.serve.patience=1",
    "--config.personas.profiles=56",
    "--config.personas.personalities=53",
    "--config.personas.proposals=2",
    "--config.personas.rounds=8",
    "--config.conversations.trees=4",
    "--config.conversations.turns=2",
    "--config.roles.judge.trials=4",
    "--config.tree.min_turns=2",
    "--config.tree.attempts=4",
    "--config.roles.user.price_in=1.0",
)


@pytest.fixture(scope="module")
def fake():
    """A server in a thread of its own, and its address."""
    server = FakeServer()
    with running(server) as address:
        yield server, address


@pytest.fixture
def aloe(fake, tmp_path, monkeypatch, capsys):
    """`aloe(workdir, ...)` runs both stages in this process; exit code and stderr."""
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.001)
    monkeypatch.delenv("ALOE_API_KEY", raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def run(workdir, *more):
        config = f"--config={ROOT / 'configs/demo_llm.py'}"
        stages = "--stages=personas,conversations"
        arguments = ["run", config, f"--workdir={workdir}", f"--config.serve.base_url={fake[1]}", *SMALL, stages, *more]
        code = cli.main(arguments)
        return code, capsys.readouterr().err

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def texts(path):
    return [dump(tree) for tree in read_trees(path)]


def test_from_seeds_to_a_data_set(fake, aloe, tmp_path, capsys):
    """One run in order: it is made, shown, gone on with, forked, cut into shards, merged and published."""
    server, _ = fake
    code, errors = aloe(tmp_path / "one")
    assert code == 0, errors
    assert "family 'fake'" in errors  # every role is one family
    personas = read_personas(tmp_path / "one/personas/personas.jsonl")
    held_out = read_personas(tmp_path / "one/personas/benchmark.jsonl")
    assert not {each.profile for each in personas} & {each.profile for each in held_out}
    assert not {each.personality for each in personas} & {each.personality for each in held_out}
    pool = json.loads((tmp_path / "one/personas/pool.json").read_text())
    assert pool["profiles"]["origins"]["seed"] > 40
    assert pool["contamination"]["profiles"]["grams_13"]["overlapping"] == 0
    trees = list(read_trees(tmp_path / "one/conversations/trees.jsonl"))
    assert len(trees) == 4
    manifest = json.loads((tmp_path / "one/conversations/manifest.json").read_text())
    assert manifest["counts"]["judge"]["trials"]["pairs"] == 4
    assert (manifest["counts"]["wanted"], manifest["counts"]["trees"]) == (4, 4)

    assert cli.main(["status", str(tmp_path / "one")]) == 0
    shown = capsys.readouterr().out
    for part in ("4 of 4 accepted", "responder", "judge: ", "$0.0", "finished"):
        assert part in shown, shown

    asked = server.asked.total()
    code, errors = aloe(tmp_path / "one", "--config.conversations.concurrency=7", "--config.serve.concurrency=9")
    assert (code, server.asked.total()) == (0, asked)  # how fast may change; nothing is asked again
    code, errors = aloe(tmp_path / "one", "--config.conversations.min_margin=0.3")
    assert code == 2
    assert "conversations.min_margin: 0.1 -> 0.3" in errors
    assert "--fork" in errors
    before = (tmp_path / "one/conversations/calls.jsonl").read_bytes()
    asked = server.paid.copy()
    code, errors = aloe(tmp_path / "one", "--config.conversations.min_margin=0.3", "--fork")
    assert code == 0, errors
    assert (tmp_path / "one/conversations/calls.jsonl").read_bytes() == before
    assert set(server.paid) == set(asked)
    forked = list(read_trees(tmp_path / "one/conversations/trees.jsonl"))
    assert [tree.nodes for tree in forked] == [tree.nodes for tree in trees]

    for number in range(2):
        shutil.copytree(tmp_path / "one/personas", tmp_path / str(number) / "personas")
        code, errors = aloe(tmp_path / str(number), f"--shard={number}/2")
        assert code == 0, errors
        assert "personas: finished before, skipped" in errors
    whole = ["merge", str(tmp_path / "0"), str(tmp_path / "1"), f"--out={tmp_path / 'both'}"]
    assert cli.main(whole) == 0
    assert texts(tmp_path / "both/conversations/trees.jsonl") == [dump(tree) for tree in trees]
    for wrong, message in (
        (["0", "0"], "same shard"),
        (["0"], "missing: 1"),
        (["one", "1"], "without --shard"),
        (["nothing"], "does not exist"),
    ):
        assert cli.main(["merge", *(str(tmp_path / name) for name in wrong), f"--out={tmp_path / 'wrong'}"]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "wrong").exists()
    code, errors = aloe(tmp_path / "both")
    assert code == 0, errors
    assert "conversations: finished before, skipped" in errors

    assert cli.main(["convert", str(tmp_path / "both"), f"--out={tmp_path / 'set'}"]) == 0
    assert pq.read_table(tmp_path / "set/data/train.parquet").num_rows == 4
    assert pq.read_table(tmp_path / "set/personas/train.parquet").num_rows == len(personas)
    card = (tmp_path / "set/README.md").read_text()
    for part in ("fake-1", "judge_v1.jinja", "Limits", "distinct-2", "13 words", "kappa", "| preference pairs |"):
        assert part in card, card
    assert "127.0.0.1" not in card
    assert cli.main(["convert", str(tmp_path / "set/data/train.parquet"), f"--out={tmp_path / 'back.jsonl'}"]) == 0
    assert texts(tmp_path / "back.jsonl") == [dump(tree) for tree in trees]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--shard=2/2"], "--shard: '2/2' must be NUMBER/COUNT"),
        (["--config.roles.judge.player=nobody"], "config.roles.judge.player: 'nobody' is unknown"),
        (["--config.roles.user.player=scripted"], "the scripted user knows only scripted personas"),
        (["--config.tree.guards=('lops',)"], "config.tree.guards: 'lops' is unknown"),
        (["--config.roles.judge.template=nothing.jinja"], "config.roles.judge.template: file 'nothing.jinja'"),
        (["--config.serve.model="], "name the model on"),
        (["--config.conversations.mix.plain=0"], "config.conversations.mix: its counts must add up to at least 2"),
        (
            [f"--config.conversations.mix.{count}" for count in ("plain=0", "hinted=0", "leak=2")],
            "config.conversations.mix: hinted and plain are both 0, but the path goes on from one of them; raise one",
        ),
        (["--config.conversations.hinted=2"], "config.conversations.hinted is now called --config.conversations.mix.h"),
        (["--config.conversations.mix.leaks=2"], "did you mean 'leak'?"),
        (["--config.roles.teacher.player=scripted"], "the scripted teacher knows only scripted personas"),
        (["--config.roles.teacher.player=oracle"], "config.roles.teacher.player: 'oracle' is unknown; choose one of"),
        (["--config.roles.teacher.skill=1.5"], "config.roles.teacher.skill: 1.5 must be at least 0 and at most 1"),
        (
            ["--config.roles.teacher.skill=0.5"],
            "config.roles.teacher.skill: a teacher whose player is 'responder' does not read it; set "
            "config.roles.teacher.player to 'scripted'",
        ),
        (
            ["--config.roles.teacher.player=model", "--config.roles.teacher.skill=0.5"],
            "config.roles.teacher.skill: a teacher whose player is 'model' does not read it",
        ),
        (["--config.roles.teacher.base_url=http://127.0.0.1:9/v1"], "set config.roles.teacher.player to 'model'"),
        (["--config.tree.min_turns=9"], "config.tree.min_turns: 9 are more than the 2 turns"),
        (["--config.personas.source=moon"], "config.personas.source: 'moon' is unknown"),
        (["--config.personas.source=files"], "config.personas.profile_pool is empty"),
    ],
)
def test_settings_that_cannot_work(aloe, tmp_path, more, message):
    code, errors = aloe(tmp_path / "run", *more)
    assert code == 2
    assert message in errors
    assert not list((tmp_path / "run").glob("*/*"))

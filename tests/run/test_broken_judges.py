"""Rounds with a judge behind a server that dies, answers garbage, or gives everything its top score: paused with one
sentence each time, and once it is mended the same command ends as if it had never been broken."""

import json

import pytest
from aiohttp import web

from aloe_jax.serve.client import client
from helpers.aloe_command import run_arguments
from helpers.fake_server import FakeServer, choices_of, running

pytestmark = pytest.mark.slow
SETTINGS = {
    "roles.judge.player": "model",
    "serve.patience": 0.2,
    "online.start": "base",
    "online.reference": "base",
    "online.rounds": 1,
    "online.trees": 2,
    "online.max_tokens": 8,
    "online.rollout.turns": 2,
    "online.rollout.batch": 1,
    "online.rollout.siblings": 2,
    "online.rollout.share": 1.0,
    "online.alarm.flat": 0,
    "online.alarm.repetition": 0,
    "online.alarm.truncated": 0,
    "online.alarm.unscored": 0.4,
    "online.alarm.top_score": 0.4,
}


class Judge(FakeServer):
    """A judge with a `fault`: it "dies" at the first question about the second user, answers in prose ("garbage"), or
    gives 5 to everything ("top"). `answered` counts the questions about replies."""

    fault, first, answered = "", "", 0

    async def complete(self, request):
        asked = await request.json()
        question = asked["messages"][-1]["content"]
        if "How well does this reply suit" in question:
            user = question.partition("Person: ")[2].partition("\n")[0]
            self.first = self.first or user
            if self.fault == "dies" and user != self.first:
                self.down = True
                request.transport.abort()
                return web.Response()
            self.answered += 1
        return await super().complete(request)

    def choice(self, asked, index):
        self.ignores = self.fault == "garbage"
        found = super().choice(asked, index)
        if self.fault == "top" and choices_of(asked):
            found["message"]["content"] = choices_of(asked)[-1]
            found.pop("logprobs", None)
        return found


def replies(path):
    """The replies in a file of trees by conversation and node, each as its token ids and its scores."""
    trees = map(json.loads, path.read_text().splitlines())
    return {
        (tree["id"], node["id"]): (node["token_ids"], node["scores"])
        for tree in trees
        for node in tree["nodes"]
        if node["role"] == "assistant"
    }


def test_a_judge_that_breaks_pauses_the_rounds_until_it_is_mended(aloe, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.001)
    monkeypatch.delenv("ALOE_API_KEY", raising=False)
    judge, given = Judge(), [f"--config.{name}={value}" for name, value in SETTINGS.items()]
    folder = tmp_path / "run/online/rounds/0001"
    first, second = folder / "batch-00.jsonl", folder / "batch-01.jsonl"
    with running(judge) as url:
        given += [f"--config.roles.judge.base_url={url}", "--config.roles.judge.model=fake-1"]

        def call(workdir="run"):
            return aloe(*run_arguments(tiny_model, tmp_path / workdir, "--stages=personas,online", *given))

        def paused(fault, sentence):
            judge.fault, judge.down = fault, False
            code, _, errors = call()
            assert code == 75, errors
            assert errors.splitlines()[-1].startswith("aloe: ")
            assert sentence in errors.splitlines()[-1]

        paused("dies", f"{url}: ")
        kept = first.read_bytes()
        assert not second.exists()

        paused("garbage", "above config.online.alarm.unscored=0.4: the judge gives hardly any readable verdict")
        assert {scores[0]["value"] for _, scores in replies(second).values()} == {None}
        assert first.read_bytes() == kept

        count = len(replies(second))
        tokens = {name: ids for name, (ids, _) in (replies(first) | replies(second)).items()}
        paused("top", "above config.online.alarm.top_score=0.4: the judge gives everything its top score")
        assert {scores[0]["value"] for _, scores in replies(second).values()} == {5.0}
        assert first.read_bytes() == kept  # only what the broken judge scored is judged again

        judge.fault, before = "", judge.answered
        code, _, errors = call()
        assert code == 0, errors
        assert 0 < judge.answered - before <= count  # equal ones together
        trees = replies(folder / "trees.jsonl")
        assert {name: ids for name, (ids, _) in trees.items()} == tokens

        assert call("sound")[0] == 0
    assert replies(tmp_path / "sound/online/rounds/0001/trees.jsonl") == trees

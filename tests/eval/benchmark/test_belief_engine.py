"""Asking models of our own engine and behind a server what they have learned, in the benchmark."""

import asyncio
import json
import math

import pytest

from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.engine import Engine
from aloe_jax.serve.local import client_of
from aloe_jax.serve.server.server import Server
from aloe_jax.tree.probe import read_cut
from aloe_jax.tree.schema import Message, read_trees
from data_gen.world.catalogue import catalogue
from eval.benchmark import probing
from helpers import tiny
from helpers.aloe_command import run_arguments
from helpers.aloe_in_process import refused

TOKENS = 60  # of an answer here


def engine_of(seed, **sizes):
    tokenizer = tiny.CHAT.tokenizer
    return Engine(
        tiny.MODEL,
        tiny.params(seed),
        context=1024,
        end_of_turn=tokenizer.end_of_turn_ids,
        vocab=tokenizer.vocab_size,
        grammar=Grammar(tokenizer),
        **sizes,
    )


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(probing, "ANSWER_TOKENS", TOKENS)


def test_claims_and_their_probabilities_are_those_of_the_tokens():
    """A random model: its claims name items of the catalogue, and each probability is that of the tokens between the
    places at which the decoded text reaches the item's first character and the quote behind it."""
    dialogue = [Message(role="user", content="hi"), Message(role="assistant", content="yes")]

    async def asked(client):
        async with client:
            return await probing.Prober(client).nodes("a1", dialogue, 0)

    with client_of(engine_of(0, slots=1), tiny.CHAT, "tiny") as client:
        question, answer = asyncio.run(asked(client))
    assert (question.parent, answer.parent) == ("a1", "a1/probe")
    tokens = len(answer.token_ids)
    assert len(answer.logprobs) == tokens <= TOKENS
    claims = read_cut(answer.text)
    assert claims  # this model makes one
    assert {claim.item for claim in claims} <= {*catalogue()}
    given = {score.criterion: score.value for score in answer.scores}
    assert {claim.item for claim in claims} <= {*given}
    decode = tiny.CHAT.tokenizer.decode
    reached = [len(decode(answer.token_ids[:count])) for count in range(tokens + 1)]
    for item, probability in given.items():
        start = answer.text.index(f'"item":"{item}"') + len('"item":"')
        end = start + len(item) + 1
        inside = [place for place in range(tokens) if reached[place] < end and reached[place + 1] > start]
        assert probability == pytest.approx(math.exp(sum(answer.logprobs[place] for place in inside)), rel=1e-6, abs=0)


@pytest.mark.slow
def test_the_stage_asks_every_model(aloe, tmp_path):
    """One in this process and one behind a server; the dialogues are those without probes."""
    start = tiny.write_folder(tmp_path / "start", 0)
    with Server(engine_of(1, slots=4), tiny.CHAT, "tiny") as server:

        def run(name, *more):
            stages = "--stages=personas,benchmark,report"
            models = f"--config.benchmark.models=('base', 'far={server.base_url}#tiny')"
            change = "--config.personas.benchmark_surprises=0.25"
            code, _, errors = aloe(*run_arguments(start, tmp_path / name, stages, models, change, *more))
            assert code == 0, errors
            return tmp_path / name / "benchmark"

        asked, plain = run("asked", "--config.benchmark.probes=True"), run("plain")
    for name in ("base", "far"):
        found = json.loads((asked / name / "metrics.json").read_text())
        assert found["belief"]["claims"] > 0
        assert found["belief"]["without_probability"] == 0
        assert found["AL"] == json.loads((plain / name / "metrics.json").read_text())["AL"]
        for one, other in zip(*(read_trees(each / name / "trees.jsonl") for each in (asked, plain)), strict=True):
            assert [node.text for node in one.nodes if not node.is_probe] == [node.text for node in other.nodes]
            assert sum(node.is_probe for node in one.nodes) == len(one.path)
    assert "What the models say they have learned" in (asked.parent / "report/index.html").read_text()


def test_personas_without_a_truth_are_refused(aloe, tmp_path):
    start = tiny.write_folder(tmp_path / "start", 0)
    more = ("--stages=benchmark", "--config.benchmark.probes=True", "--config.personas.source=generated")
    refused(aloe(*run_arguments(start, tmp_path / "run", *more)), "config.benchmark.probes", "personas.source")

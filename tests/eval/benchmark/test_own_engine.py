"""On our own engine a benchmark repeats bit for bit, and its time grows linearly with the turns."""

import asyncio
import itertools

from etils import epath

from aloe_jax.decode.engine import Engine
from aloe_jax.serve.local import client_of
from data_gen.world.judge import ScriptedJudge
from data_gen.world.personas import scripted_personas
from data_gen.world.user import ScriptedUser
from eval.benchmark.cases import TREES, play_cases
from eval.benchmark.controls import tested_under as under
from eval.benchmark.dialogues import Benchmark
from eval.benchmark.settings import BenchmarkSettings
from helpers import tiny

TURNS = 5
SETTINGS = BenchmarkSettings(turns=TURNS, max_tokens=6)
PERSONAS = scripted_personas("benchmark", 2, 2, 0)


class Counting:
    """A client that notes, per call, the tokens of the prompt, those computed and those found in pages."""

    def __init__(self, client, engine):
        self.client, self.engine, self.calls = client, engine, []

    async def chat(self, messages, **options):
        before = self.engine.prefilled, self.engine.found
        answers = await self.client.chat(messages, **options)
        prompt = len(tiny.CHAT.prompt_ids(list(messages)))
        self.calls.append((prompt, self.engine.prefilled - before[0], self.engine.found - before[1]))
        return answers


def play(directory, personas):
    """Play cases, two at a time, with a new engine; returns the dialogues as bytes and the counts per call."""
    ends, vocab = tiny.CHAT.tokenizer.end_of_turn_ids, tiny.CHAT.tokenizer.vocab_size
    engine = Engine(tiny.MODEL, tiny.params(), slots=2, context=1024, end_of_turn=ends, vocab=vocab)

    async def run(client):
        async with client:
            counting = Counting(client, engine)
            model = under("", counting, SETTINGS, personas, {})
            made = Benchmark(model, ScriptedUser(1), ScriptedJudge(), TURNS, seed=3)
            await play_cases(made.case, personas, directory, turns=TURNS, concurrency=2)
            return counting.calls

    with client_of(engine, tiny.CHAT, "tiny") as client:
        calls = asyncio.run(run(client))
    return (directory / TREES).read_bytes(), calls


def test_it_repeats_bit_for_bit(tmp_path):
    """Sampled tokens, their log-probabilities, scores and the order in which the cases end."""
    first, second = (play(epath.Path(tmp_path / name), PERSONAS)[0] for name in ("one", "two"))
    assert first == second
    assert first.count(b'"logprobs"') > TURNS


def test_no_turn_computes_the_history_again(tmp_path):
    """Of prompt k all tokens of prompt k-1 are found; its reply and the new message are what is left at most. So all
    turns together compute no more than the last prompt has."""
    _, calls = play(epath.Path(tmp_path), PERSONAS[:1])
    assert len(calls) == TURNS
    for (earlier, _, _), (prompt, computed, found) in itertools.pairwise(calls):
        assert found >= earlier - 1
        assert computed + found == prompt - 1  # the last token is the first one that decodes
    assert sum(computed for _, computed, _ in calls) <= calls[-1][0]

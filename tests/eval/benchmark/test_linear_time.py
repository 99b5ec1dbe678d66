"""Time grows linearly with the turns: a turn computes what is new in it, and nothing of the history again."""

import asyncio
import itertools

from aloe_jax.decode.engine import Engine
from aloe_jax.serve.local import client_of
from data_gen.world.judge import ScriptedJudge
from data_gen.world.personas import scripted_personas
from data_gen.world.user import ScriptedUser
from eval.benchmark.controls import tested_under as under
from eval.benchmark.dialogues import Benchmark
from eval.benchmark.settings import BenchmarkSettings
from helpers import tiny

TURNS = 5
SETTINGS = BenchmarkSettings(turns=TURNS, max_tokens=6)


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


def test_no_turn_computes_the_history_again():
    """Of prompt k all tokens of prompt k-1 are found; its reply and the new message are what is left at most."""
    persona = scripted_personas("benchmark", 1, 1, 0)[0]
    tokenizer = tiny.CHAT.tokenizer
    sizes = {"slots": 2, "context": 1024}
    engine = Engine(
        tiny.MODEL, tiny.params(), **sizes, end_of_turn=tokenizer.end_of_turn_ids, vocab=tokenizer.vocab_size
    )

    async def run(client):
        async with client:
            counting = Counting(client, engine)
            made = Benchmark(
                under("", counting, SETTINGS, [persona], {}), ScriptedUser(1), ScriptedJudge(), TURNS, seed=3
            )
            await made.case(persona)
            return counting.calls

    with client_of(engine, tiny.CHAT, "tiny") as client:
        calls = asyncio.run(run(client))
    assert len(calls) == TURNS
    for (earlier, _, _), (prompt, computed, found) in itertools.pairwise(calls):
        assert found >= earlier - 1
        assert computed + found == prompt - 1  # the last token is the first one that decodes
    assert sum(computed for _, computed, _ in calls) <= calls[-1][0]

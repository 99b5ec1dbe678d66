"""Cases on which something fails: counted by kind, played on from what was answered, never averaged away."""

import asyncio
import dataclasses
from dataclasses import dataclass, field

import pytest
from etils import epath

from aloe_jax import files
from aloe_jax.errors import ResumableError
from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.call_errors import FailedCallError
from aloe_jax.serve.client.interface import ChatClient, Completions, Response, call_id
from aloe_jax.tree.schema import read_trees
from data_gen.calls.call_cache import CallCache
from data_gen.calls.store import Store
from data_gen.roles import Said, Verdict
from data_gen.world.judge import ScriptedJudge
from data_gen.world.personas import scripted_personas
from data_gen.world.user import ScriptedUser, write_message
from eval.benchmark.cases import TREES, play_cases, read_given_up
from eval.benchmark.controls import tested_under as under
from eval.benchmark.dialogues import Benchmark
from eval.benchmark.results import summarise
from eval.benchmark.scores import SCORES
from eval.benchmark.settings import BenchmarkSettings

PERSONAS = scripted_personas("benchmark", 2, 2, 0)
LOST, TURNS = PERSONAS[1], 10
FIRST = write_message(LOST, [], 1)
SETTINGS = BenchmarkSettings(turns=TURNS, resamples=20)


@dataclass
class Model(ChatClient):
    """A model that answers by the number of the turn; `error` is raised at turn 7 of the second case."""

    error: Exception | None = None
    model: str = "m"
    completions: Completions = field(default_factory=Completions)
    endpoints: tuple = ()
    waiting: int = 0
    asked: list = field(default_factory=list)

    async def respond(self, request, affinity=""):
        turn = (len(request["messages"]) + 1) // 2
        if self.error and turn == 7 and request["messages"][0]["content"] == FIRST:
            raise self.error
        self.asked.append(turn)
        reason = "length" if turn == 2 else "stop"
        text = "" if turn == 3 else f"Your week had {turn} good days."
        return Response([Answer(text, finish_reason=reason, call=call_id(request))], None)


def play(directory, model, judge=None, user=None):
    async def run():
        with Store(directory) as store:
            tested = under("", CallCache(model, store, "tested", ""), SETTINGS, PERSONAS, {})
            made = Benchmark(tested, user or ScriptedUser(1), judge or ScriptedJudge(), TURNS, 3)
            await play_cases(made.case, PERSONAS, epath.Path(directory), turns=TURNS, concurrency=2)

    asyncio.run(run())
    return summarise(PERSONAS, TURNS, 20, 3, epath.Path(directory))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a benchmark in which nothing fails, and its metrics and counts."""
    directory = tmp_path_factory.mktemp("undisturbed")
    return directory, *play(directory, Model())


def test_empty_and_truncated_replies_are_scored_and_counted(undisturbed):
    _, metrics, counts = undisturbed
    assert counts["flags"] == {"truncated": 4, "empty": 4}
    assert (counts["unscored"], counts["given_up"], metrics.unscored) == ({}, {}, 0)
    assert metrics.AL[2] == 1.0  # the empty ones, at the floor


def test_a_case_that_dies_at_turn_7_counts_as_unscored_from_there_and_is_played_on(undisturbed, tmp_path):
    whole, metrics, _ = undisturbed
    found, counts = play(tmp_path, Model(FailedCallError("gone", "503 overloaded")))
    assert counts["unscored"] == {"503 overloaded": 4}
    assert counts["given_up"] == {"503 overloaded": 1}
    [noted] = read_given_up(epath.Path(tmp_path))
    assert (noted.case, noted.turn) == (LOST.id, 7)
    assert (found.cases, found.unscored) == (4, 4)
    assert found.AL[:6] == metrics.AL[:6]
    scores = {(score["case"], score["turn"]): score["score"] for score in files.read_json_lines(whole / SCORES)}
    others = [persona.id for persona in PERSONAS if persona != LOST]
    assert found.AL[6] == pytest.approx(sum(scores[case, 7] for case in others) / 3)

    again = Model()
    play(tmp_path, again)
    assert again.asked == [7, 8, 9, 10]
    for name in (TREES, SCORES, "metrics.json"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
    assert read_given_up(epath.Path(tmp_path)) == []


def test_a_server_that_is_gone_stops_the_benchmark_and_no_answer_is_asked_for_twice(undisturbed, tmp_path):
    whole, *_ = undisturbed
    model, again = Model(ResumableError("nobody answers")), Model()
    with pytest.raises(ResumableError):
        play(tmp_path, model)
    play(tmp_path, again)
    assert len(model.asked) + len(again.asked) == len(PERSONAS) * TURNS
    assert {tree.id: tree for tree in read_trees(tmp_path / TREES)} == {
        tree.id: tree for tree in read_trees(whole / TREES)
    }


def test_unreadable_verdicts_are_a_kind_of_their_own(tmp_path):
    class Garbled(ScriptedJudge):
        async def score(self, persona, dialogue, reply, revealed=None):
            return Verdict(None) if len(dialogue) == 1 else Verdict(3.0, persona=2.0)

    metrics, counts = play(tmp_path, Model(), Garbled())
    assert counts["unscored"] == {"unreadable verdict": 4}
    assert (metrics.AL[0], metrics.unscored) == (None, 4)
    scores = files.read_json_lines(tmp_path / SCORES)
    assert scores[0] == {key: scores[0][key] for key in ("case", "profile", "personality", "turn")} | {"score": None}
    assert (scores[1]["score"], scores[1]["score_persona"]) == (3.0, 2.0)


@dataclass
class Mute:
    """A user that says nothing at turn 4 in its first `silent` draws, of the second case or of all, and whose other
    messages are cut off at turn 5."""

    silent: int
    opening: str = ""
    seeds: list = field(default_factory=list)

    async def message(self, persona, dialogue, seed=0):
        said = await ScriptedUser(1).message(persona, dialogue, seed)
        if len(dialogue) == 8:
            return dataclasses.replace(said, truncated=True)
        if len(dialogue) != 6 or not dialogue[0].content.startswith(self.opening):
            return said
        self.seeds.append(seed)
        return Said(" ") if len(self.seeds) <= self.silent else said


def test_a_user_that_says_nothing_is_asked_again(undisturbed, tmp_path):
    """A reply was asked for and scored (sierra-research/tau2-bench#470)."""
    user = Mute(silent=2, opening=FIRST)
    _, counts = play(tmp_path, Model(), user=user)
    assert len(set(user.seeds)) == 3
    assert counts == undisturbed[2] | {"flags": {**undisturbed[2]["flags"], "user truncated": len(PERSONAS)}}
    assert all(node.text.strip() for tree in read_trees(tmp_path / TREES) for node in tree.nodes if node.role == "user")


def test_a_user_that_stays_silent_ends_its_case_unscored(tmp_path):
    _, counts = play(tmp_path, Model(), user=Mute(silent=99, opening=FIRST))
    assert counts["given_up"] == {"empty user message": 1}
    assert counts["unscored"] == {"empty user message": TURNS - 3}
    with pytest.raises(
        ResumableError, match=r"the user said nothing in 3 attempts; raise config\.roles\.user\.max_tokens"
    ):
        play(tmp_path / "all", Model(), user=Mute(silent=99))

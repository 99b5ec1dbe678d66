"""What the model reads under each control, and judges that must not see what the effect is."""

import asyncio

import pytest

from aloe_jax.errors import InputError
from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.call_errors import FailedCallError
from aloe_jax.tree.schema import Conversation, Node
from data_gen.roles import Verdict
from data_gen.text import words
from data_gen.world.judge import ScriptedJudge
from data_gen.world.personas import scripted_personas
from data_gen.world.user import ScriptedUser
from eval.benchmark.controls import LONG, LengthJudge, NoContextJudge, Rescoring, partners
from eval.benchmark.controls import tested_under as under
from eval.benchmark.dialogues import Benchmark, replies_of, score_of, spoken
from eval.benchmark.settings import BenchmarkSettings

PERSONAS = scripted_personas("benchmark", 3, 2, 0)
SETTINGS = BenchmarkSettings(turns=3)


class Recorder:
    """A model that numbers its replies and keeps what it was given."""

    def __init__(self):
        self.read = []

    async def chat(self, messages, *, affinity="", **options):
        self.read.append([(message.role, message.content) for message in messages])
        return [Answer(f"Reply {len(self.read)} about the week.")]


def play(persona, control="", own=None, chat=None, stored=None, judge=None, turns=3):
    chat = chat or Recorder()
    model = under(control, chat, SETTINGS, PERSONAS, own or {})
    made = Benchmark(model, ScriptedUser(1), judge or ScriptedJudge(), turns, 3, stored)
    return asyncio.run(made.case(persona)), getattr(chat, "read", None)


@pytest.fixture(scope="module")
def own():
    """The dialogues of a model with every case."""
    return {persona.id: play(persona)[0].tree for persona in PERSONAS}


def said(tree):
    return [(message.role, message.content) for message in spoken(tree)]


def test_no_history_is_the_last_message_alone():
    (tree, failure), read = play(PERSONAS[0], "no_history")
    assert failure is None
    assert read == [[("user", tree.node(f"u{turn}").text)] for turn in (1, 2, 3)]


def test_a_wrong_persona_is_the_history_of_another_user_before_this_users_message(own):
    persona = PERSONAS[0]
    other = partners(PERSONAS, own)[persona.id]
    (tree, _), read = play(persona, "wrong_persona", own)
    for turn, messages in enumerate(read, start=1):
        assert messages[:-1] == said(own[other])[: 2 * turn - 2]
        assert messages[-1] == ("user", tree.node(f"u{turn}").text)
    # The judge sees the real dialogue: the scores are those of the replies to it.
    dialogue = spoken(tree)
    verdict = asyncio.run(ScriptedJudge().score(persona, dialogue[:5], dialogue[5].content))
    assert score_of(tree.node("a3"), "overall") == verdict.value


def test_partners_differ_in_both_and_do_not_change_with_more_cases(own):
    found = partners(PERSONAS, own)
    by_id = {persona.id: persona for persona in PERSONAS}
    for persona in PERSONAS:
        other = by_id[found[persona.id]]
        assert other.profile != persona.profile
        assert other.personality != persona.personality
    few = partners(PERSONAS[:4], own)
    assert few == {case: found[case] for case in few}
    with pytest.raises(InputError, match="needs a second case"):
        partners(PERSONAS[:1], own)


@pytest.mark.parametrize("control", ["style_prompt", "self_reflection"])
def test_a_prompt_is_the_same_for_all_users_and_stands_before_the_dialogue(control):
    heads = set()
    for persona in PERSONAS[:2]:
        (tree, _), read = play(persona, control)
        for turn, messages in enumerate(read, start=1):
            assert messages[1:] == said(tree)[: 2 * turn - 1]
            heads.add(messages[0])
    [(role, text)] = heads
    assert role == "system"
    assert len(text) > 50


def test_the_oracle_is_the_ceiling():
    (tree, _), read = play(PERSONAS[0], "oracle")
    assert read == []  # no model is asked
    assert all(score_of(node, "overall") > 4.5 for node in replies_of(tree))


def test_length_alone():
    """30 of 60 words: 1 + 4 x 30 / 60 = 3."""
    judge, persona = LengthJudge(), PERSONAS[0]
    for count, expected in ((0, 1.0), (LONG // 2, 3.0), (LONG, 5.0), (3 * LONG, 5.0)):
        assert asyncio.run(judge.score(persona, [], "word " * count)).value == expected


def test_rescored_replies_keep_everything_but_their_scores(own):
    tree = own[PERSONAS[0].id]
    found, failure = asyncio.run(Rescoring(LengthJudge(), own, 3).case(PERSONAS[0]))
    assert failure is None
    assert said(found) == said(tree)
    for one, other in zip(replies_of(found), replies_of(tree), strict=True):
        [score] = one.scores
        assert (score.judge, score.criterion) == ("length", "overall")
        assert score.value == 1 + 4 * len(words(other.text)) / LONG
        assert one.model_copy(update={"scores": other.scores}) == other


def test_without_context_the_judge_sees_the_last_message_and_the_reply(own):
    seen = []

    class Looking(ScriptedJudge):
        async def score(self, persona, dialogue, reply, revealed=None):
            seen.append(([message.content for message in dialogue], revealed))
            return Verdict(2.0)

    tree = own[PERSONAS[0].id]
    found, _ = asyncio.run(Rescoring(NoContextJudge(Looking()), own, 3).case(PERSONAS[0]))
    assert seen == [([tree.node(f"u{turn}").text], ()) for turn in (1, 2, 3)]
    assert replies_of(found)[0].scores[0].judge == "scripted, no context"


def test_a_dialogue_that_ended_early_is_rescored_as_far_as_it_goes(own):
    whole = own[PERSONAS[0].id]
    short = whole.model_copy(update={"nodes": whole.nodes[:4], "path": whole.path[:4]})
    found, failure = asyncio.run(Rescoring(LengthJudge(), {whole.id: short}, 3).case(PERSONAS[0]))
    assert len(replies_of(found)) == 2
    assert failure.kind == "nothing stored"
    assert asyncio.run(Rescoring(LengthJudge(), {}, 3).case(PERSONAS[0])).tree is None


def test_in_replay_every_model_answers_the_stored_history(own):
    persona = PERSONAS[0]
    (tree, failure), read = play(persona, stored=own)
    stored = said(own[persona.id])
    assert failure is None
    assert read == [stored[: 2 * turn - 1] for turn in (1, 2, 3)]
    assert tree.path == ("u1", "s1", "u2", "s2", "u3", "a3")
    assert [node.id for node in replies_of(tree)] == ["a1", "a2", "a3"]
    assert [tree.node(name).parent for name in ("a1", "s1", "u2", "a3")] == ["u1", "u1", "s1", "u3"]
    assert all(node.scores for node in replies_of(tree))
    assert not tree.node("s1").scores


def test_replay_ends_where_the_stored_dialogue_ends(own):
    short = {
        PERSONAS[0].id: Conversation(id="x", nodes=[Node(id="u", parent=None, role="user", text="Hi")], path=["u"])
    }
    (tree, failure), _ = play(PERSONAS[0], stored=short)
    assert len(replies_of(tree)) == 1
    assert failure.kind == "nothing stored"


class Faulty(Recorder):
    """A model that says nothing at turn 2, and whose server fails at turn `fails`."""

    def __init__(self, fails):
        super().__init__()
        self.fails = fails

    async def chat(self, messages, **options):
        turn = (len(messages) + 1) // 2
        if turn == self.fails:
            raise FailedCallError("gone", "503")
        [answer] = await super().chat(messages, **options)
        return [Answer("") if turn == 2 else answer]


def test_a_case_that_fails_at_turn_7_keeps_six_scored_turns():
    (tree, failure), _ = play(PERSONAS[0], chat=Faulty(7), turns=10)
    assert failure.kind == "503"
    assert tree.path == tuple(f"{who}{turn}" for turn in range(1, 7) for who in "ua")
    assert all(score_of(node, "overall") is not None for node in replies_of(tree))


def test_an_empty_reply_is_at_the_floor_of_both_scales_whatever_the_judge_says():
    class Kind(ScriptedJudge):
        async def score(self, persona, dialogue, reply, revealed=None):
            return Verdict(4.0, {"style": 0.5}, persona=3.0)

    (tree, _), _ = play(PERSONAS[0], chat=Faulty(0), judge=Kind())
    spoken_reply, empty = tree.node("a1"), tree.node("a2")
    assert (score_of(spoken_reply, "overall"), score_of(spoken_reply, "persona")) == (4.0, 3.0)
    assert (score_of(empty, "overall"), score_of(empty, "persona"), score_of(empty, "style")) == (1.0, 1.0, 0.5)
    assert empty.flags == ("empty",)

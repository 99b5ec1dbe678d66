"""The model-backed roles: what they ask, and what they make of answers of every kind."""

import asyncio
import dataclasses

import pytest

from aloe_jax.errors import InputError
from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.call_errors import RefusedCallError
from aloe_jax.tree.schema import Message
from data_gen.players.inducer import ModelInducer
from data_gen.players.judge import ModelJudge
from data_gen.players.player import family, one_family
from data_gen.players.prompts import Prompt
from data_gen.players.responder import ModelResponder
from data_gen.players.settings import ModelSettings
from data_gen.players.table import GAME, ROLES, RolesSettings, load_prompt
from data_gen.players.teacher import ModelTeacher
from data_gen.players.trials import FAULTS, fault_trials, trials, try_judge, unreadable
from data_gen.players.user import ModelUser
from data_gen.roles import Comparison, Revealed, Told
from data_gen.world.judge import ScriptedJudge, assess
from helpers.scripted_chat import PERSONA, Scripted, answer_of

TALK = [
    Message(role="user", content="The bees are loud today."),
    Message(role="assistant", content="Spring?"),
    Message(role="user", content="Took the stairs again, all nine floors."),
]
SAMPLING = ModelSettings(temperature=0.8, top_p=0.9, max_tokens=40)


def player(kind, reply, **more):
    chat = Scripted(reply)
    role = kind.__name__.removeprefix("Model").lower()
    return kind(chat, load_prompt(role), SAMPLING, **more), chat


def test_the_user_sees_its_persona_and_the_dialogue_from_its_side():
    user, chat = player(ModelUser, lambda messages, how: "  Ask me tomorrow. ")
    said = asyncio.run(user.message(PERSONA, TALK[:2], seed=5))
    assert (said.text, said.truncated, said.calls) == ("Ask me tomorrow.", False, ("call1",))
    [(messages, affinity, how)] = chat.asked
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert [message.content for message in messages[2:]] == ["The bees are loud today.", "Spring?"]
    for item in (*PERSONA.facts, *PERSONA.traits):
        assert item.text in messages[0].content
    assert (affinity, how["seed"], how["temperature"]) == ("The bees are loud today.", 5, 0.8)


def test_the_inducer_offers_what_is_hidden_and_adds_what_is_ticked():
    inducer, chat = player(ModelInducer, lambda messages, how: '{"shown": ["fact2", "fact9", "fact1"]}')
    found = asyncio.run(inducer.beliefs(PERSONA, TALK, (Revealed("fact1", 1),)))
    assert found == (Revealed("fact1", 1), Revealed("fact2", 2))
    [(messages, _, how)] = chat.asked
    assert how["schema"]["properties"]["shown"]["items"]["enum"] == ["fact2", "trait1"]
    assert "They keep bees." not in messages[-1].content
    assert "nine floors" in messages[-1].content


@pytest.mark.parametrize(
    "text", ["the lifts, I think", "", '{"shown": "fact2"}', "[]", '{"shown": [1, null]}', '{"a": 1}']
)
def test_an_answer_of_the_inducer_that_is_no_such_json_ticks_nothing(text):
    inducer, _ = player(ModelInducer, lambda messages, how: text)
    assert asyncio.run(inducer.beliefs(PERSONA, TALK, (Revealed("fact1", 1),))) == (Revealed("fact1", 1),)


def test_the_hint_goes_to_the_hinted_reply_alone():
    responder, chat = player(ModelResponder, lambda messages, how: "Hm.")
    asyncio.run(responder.replies(TALK, "They keep bees.", 1, 3))
    asyncio.run(responder.replies(TALK, None, 1, 3))
    hinted, plain = (messages for messages, _, _ in chat.asked)
    assert hinted[0].role == "system"
    assert "They keep bees." in hinted[0].content
    assert hinted[1:] == plain == TALK


def test_the_teacher_is_told_what_has_shown_or_nothing():
    teacher, chat = player(ModelTeacher, lambda messages, how: "Hm.")
    known = (Revealed("fact1", 1), Revealed("trait1", 2))
    for told in (Told(PERSONA, known), Told(PERSONA, None), Told(PERSONA, known, PERSONA.facts[1])):
        asyncio.run(teacher.replies(told, TALK, 2, 3))
    (hinted, _, how), (plain, _, _), (leak, _, _) = chat.asked
    assert (how["n"], how["seed"], how["temperature"], how["max_tokens"]) == (2, 3, 0.8, 40)
    assert "They keep bees. They hate small talk." in hinted[0].content
    assert "They fear lifts." not in hinted[0].content
    assert hinted[1:] == plain == leak[1:] == TALK
    assert "They keep bees. They hate small talk." in leak[0].content
    assert "They fear lifts." in leak[0].content
    assert "Never mention" not in leak[0].content


def test_a_responder_that_teaches_makes_the_calls_of_before():
    """One model with one sampling for hinted and plain replies: the requests are those of a responder with the hint."""
    responder, one = player(ModelResponder, lambda messages, how: "Hm.")
    teacher, other = player(ModelTeacher, lambda messages, how: "Hm.", hints=load_prompt("responder"))
    asyncio.run(responder.replies(TALK, "They keep bees.", 2, 3))
    asyncio.run(teacher.replies(Told(PERSONA, (Revealed("fact1", 1),)), TALK, 2, 3))
    assert one.asked == other.asked


def shown(messages):
    """The two replies in a judge's prompt, in their order."""
    text = messages[-1].content
    return text.split("Reply 1: ")[1].split("\n")[0], text.split("Reply 2: ")[1].split("\n")[0]


def with_share(first):
    """An answer whose probability of "1" is `first`."""
    return answer_of({"1": first, "2": 1 - first})


def test_the_judge_is_asked_in_both_orders():
    """Likes the reply about bees with 0.9 and the first position by 0.05 more: 0.95 first, 0.85 second, mean 0.9."""
    judge, chat = player(ModelJudge, lambda messages, how: with_share(0.95 if "bees" in shown(messages)[0] else 0.15))
    found = asyncio.run(judge.prefer(PERSONA, TALK, "So, bees?", "Nice.", (Revealed("fact1", 1),)))
    assert (found.shown_first, found.shown_second) == (pytest.approx(0.95), pytest.approx(0.85))
    assert found.p == pytest.approx(0.9)
    assert not found.inconclusive
    assert {shown(messages) for messages, _, _ in chat.asked} == {("So, bees?", "Nice."), ("Nice.", "So, bees?")}
    assert all(how["choices"] == ("1", "2") and how["top_logprobs"] for _, _, how in chat.asked)


def test_the_judge_sees_only_what_has_shown():
    """Mistake 7 in the paper's code: its judge was shown facts that were not revealed."""
    judge, chat = player(ModelJudge, lambda messages, how: "1")
    asyncio.run(judge.prefer(PERSONA, TALK, "a", "b", (Revealed("fact1", 1),)))
    asyncio.run(judge.score(PERSONA, TALK, "a", ()))
    asyncio.run(judge.score(PERSONA, TALK, "a"))
    compared, _, nothing, everything = (messages[-1].content for messages, _, _ in chat.asked)
    assert "They keep bees." in compared
    assert "They fear lifts." not in compared
    assert "They keep bees." not in nothing
    assert "They fear lifts." in everything


def test_a_judge_that_goes_by_the_place_tells_nothing():
    judge, _ = player(ModelJudge, lambda messages, how: "1")
    found = asyncio.run(judge.prefer(PERSONA, TALK, "a", "b", ()))
    assert 2 * found.p - 1 == 0.0
    assert found.inconclusive


def test_an_unreadable_verdict_is_none():
    """Mistake 6: it meant "second"."""
    judge, _ = player(ModelJudge, lambda messages, how: "1" if shown(messages)[0] == "a" else "neither, really")
    assert asyncio.run(judge.prefer(PERSONA, TALK, "a", "b", ())) is None
    vague, _ = player(ModelJudge, lambda messages, how: "quite well")
    assert asyncio.run(vague.score(PERSONA, TALK, "a")).value is None


def test_a_score_is_the_expected_one():
    """exp(-0.7) = 0.497 for 4 and exp(-0.7) for 5: 4.5."""
    top = ((("4", -0.7), ("5", -0.7), ("so", -3.0)),)
    judge, _ = player(
        ModelJudge, lambda messages, how: Answer("4", "stop", None, None, None, "c", tokens=("4",), top=top)
    )
    assert asyncio.run(judge.score(PERSONA, TALK, "a")).value == pytest.approx(4.5)


def test_trials_tell_good_judges_from_bad_ones():
    cases = trials(24, seed=0)
    assert len(cases) == 24
    assert sum(case.first_better for case in cases) == 12
    perfect = asyncio.run(try_judge(ScriptedJudge(), cases))
    assert (perfect["kappa"], perfect["agreement"], perfect["flip_rate"], perfect["unreadable"]) == (1.0, 1.0, 0.0, 0)

    class Biased(ScriptedJudge):
        async def prefer(self, persona, dialogue, first, second, revealed=None):
            return Comparison(0.9, 0.2)  # the first place, whatever stands there

    class Silent(ScriptedJudge):
        async def prefer(self, persona, dialogue, first, second, revealed=None):
            return None

    biased = asyncio.run(try_judge(Biased(), cases))
    assert (biased["inconclusive"], biased["flip_rate"]) == (24, 1.0)
    assert (biased["agreement"], biased["kappa"]) == (0.0, 0.0)  # the mean of 0.55 is half a preference for the place
    silent = asyncio.run(try_judge(Silent(), cases))
    assert (silent["unreadable"], silent["flip_rate"], silent["kappa"]) == (24, None, None)


def test_trials_of_faults_count_what_a_judge_overlooks():
    """A judge of style alone sees that of another persona, and nothing that leaks; the scripted one sees all."""
    cases = fault_trials(3, seed=0)
    assert [(case.fault, case.first_better) for case in cases[:3]] == [("other_persona", each) for each in (1, 0, 1)]
    assert {case.fault: 3 for case in cases} == dict.fromkeys(FAULTS, 3)
    found = asyncio.run(try_judge(ScriptedJudge(), [*trials(4, seed=0), *cases]))
    assert (found["pairs"], found["kappa"]) == (4, 1.0)
    all_right = {"pairs": 3, "right": 3, "inconclusive": 0, "unreadable": 0}
    assert list(found["faults"].items()) == [(name, all_right) for name in FAULTS]

    class Stylist(ScriptedJudge):
        async def prefer(self, persona, dialogue, first, second, revealed=None):
            one, other = (assess(persona, dialogue, reply).style for reply in (first, second))
            return Comparison(*[0.5 + (one - other) / 2] * 2)

    found = asyncio.run(try_judge(Stylist(), cases))
    assert found["pairs"] == 0
    assert found["faults"]["other_persona"]["right"] == 3
    assert found["faults"]["leak"]["right"] < 3


def test_families():
    assert family("meta-llama/Llama-3-8B-Instruct") == "llama"
    assert family("Qwen/Qwen3-32B") == "qwen"
    assert family("embedded:smollm2") == "smollm"
    one = {"user": "Qwen/Qwen3-8B", "responder": "Qwen/Qwen2.5-7B", "judge": "qwen3-32b", "inducer": "other"}
    assert "family 'qwen'" in one_family(one)
    assert one_family({**one, "judge": "google/gemma-3"}) is None
    assert one_family({**one, "teacher": "google/gemma-3"}) is None  # whose replies are to be the better ones
    assert "user, teacher and judge" in one_family({**one, "teacher": "Qwen/Qwen3-32B", "responder": "gemma"})
    assert one_family({"responder": "Qwen/Qwen3-8B"}) is None  # the others are scripted


def test_the_table_of_roles():
    """Each role has settings and prompts, and each role of the game the settings of one."""
    assert {field.name for field in dataclasses.fields(RolesSettings)} == set(ROLES)
    assert len({load_prompt(role).hash for role in ROLES}) == len(ROLES)
    for role in GAME:
        player = RolesSettings().of_game(role).player
        assert player == "model" or ROLES[role].scripted is not None, role


def test_templates_are_sandboxed_and_hashed():
    assert load_prompt("judge").hash != load_prompt("user").hash
    with pytest.raises(InputError, match="template 'mine'"):
        Prompt("mine", "{% block system %}{{ ''.__class__.__mro__ }}{% endblock %}").render("system")
    with pytest.raises(InputError, match="has no block 'score'"):
        Prompt("mine", "{% block system %}x{% endblock %}").render("score")
    with pytest.raises(InputError, match="mend it"):
        Prompt("mine", "{% block system %}")
    with pytest.raises(InputError, match="'hnt' is undefined"):
        Prompt("mine", "{% block system %}{{ hnt }}{% endblock %}").render("system", hint="a")


def test_a_judge_of_whom_hardly_a_verdict_is_readable_is_turned_down():
    found = {"judge": "j", "pairs": 48, "unreadable": 37}
    assert "37 of 48 verdicts of 'j'" in str(unreadable(found, "Well, both"))
    assert "it said 'Well, both'" in str(unreadable(found, "Well, both"))
    assert unreadable({**found, "unreadable": 36}, "") is None
    assert unreadable({"judge": "j", "pairs": 0}, "") is None


def test_a_trial_on_which_the_server_fails_is_unreadable_and_most_of_them_are_its_failure():
    class Picky(ScriptedJudge):
        refused = False

        async def prefer(self, persona, dialogue, first, second, revealed=None):
            if self.refused:
                raise RefusedCallError("filtered", "400")
            return await super().prefer(persona, dialogue, first, second, revealed)

    cases = trials(24, seed=0)
    judge = Picky()
    assert asyncio.run(try_judge(judge, cases))["unreadable"] == 0
    judge.refused = True
    with pytest.raises(RefusedCallError, match="filtered"):
        asyncio.run(try_judge(judge, cases))


def test_what_is_set_about_thinking_is_asked_for():
    chat = Scripted(lambda messages, how: "Hm.")
    settings = dataclasses.replace(SAMPLING, chat_template_kwargs='{"enable_thinking": false}', reasoning_effort="low")
    asyncio.run(ModelUser(chat, load_prompt("user"), settings).message(PERSONA, [], seed=1))
    asyncio.run(ModelUser(chat, load_prompt("user"), SAMPLING).message(PERSONA, [], seed=1))
    (_, _, more), (_, _, bare) = chat.asked
    assert (more["chat_template_kwargs"], more["reasoning_effort"]) == ({"enable_thinking": False}, "low")
    assert not {"chat_template_kwargs", "reasoning_effort"} & set(bare)

"""What each preset of the model judge is shown, and what it makes of answers of every kind."""

import asyncio

import pytest

from aloe_jax.tree.schema import Message
from data_gen.players.judge import ModelJudge
from data_gen.players.judge_presets import CRITERIA, PRESETS, PaperJudge, RobustJudge
from data_gen.players.settings import JUDGE_PRESETS, JudgeSettings
from data_gen.players.table import load_prompt
from data_gen.players.trials import trials, try_judge
from data_gen.roles import Revealed
from data_gen.world.inducer import shown
from data_gen.world.personas import scripted_personas
from data_gen.world.responders import play
from helpers.scripted_chat import PERSONA, Scripted, answer_of

TALK = [
    Message(role="user", content="The bees are loud today."),
    Message(role="assistant", content="Spring?"),
    Message(role="user", content="Took the stairs again."),
]
KNOWN = (Revealed("fact1", 1),)
HEADS = {"style": "Style:", "content": "Content:", "engaging": "Naturalness:", "tact": "Tact:"}


def judge(preset, reply, **more):
    chat = Scripted(reply)
    settings = JudgeSettings(player="model", preset=preset)
    return PRESETS[preset].judge(chat, load_prompt("judge", "", preset), settings, "m", **more), chat


def asked(chat):
    return [messages[-1].content for messages, _, _ in chat.asked]


def criterion(messages):
    return next(name for name, head in HEADS.items() if f"\n{head}" in messages[-1].content)


def levels(text):
    """The order of the five levels of a rubric."""
    return [line[0] for line in text.splitlines() if line[:2] in {f"{level}:" for level in range(1, 6)}]


def test_the_table():
    assert tuple(PRESETS) == JUDGE_PRESETS
    assert [preset.judge for preset in PRESETS.values()] == [ModelJudge, PaperJudge, RobustJudge]
    assert len({load_prompt("judge", "", name).hash for name in PRESETS}) == 3
    assert load_prompt("judge").hash == load_prompt("judge", "", "overall").hash


def test_the_paper_judge_sees_persona_last_message_and_reply_and_answers_an_integer():
    found, chat = judge("aloe-paper", lambda messages, how: "4")
    verdict = asyncio.run(found.score(PERSONA, TALK, "Nine floors?", KNOWN))
    assert (verdict.value, verdict.persona, verdict.calls) == (4.0, 4.0, ("call1",))
    [text] = asked(chat)
    for part in (
        "They keep bees.",
        "They fear lifts.",
        "They hate small talk.",
        "Took the stairs again.",
        "Nine floors?",
    ):
        assert part in text
    assert "loud today" not in text
    [(_, _, how)] = chat.asked
    assert (how["choices"], how["logprobs"], how["top_logprobs"]) == (("1", "2", "3", "4", "5"), False, 0)


@pytest.mark.parametrize("text", ["4.5", "quite well", "I cannot rate people.", "", "6", "4 or 5"])
@pytest.mark.parametrize("preset", JUDGE_PRESETS)
def test_what_is_no_rating_never_becomes_a_number(preset, text):
    found, _ = judge(preset, lambda messages, how: text)
    verdict = asyncio.run(found.score(PERSONA, TALK, "a", KNOWN))
    assert (verdict.value, verdict.persona, verdict.criteria) == (None, None, {})
    assert asyncio.run(found.prefer(PERSONA, TALK, "a", "b", KNOWN)) is None


def test_the_robust_judge_takes_expected_scores_and_asks_for_the_whole_persona_apart():
    """Style by what has shown: 0.5 * 4 + 0.5 * 5 = 4.5; by the whole persona 2; content 5, engaging 3, tact 1 and 5 at
    0.75 and 0.25: 2. Means: (4.5 + 5 + 3 + 2) / 4 = 3.625, and (2 + 5 + 3 + 2) / 4 = 3."""

    def reply(messages, how):
        if criterion(messages) == "style":
            whole = "All of this counts" in messages[-1].content
            return answer_of({"2": 1.0} if whole else {"4": 0.5, "5": 0.5})
        return answer_of(
            {"content": {"5": 1.0}, "engaging": {"3": 1.0}, "tact": {"1": 0.75, "5": 0.25}}[criterion(messages)]
        )

    found, chat = judge("robust", reply)
    verdict = asyncio.run(found.score(PERSONA, TALK, "Nine floors?", KNOWN))
    assert (verdict.value, verdict.persona) == (pytest.approx(3.625), pytest.approx(3.0))
    assert verdict.criteria == pytest.approx({"style": 0.875, "content": 1.0, "engaging": 0.5, "tact": 0.25})
    assert len(verdict.calls) == 5
    assert [criterion(messages) for messages, _, _ in chat.asked] == [*CRITERIA, "style"]
    *by_shown, by_all = asked(chat)
    for text in by_shown:
        assert "They keep bees." in text
        assert "They fear lifts." not in text
        assert "loud today" in text
    assert "They fear lifts." in by_all


def test_one_unreadable_criterion_leaves_the_reply_unscored():
    def reply(messages, how):
        return "well" if criterion(messages) == "tact" else "5"

    verdict = asyncio.run(judge("robust", reply)[0].score(PERSONA, TALK, "a", KNOWN))
    assert (verdict.value, verdict.persona) == (None, None)
    assert verdict.criteria == {"style": 1.0, "content": 1.0, "engaging": 1.0}
    assert len(verdict.calls) == 5


def test_without_the_style_by_the_whole_persona_only_that_scale_is_unscored():
    def reply(messages, how):
        return "hm" if "All of this counts" in messages[-1].content else "5"

    verdict = asyncio.run(judge("robust", reply)[0].score(PERSONA, TALK, "a", KNOWN))
    assert (verdict.value, verdict.persona) == (5.0, None)


def test_without_log_probabilities_the_answer_counts():
    verdict = asyncio.run(judge("robust", lambda messages, how: "3")[0].score(PERSONA, TALK, "a", KNOWN))
    assert (verdict.value, verdict.persona) == (3.0, 3.0)


def test_levels_are_permuted_by_the_seed_and_alike_for_every_reply():
    def orders(seed, reply="a", talk=TALK):
        found, chat = judge("robust", lambda messages, how: "3", seed=seed)
        asyncio.run(found.score(PERSONA, talk, reply, KNOWN))
        return [levels(text) for text in asked(chat)]

    first = orders(1)
    assert all(sorted(order) == ["1", "2", "3", "4", "5"] for order in first)
    assert len({tuple(order) for order in first}) > 1
    assert orders(1, "another reply") == first
    assert orders(2) != first
    assert orders(1, talk=TALK[:1]) != first


def test_a_comparison_lists_the_criteria_in_one_order_for_both_orders_of_the_replies():
    found, chat = judge("robust", lambda messages, how: "1", seed=3)
    compared = asyncio.run(found.prefer(PERSONA, TALK, "a", "b", KNOWN))
    assert compared.inconclusive
    there, back = asked(chat)
    assert there.split("What counts")[1] == back.split("What counts")[1]
    assert there.split("What counts")[0] != back.split("What counts")[0]


def test_what_has_been_revealed_is_known_of_the_scripted_world_and_else_left_to_the_judge():
    [persona] = scripted_personas("benchmark", 1, 1, 0)
    dialogue, _ = play(persona, "oracle", 2, 0)
    found, chat = judge("robust", lambda messages, how: "3")
    asyncio.run(found.score(persona, dialogue[:-1], "a"))
    known = {each.id for each in shown(persona, dialogue[:-1])}
    assert 0 < len(known) < len(persona.facts) + len(persona.traits)
    for item in (*persona.facts, *persona.traits):
        assert (f"- {item.text}\n" in asked(chat)[0]) == (item.id in known)
    asyncio.run(found.score(PERSONA, TALK, "a"))
    assert "Of this list only" in asked(chat)[5]
    assert "They fear lifts." in asked(chat)[5]


@pytest.mark.parametrize("preset", JUDGE_PRESETS)
def test_every_preset_is_tried_on_pairs_of_the_scripted_world(preset):
    """A judge by the place alone: no verdict is a preference."""
    found, chat = judge(preset, lambda messages, how: "1")
    figures = asyncio.run(try_judge(found, trials(6, seed=0)))
    assert (figures["pairs"], figures["inconclusive"], figures["agreement"]) == (6, 6, 0.0)
    assert len(chat.asked) == 12

"""The scripted judge: range, symmetry, what it may look at, and the scale as lazy and perfect responders meet it."""

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message, Persona
from data_gen.text import copied_share
from data_gen.world.facts import by_id
from data_gen.world.inducer import shown
from data_gen.world.judge import TEMPERATURE, ScriptedJudge, assess, preference
from data_gen.world.oracle import oracle_reply
from data_gen.world.personas import scripted_personas
from data_gen.world.responders import ScriptedResponder, calibration, play
from data_gen.world.styles import BY_ID
from data_gen.world.user import write_message

TRAIN = scripted_personas("train", 30, 30, 1, pairings=1)
BENCHMARK = scripted_personas("benchmark", 6, 5, 1)
JUDGE = ScriptedJudge()
persona = st.sampled_from([*TRAIN, *BENCHMARK])
texts = st.one_of(st.text(max_size=200), st.text(st.characters(), max_size=40), st.just("Your greyhound sounds fine."))


def opening(someone):
    return [Message(role="user", content=write_message(someone, [], 0))]


def score(someone, dialogue, reply):
    return asyncio.run(JUDGE.score(someone, dialogue, reply))


def prefer(someone, dialogue, first, second):
    return asyncio.run(JUDGE.prefer(someone, dialogue, first, second)).p


@settings(max_examples=200, deadline=None)
@given(persona, texts)
def test_range_and_purity_for_any_text(someone, reply):
    verdict = score(someone, opening(someone), reply)
    assert 1.0 <= verdict.value <= 5.0
    assert set(verdict.criteria) == {"style", "content", "engaging", "tact"}
    assert all(0.0 <= value <= 1.0 for value in verdict.criteria.values())
    assert all(isinstance(reason, str) and reason for reason in verdict.reasons)
    assert score(someone, opening(someone), reply) == verdict


@settings(max_examples=100, deadline=None)
@given(persona, texts, texts)
def test_position_does_not_matter(someone, one, other):
    """Regression for mistake 7 of the paper's code: its judge was always shown the hinted reply first."""
    dialogue = opening(someone)
    assert prefer(someone, dialogue, one, other) == pytest.approx(1.0 - prefer(someone, dialogue, other, one))
    assert prefer(someone, dialogue, one, one) == 0.5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, len(TRAIN) - 1), st.integers(0, len(TRAIN) - 1), texts)
def test_what_is_not_shown_does_not_count(row, other_row, reply):
    """Regression for mistake 7, second half: the judge was shown facts that the user had not revealed yet."""
    someone, other = TRAIN[row], TRAIN[other_row]
    dialogue = opening(someone)
    known = {belief.id for belief in shown(someone, dialogue)}
    seen = {belief.id for belief in shown(other, dialogue)}
    hidden_swapped = someone.model_copy(
        update={
            "facts": (
                *(i for i in someone.facts if i.id in known),
                *(i for i in other.facts if i.id not in seen | known),
            ),
            "traits": (
                *(i for i in someone.traits if i.id in known),
                *(i for i in other.traits if i.id not in seen | known),
            ),
        }
    )
    assert score(hidden_swapped, dialogue, reply).criteria["style"] == score(someone, dialogue, reply).criteria["style"]
    assert (
        score(hidden_swapped, dialogue, reply).criteria["content"]
        == score(someone, dialogue, reply).criteria["content"]
    )


def test_every_reply_gets_a_number_and_an_equal_pair_is_a_tie():
    """Regression for mistake 6: an unreadable judge answer must never silently mean "second". Here every text, even
    none at all, gets a score, and two bad replies are a tie."""
    dialogue = opening(TRAIN[0])
    for junk in ("", " \n ", "\x00\ud800", "{}", "[[2]]", "￿" * 50):
        assert score(TRAIN[0], dialogue, junk).value == pytest.approx(1.0, abs=0.3)
        assert prefer(TRAIN[0], dialogue, junk, junk) == 0.5


def test_preference_by_hand():
    assert preference(4.0, 3.0) == pytest.approx(1 / (1 + math.exp(-1 / TEMPERATURE)))
    assert preference(3.0, 3.0) == 0.5
    assert preference(5.0, 1.0) > 0.999


def test_value_by_hand():
    """Two shown traits, one missed: style 1/2. The fact named and no other topic word: content 3/4. Value
    1 + 4 (0.5 / 4 + 0.75 / 4 + 0.375 / 2) = 3. Without the fact, content 0: 1 + 4 (0.5 / 4) = 1.5."""
    someone = Persona(
        id="p",
        profile="p",
        personality="s",
        facts=(by_id()["music.choir"].item(),),
        traits=(BY_ID["energy.calm"].item(), BY_ID["question.none"].item()),
    )
    dialogue = [Message(role="user", content="So it goes. I sing in a choir, right at the back. End of report.")]
    parts = assess(someone, dialogue, "Do you like the choir?")
    assert (parts.styles, parts.content) == ({"energy.calm": 1.0, "question.none": 0.0}, 0.75)
    assert parts.value == pytest.approx(3.0)
    assert assess(someone, dialogue, "Do you like it there?").value == pytest.approx(1.5)


def test_shown_style_counts_and_names_the_miss():
    someone = next(p for p in TRAIN if "energy.lively" in {item.id for item in p.traits})
    dialogue = opening(someone)
    good = oracle_reply(someone, dialogue)
    flat = score(someone, dialogue, good.replace("!", "."))
    assert flat.value < score(someone, dialogue, good).value
    assert any("exclamation" in reason for reason in flat.reasons)


def test_unrevealed_fact_is_punished_until_the_user_says_it():
    someone = TRAIN[0]
    dialogue, _ = play(someone, "oracle", 10)
    known = {belief.id for belief in shown(someone, dialogue[:1])}
    hidden = next(item.id for item in someone.facts if item.id not in known)
    extra = f" It is like your {by_id()[hidden].topic}."
    good = oracle_reply(someone, dialogue[:1])
    assert score(someone, dialogue[:1], good + extra).criteria["tact"] == 0.3
    assert "not shown" in " ".join(score(someone, dialogue[:1], good + extra).reasons)
    assert score(someone, dialogue[:-1], good + extra).criteria["tact"] == 1.0


def test_a_reply_cut_off_in_the_middle_is_not_lost():
    """Removing the last words of a good reply costs at most the styles that these words show."""
    for someone in TRAIN[:10]:
        dialogue = opening(someone)
        cut = " ".join(oracle_reply(someone, dialogue).split()[:-2])
        assert score(someone, dialogue, cut).criteria["engaging"] == 1.0


def test_scores_are_graded():
    """Relevant replies without style are in the middle of the scale and spread; generic ones score lower."""
    first = [play(someone, "relevant", 5)[1] for someone in (*TRAIN, *BENCHMARK)]
    values = [value for row in first for value in row]
    mean = sum(values) / len(values)
    assert 2.0 <= mean <= 3.7
    assert len({round(value, 2) for value in values}) >= 10
    assert min(values) < 2.0 < 3.5 < max(values)


@pytest.mark.parametrize("personas", [TRAIN, BENCHMARK], ids=["train", "benchmark"])
def test_calibration(personas):
    """Over ten turns the oracle reaches 4.9, lazy replies at most 2.5, clever ones at most 3."""
    table = calibration(personas, turns=10)
    assert table["oracle"] >= 4.9
    for lazy in ("empty", "constant", "echo", "generic", "varied generic"):
        assert table[lazy] <= 2.5, lazy
    for clever in ("edited echo", "keywords", "everything", "repeat"):
        assert table[clever] <= 3.0, clever
    assert table["generic"] < table["relevant"] < table["oracle"]


def test_one_guessed_fact_spoils_a_perfect_reply():
    """At most 1 + 4 * 0.3, as long as there is a fact left to guess."""
    for someone in (*TRAIN[:15], *BENCHMARK[:15]):
        dialogue, scores = play(someone, "guesser", 10)
        for turn, value in enumerate(scores):
            known = {belief.id for belief in shown(someone, dialogue[: 2 * turn + 1])}
            if any(item.id not in known for item in someone.facts):
                assert value <= 2.2 + 1e-9


def test_oracle_holds_its_level_at_every_turn():
    rows = [play(someone, "oracle", 12)[1] for someone in (*TRAIN[:15], *BENCHMARK[:15])]
    for turn in zip(*rows, strict=True):
        assert sum(turn) / len(turn) >= 4.9


def test_responder_follows_the_interface():
    someone = TRAIN[0]
    dialogue = opening(someone)
    answers = asyncio.run(ScriptedResponder(someone).replies(dialogue, None, 3, 7))
    assert len(answers) == 3
    assert answers == asyncio.run(ScriptedResponder(someone).replies(dialogue, None, 3, 7))
    with pytest.raises(InputError, match="strategy is 'clever'"):
        ScriptedResponder(someone, "clever")


def test_copied_share_by_hand():
    source = "I keep two goats behind the house"
    assert copied_share(source, source) == 1.0
    assert copied_share("You keep two goats behind the shed", source) == pytest.approx(5 / 7)
    assert copied_share("Goats keep the neighbours busy", source) == 0.0  # single words are no copy
    assert copied_share("", source) == 0.0

"""The scripted judge: range, symmetry, what it may look at, and the scale as lazy and perfect responders meet it."""

import asyncio
import functools
import math
from itertools import pairwise
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message, Persona
from data_gen.text import copied_grams, copied_share, gram_set
from data_gen.world.facts import SPLITS, by_id, facts_of
from data_gen.world.inducer import shown
from data_gen.world.judge import TEMPERATURE, ScriptedJudge, assess, preference
from data_gen.world.oracle import oracle_reply
from data_gen.world.personas import Size, scripted_personas
from data_gen.world.responders import Curves, ScriptedResponder, calibration, line_of, play
from data_gen.world.style_table import PASSIVE
from data_gen.world.styles import BY_ID, styles_of
from data_gen.world.user import write_message

TRAIN = scripted_personas("train", 20, 30, 1, pairings=1)
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
                *(i for i in other.traits if i.id.partition("@")[0] not in seen | known),
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
    dialogue = play(someone, "oracle", 11)[0][:-1]
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
    values = [parts.value for row in first for parts in row]
    mean = sum(values) / len(values)
    assert 2.0 <= mean <= 3.7
    assert len({round(value, 2) for value in values}) >= 10
    assert min(values) < 2.0 < 3.5 < max(values)


@functools.cache
def tables(split):
    return calibration(TRAIN if split == "train" else BENCHMARK[::2], turns=10)


@pytest.mark.parametrize("split", SPLITS)
def test_calibration(split):
    """Over ten turns the oracle reaches 4.9 on `shown`; lazy replies have at most 2.5 on either scale, clever ones at
    most 3. A relevant reply that fits nobody stays below 2.5 on `persona`."""
    table = {name: Curves(*map(fmean, curves)) for name, curves in tables(split).items()}
    assert table["oracle"].shown >= 4.9
    for scale in Curves._fields:
        mean = {name: getattr(found, scale) for name, found in table.items()}
        for lazy in ("empty", "constant", "echo", "generic", "varied generic"):
            assert mean[lazy] <= 2.5, (lazy, scale)
        for clever in ("edited echo", "keywords", "everything", "repeat"):
            assert mean[clever] <= 3.0, (clever, scale)
        assert mean["generic"] < mean["relevant"] < mean["half oracle"] < mean["oracle"]
    assert table["relevant"].persona <= 2.5


def test_persona_scale_by_hand():
    """Four traits, one shown and met; of the others the reply meets one. Style 1 on `shown`, 1/2 on `persona`. Content
    0.75: 1 + 4 (1 / 4 + 0.75 / 4 + 0.75 / 2) = 4.25, and 1 + 4 (0.5 / 4 + 0.75 / 4 + 0.375 / 2) = 3."""
    traits = ("energy.calm", "emoji.emoji", "figures.digits", "question.none")
    someone = Persona(
        id="p",
        profile="p",
        personality="s",
        facts=(by_id()["music.choir"].item(),),
        traits=tuple(BY_ID[id].item() for id in traits),
    )
    dialogue = [Message(role="user", content="So it goes. I sing in a choir, right at the back. That is all I do.")]
    parts = assess(someone, dialogue, "The choir is fine.")
    assert (parts.styles, sum(parts.all_styles.values())) == ({"energy.calm": 1.0}, 2.0)
    assert (parts.value, parts.persona_value) == (pytest.approx(4.25), pytest.approx(3.0))
    verdict = score(someone, dialogue, "The choir is fine.")
    assert (verdict.value, verdict.persona) == (parts.value, parts.persona_value)


def test_a_plain_reply_meets_few_traits_of_a_benchmark_persona():
    """At most one trait in five is one that plain sentences meet; a neutral reply meets hardly any other."""
    shares = []
    for someone in BENCHMARK:
        assert sum(style.id in PASSIVE for style in styles_of(someone)) <= len(someone.traits) // 5
        _, scores = play(someone, "relevant", 10)
        shares += [fmean(parts.all_styles.values()) for parts in scores]
    assert fmean(shares) <= 0.3


def test_one_guessed_fact_spoils_a_perfect_reply():
    """At most 1 + 4 * 0.3, as long as there is a fact left to guess."""
    for someone in (*TRAIN[:15], *BENCHMARK[:15]):
        dialogue, scores = play(someone, "guesser", 10)
        for turn, parts in enumerate(scores):
            known = {belief.id for belief in shown(someone, dialogue[: 2 * turn + 1])}
            if any(fact.id not in known for fact in facts_of(someone)):
                assert parts.value <= 2.2 + 1e-9


def test_oracle_holds_its_level_and_rises_with_what_is_shown():
    """4.9 on `shown` in every turn. On `persona` the style is at least (shown / all), and in the last turn all has
    shown."""
    for turn in zip(*(play(someone, "oracle", 12)[1] for someone in (*TRAIN[:15], *BENCHMARK[::2])), strict=True):
        assert fmean(parts.value for parts in turn) >= 4.9
        for parts in turn:
            assert sum(parts.all_styles.values()) >= 0.85 * len(parts.styles)
    assert fmean(parts.persona_value for parts in turn) >= 4.9
    curve = tables("benchmark")["oracle"].persona
    assert all(later > earlier for earlier, later in pairwise(curve[:8]))
    slope, r2 = line_of(curve)
    assert slope > 0.2
    assert r2 >= 0.9


def test_line_of_by_hand():
    """Through 1, 2, 4: slope (4 - 1) / 2, mean 7/3, residuals 1/6, -1/3, 1/6 of a variance sum 14/3."""
    slope, r2 = line_of([1.0, 2.0, 4.0])
    assert (slope, r2) == (pytest.approx(1.5), pytest.approx(1 - (1 / 6) / (14 / 3)))
    assert line_of([3.0, 3.0]) == (0.0, 1.0)


@pytest.mark.parametrize("count", [4, 7, 10])
def test_oracle_fits_any_combination_that_goes_together(count):
    """Including brief users with ten traits; in every turn of a dialogue in which all has shown."""
    personalities = scripted_personas("benchmark", 1, 25, 3, size=Size((8, 8), (count, count), 0.0))
    values = [parts.value for someone in personalities for parts in play(someone, "oracle", 10)[1]]
    assert fmean(values) >= 4.97
    assert fmean(value > 5.0 - 1e-9 for value in values) >= 0.97


def test_an_oracle_without_full_skill_misses_its_share():
    """With skill s each shown trait is met with probability s: of 30 personas in ten turns about as many."""
    for skill in (0.0, 0.4, 0.8):
        fits = []
        for someone in BENCHMARK:
            dialogue, _ = play(someone, "oracle", 10)
            for end in range(1, 20, 2):
                reply = oracle_reply(someone, dialogue[:end], 0, skill)
                assert reply == oracle_reply(someone, dialogue[:end], 0, skill)
                fits += assess(someone, dialogue[:end], reply).styles.values()
        assert fmean(fits) == pytest.approx(skill, abs=0.1)


def test_oracle_speaks_in_the_sentences_of_its_split():
    """Replies made of training sentences are told from those made of the benchmark's by their runs of five words."""
    replies = {}
    for split in SPLITS:
        replies[split] = []
        for someone in BENCHMARK[::3]:
            dialogue, _ = play(someone, "oracle", 10)
            replies[split] += [oracle_reply(someone, dialogue[:end], 0, split=split) for end in range(1, 20, 2)]
    trained = gram_set(message.content for someone in TRAIN for message in play(someone, "oracle", 10)[0][1::2])
    share = {split: fmean(copied_grams(text, trained) for text in texts) for split, texts in replies.items()}
    assert share["benchmark"] <= 0.01
    assert share["train"] >= 0.15


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


@given(st.lists(st.sampled_from("abcdefg"), max_size=12), st.lists(st.sampled_from("abcdefg"), max_size=12))
def test_a_harmless_copy_needs_no_closer_look(left, right):
    """The shortcut gives 0 only where the exact share is no more than `harmless`."""
    text, source = " ".join(left), " ".join(right)
    exact = copied_share(text, source)
    assert copied_share(text, source, 0.5) in ([exact] if exact > 0.5 else [exact, 0.0])


def test_the_oracle_answers_a_user_that_names_no_fact():
    """As a model that plays the user may: with a word of its message, or with what it has told before."""
    someone = TRAIN[0]
    stray = [Message(role="user", content="The umbrella was in the hallway.")]
    assert "umbrella" in oracle_reply(someone, stray).lower()
    assert oracle_reply(someone, [Message(role="user", content="So what?")])
    told = [*opening(someone), Message(role="assistant", content="Quite."), *stray]
    assert any(fact.topic in oracle_reply(someone, told) for fact in facts_of(someone))

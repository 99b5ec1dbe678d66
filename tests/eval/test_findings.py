"""What the benchmark found: differences over common cases, criteria, extremes, worked by hand."""

import pytest

from aloe_jax.errors import InputError
from aloe_jax.run.manifest import Manifest
from aloe_jax.tree.schema import Conversation, Item, Node, Persona, Score
from eval.benchmark.metrics import metrics
from eval.benchmark.scores import ScoreRecord
from eval.report.findings import (
    behaviour,
    check_same_users,
    common,
    criteria,
    difference,
    extremes,
    holding,
    said,
    typical,
)
from eval.report.names import is_control, ordered, palette, styles, words
from eval.report.reading import ModelResult


def result(levels, persona=None, texts=("one two", "three")):
    """Scores by case (its profile, one personality) and turn, and dialogues with the criterion `style` = score / 5."""
    records = [
        ScoreRecord(case=case, profile=case, personality="q", turn=k, score=score, score_persona=persona)
        for case, scores in levels.items()
        for k, score in enumerate(scores, start=1)
    ]
    trees = [dialogue(case, scores, texts) for case, scores in levels.items()]
    return ModelResult(tuple(records), metrics(records, resamples=10), tuple(trees))


def dialogue(case, scores, texts=("one two", "three"), facts=()):
    nodes, parent = [], None
    for k, score in enumerate(scores):
        style = None if score is None else score / 5
        given = (Score(judge="j", criterion="overall", value=score), Score(judge="j", criterion="style", value=style))
        nodes.append(Node(id=f"u{k}", parent=parent, role="user", text="hm?"))
        nodes.append(Node(id=f"a{k}", parent=f"u{k}", role="assistant", text=texts[k], scores=given))
        parent = f"a{k}"
    persona = Persona(id=case, profile=case, personality="q", facts=facts)
    return Conversation(id=case, persona=persona, nodes=tuple(nodes), path=tuple(node.id for node in nodes))


BASE = {"a": (1.0, 1.0), "b": (2.0, 2.0), "c": (3.0, 3.0)}


def test_a_difference_is_over_the_cases_that_both_have():
    """a: +2 and +2, b: 0 and +1; case c is in one result only. The mean is 5 / 4."""
    first, second = result({"a": (3.0, 3.0), "b": (2.0, 3.0)}), result(BASE)
    found = difference(first, second, "shown")
    assert (found.cases, found.average.estimate, found.IR.estimate) == (2, 1.25, 0.5)
    assert difference(first, second, "persona") is None
    assert difference(first, result({"z": (1.0, 1.0)}), "shown") is None
    assert common([first, second]) == {"a", "b"}


def test_extremes_are_the_largest_differences_first_and_never_both():
    first = result({"a": (3.0, 3.0), "b": (2.0, None), "c": (1.0, 2.0)})  # +2, 0 (turn 2 unscored), -1.5
    wins, losses = extremes(first, result(BASE), "shown", 5)
    assert wins == [("a", 2.0)]
    assert losses == [("c", -1.5)]
    assert extremes(first, result(BASE), "shown", 0) == ([], [])
    assert extremes(first, result(BASE), "persona", 5) == ([], [])
    assert typical(first, result(BASE)).case == "b"  # the mean is 1/6
    assert typical(first, ModelResult()) is None


def test_criteria_and_words_are_means_over_replies():
    """Style: (1 + 1 + 2 + 2 + 3 + 3) / 6 / 5 = 0.4. Words per reply: (2 + 1) / 2; no run of four words repeats."""
    found = criteria(result(BASE))
    assert list(found) == ["style"]
    assert found["style"].value == pytest.approx(0.4)
    measured = behaviour(result(BASE))
    assert measured["words"].value == 1.5
    assert measured["questions"].value == 0
    assert "referred" not in measured  # not of the scripted world
    assert behaviour(ModelResult()) == criteria(ModelResult()) == {}


def test_every_turn_held_and_decay():
    held, decay = holding(result({"a": (4.0, 5.0), "b": (4.0, 3.0)}), "shown")
    assert (held.value, decay) == (0.5, None)
    assert holding(result(BASE), "persona") == (None, None)


def test_a_replayed_reply_is_not_of_the_model():
    tree = dialogue("a", (1.0,))
    stored = Node(id="s", parent="u0", role="assistant", text="stored", condition="stored")
    messages = said(tree.model_copy(update={"nodes": (*tree.nodes, stored)}))
    assert [message.content for message in messages] == ["hm?", "one two"]


def test_users_must_be_the_same():
    one, other = result(BASE), result(BASE)
    check_same_users([("one", one), ("other", other)])
    changed = dialogue("b", (1.0, 1.0), facts=(Item(id="f", text="has a cat"),))
    with pytest.raises(InputError, match="case 'b' has another persona in 'other' than in 'one'"):
        check_same_users([("one", one), ("other", ModelResult(other.scores, other.metrics, (changed,)))])
    seeded = [ModelResult(one.scores, manifest=Manifest("benchmark/base", seed=seed)) for seed in (0, 1)]
    with pytest.raises(InputError, match="users of seed 1 and 'one' of seed 0: the cases are not the same"):
        check_same_users([("one", seeded[0]), ("other", seeded[1])])


def test_names_have_an_order_words_and_styles():
    names = ordered(["zoo", "preference+no_history", "oracle", "sft", "base", "preference", "a+b"])
    assert names == ["base", "sft", "preference", "a+b", "zoo", "oracle", "preference+no_history"]
    assert [words(name) for name in names[1:4]] == ["SFT", "preference", "a+b"]
    assert words("sft+no_history") == "SFT, no history"
    assert [is_control(name) for name in ("oracle", "base+oracle", "no_history", "base+x")] == [
        True,
        True,
        False,
        False,
    ]
    style = styles(names)
    assert [style[name].css for name in ("sft", "zoo", "oracle")] == ["sft", "other1", "oracle"]
    assert len(set(palette(21))) == 21

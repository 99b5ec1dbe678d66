"""A panel of judges counts as one: means of those that answer, and what each of them said beside them."""

import asyncio

import pytest

from aloe_jax.errors import InputError
from aloe_jax.serve.client.call_errors import FailedCallError, RefusedCallError
from data_gen.players.panel import Panel
from data_gen.players.player import alike_panel, one_family, self_preference
from data_gen.players.settings import JudgeSettings
from data_gen.roles import Comparison, Verdict
from eval.benchmark.dialogues import scores_of
from helpers.plain_roles import PERSONA


class Says:
    """A judge with set verdicts; an error is raised."""

    def __init__(self, name, verdict=None, comparison=None):
        self.name, self.verdict, self.comparison = name, verdict, comparison

    async def score(self, persona, dialogue, reply, revealed=None):
        return self._given(self.verdict)

    async def prefer(self, persona, dialogue, first, second, revealed=None):
        return self._given(self.comparison)

    def _given(self, what):
        if isinstance(what, Exception):
            raise what
        return what


def scored(*verdicts):
    panel = Panel(tuple(Says(f"j{number}", each) for number, each in enumerate(verdicts)))
    return asyncio.run(panel.score(PERSONA, [], "a"))


def compared(*comparisons):
    panel = Panel(tuple(Says(f"j{number}", comparison=each) for number, each in enumerate(comparisons)))
    return asyncio.run(panel.prefer(PERSONA, [], "a", "b"))


def test_the_score_is_the_mean_of_those_that_answered():
    one = Verdict(4.0, {"style": 1.0}, calls=("a",), persona=2.0)
    found = scored(one, Verdict(3.0, {"style": 0.5, "tact": 1.0}, calls=("b",)), Verdict(None))
    assert (found.value, found.persona, found.calls) == (3.5, 2.0, ("a", "b"))
    assert found.criteria == {"style": 0.75, "tact": 1.0}
    assert list(found.members) == ["j0", "j1", "j2"]
    assert found.members["j0"] == one
    assert scored(Verdict(None), Verdict(None)).value is None


def test_the_scores_of_every_judge_are_kept_beside_the_panels():
    found = scored(Verdict(4.0, {"style": 1.0}, persona=2.0), Verdict(None))
    scores = scores_of(found, "panel", empty=False)
    assert [(score.judge, score.criterion, score.value) for score in scores] == [
        ("panel", "overall", 4.0),
        ("panel", "persona", 2.0),
        ("panel", "style", 1.0),
        ("j0", "overall", 4.0),
        ("j0", "persona", 2.0),
        ("j0", "style", 1.0),
        ("j1", "overall", None),
    ]
    assert {score.value for score in scores_of(found, "panel", empty=True) if score.criterion == "overall"} == {1.0}


def test_a_judge_whose_orders_disagree_abstains():
    sure, unsure = Comparison(0.8, 0.6, ("a",)), Comparison(0.9, 0.2, ("b",))
    found = compared(unsure, sure, None)
    assert (found.shown_first, found.shown_second, found.inconclusive) == (0.8, 0.6, False)
    assert found.calls == ("b", "a")
    assert found.members == {"j0": unsure, "j1": sure, "j2": None}
    assert compared(sure, Comparison(0.2, 0.4)).p == pytest.approx(0.5)


def test_opposite_place_biases_do_not_add_up_to_a_preference():
    """The means of (0.9, 0.2) and (0.1, 0.9) are (0.5, 0.55), a preference that no judge has."""
    assert compared(Comparison(0.9, 0.2), Comparison(0.1, 0.9)).inconclusive
    assert compared(None, None) is None


def test_a_refusal_is_no_answer_and_a_failure_is_one():
    refused = RefusedCallError("filtered", "content_filter")
    assert scored(Verdict(4.0), refused).value == 4.0
    assert compared(refused, Comparison(0.8, 0.6)).members["j0"] is None
    with pytest.raises(RefusedCallError):
        scored(refused, refused)
    with pytest.raises(FailedCallError):
        scored(Verdict(4.0), FailedCallError("500", "500"))


def test_families_of_a_panel():
    one = {"user": "Qwen/Qwen3-8B", "responder": "Qwen/Qwen2.5-7B", "judge": "qwen3-32b"}
    assert "family 'qwen'" in one_family({**one, "judge:qwen3-4b": "qwen3-4b"})
    assert one_family({**one, "judge:google/gemma-3": "google/gemma-3"}) is None
    panel = {"judge": "google/gemma-3", "judge:Qwen/Qwen3-32B": "Qwen/Qwen3-32B"}
    assert "'Qwen/Qwen3-32B'" in self_preference(panel, "Qwen/Qwen2.5-0.5B")
    assert self_preference(panel, "meta-llama/Llama-3-8B") is None
    assert self_preference({}, "Qwen/Qwen2.5-0.5B") is None  # scripted
    assert alike_panel(panel) is None
    assert alike_panel({"judge": "google/gemma-3"}) is None
    assert "all 2 judges of the panel are of the family 'qwen'" in alike_panel({**panel, "judge": "qwen3-4b"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"panel": ("http://h/v1",)}, "panel: 'http://h/v1' names no model"),
        ({"panel": ("http://h/v1#a", "http://g/v1#a")}, "panel: 'a' judges twice"),
        ({"panel": ("http://h/v1#a",), "model": "a"}, "panel: 'a' judges twice"),
        ({"panel": ("http://user:key@h/v1#a",)}, "environment variable"),
        ({"panel": ("http://h/v1#a",), "player": "scripted"}, "panel: a scripted judge has none"),
        ({"preset": "robust", "player": "scripted"}, "preset: a scripted judge has none"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(InputError, match=message) as caught:
        JudgeSettings(**{"player": "model", **settings})
    assert "key@" not in str(caught.value)

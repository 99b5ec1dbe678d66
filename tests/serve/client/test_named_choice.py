"""What judges say instead of a bare grade, from public reports, and what of it is a grade.

FastChat's "[[5]]" beside "7/10" (sbintuitions/flexeval#237), grades beyond the scale (IBM/unitxt#1960,
petersimmons1972/proving-ground#7), another number first (OpenAgentHQ/openagent-eval#74, truera/trulens#862), two grades
at once (argilla-io/distilabel#55).
"""

import pytest

from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.constraints import chosen, probabilities

GRADES, PAIR = tuple("12345"), tuple("12")

FOURS = ["[[4]]", "Rating: [[4]]", "4/5", "Score: 4/5.", "**4** / 5", "4 out of 5 stars", "4 (out of 5)", "4.0", "- 4"]
FOURS += ['```json\n{"score": 4, "reason": "it fits 3 traits"}\n```', "<score>4</score>", "Overall: 4", "4 stars"]
FOURS += ["4 because it fits", "4\n\n1. Style: warm.\n2. Content: close.", "4. It fits 3 of 5 traits.", "4: mostly"]

OTHER_SCALE = ["[[10]]", "8/10", "4/10", "4 / 10", "4 out of 10", "4 (out of 10)", "**4** / 10", "4%", "4/5/5"]
SIGNED = ["-1", "Score: -2", "<4", "≥4", ".5"]
BETWEEN = ["4–5", "4 — 5", "3 ~ 4", "3½", "3 1/2", "4+", "3 and a half", "3 plus", "3 (maybe 4)", "4.05", "4 .5"]
FIRST_OF_SEVERAL = ["4 5", "4\n5", '{"score": 4, "score": 2}', "4, 4, 5"]
COUNTED = [
    "5 reasons why this is a 2",
    "2 of the 5 traits are met. Score: 3",
    "4 points off, so 1",
    "1 is too low, so 2",
]
LISTS = ["1. Style: it fits.\n2. Content: it does not.", "1) Style: good\n2) Content: bad\nRating: 3"]
LISTS += ["1. The style fits. Score: 4"]
TAKEN_BACK = ["5 - no wait, 2", "5? No, 2.", "5, as a first guess. Final score: 3"]


@pytest.mark.parametrize("text", FOURS)
def test_a_grade_is_read_whatever_stands_around_it(text):
    assert chosen(text, GRADES) == "4"


@pytest.mark.parametrize("text", [*OTHER_SCALE, *SIGNED, *BETWEEN, *FIRST_OF_SEVERAL, *COUNTED, *LISTS, *TAKEN_BACK])
def test_a_number_that_may_be_no_grade_is_not_read(text):
    assert chosen(text, GRADES) is None
    assert probabilities(Answer(text), GRADES) is None


@pytest.mark.parametrize(
    "text", ["Reply 1 is better than reply 2", "1, as reply 2 is curt", "Reply 1 wins.", "1 - warm"]
)
def test_a_preference_is_read_with_its_reason(text):
    assert chosen(text, PAIR) == "1"


@pytest.mark.parametrize(
    "text",
    [
        "Reply 1 is worse than reply 2",
        "Reply 1 is not better",
        "Reply 1 is better in style, but reply 2 is better",
        "Reply 1: warm. Reply 2: curt.",
        "**Reply 1:** it listens.\n\n**Reply 2:** it does not.\n\nAnswer: 2",
        "Response 1 is friendly. I choose 2",
        "1 < 2",
        "1 vs. 2",
        "1: 4/10, 2: 7/10",
    ],
)
def test_the_reply_that_is_named_first_need_not_be_preferred(text):
    assert chosen(text, PAIR) is None


def test_a_list_that_was_cut_off_is_no_grade():
    """A whole "1. It grates." is a 1; cut off, it may have gone on with "2."."""
    text = "1. The manner suits"
    assert chosen(text, GRADES) == "1"
    assert probabilities(Answer(text), GRADES)["1"] == 1.0
    assert probabilities(Answer(text, finish_reason="length"), GRADES) is None
    assert probabilities(Answer("4.", finish_reason="length"), GRADES)["4"] == 1.0

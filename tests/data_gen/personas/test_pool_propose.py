"""What is asked of a model, and what can be read out of its answer however it misbehaves."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_gen.personas.attributes import draw_attributes
from data_gen.personas.entry import make_entry, read_seeds
from data_gen.personas.propose import parse_proposals, proposal_messages, proposal_schema

ONE = tuple(f"They keep hen number {number}." for number in range(1, 9))
TWO = tuple(f"Their boat number {number} leaks." for number in range(1, 10))
ANSWER = json.dumps({"people": [{"items": ONE}, {"items": TWO}]})
NUMBERED = "\n".join(f"{number}. {item}" for number, item in enumerate(ONE, start=1))
BULLETS = "\n".join(f"- {item}" for item in TWO)


def numbered(items, form="{}. {}", between="\n"):
    return between.join(form.format(number, item) for number, item in enumerate(items, start=1))


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        json.dumps({"people": [{"items": ONE}, {"items": TWO}]}, indent=2),
        f"Here you are:\n```json\n{ANSWER}\n```\nShall I go on?",
        f"```\n{ANSWER}\n```",
        f'<think>Perhaps {{"people": [{{"items": ["Not this."]}}]}}?</think>{ANSWER}',
        json.dumps([ONE, TWO]),
        json.dumps([{"items": ONE}, {"items": TWO}]),
        json.dumps({"items": ONE}) + "\n" + json.dumps({"items": TWO}),
        json.dumps({"profiles": [{"name": "Ana", "facts": ONE}, {"name": "Ben", "facts": TWO}]}),
        json.dumps({"people": [{"items": [{"id": n, "text": t} for n, t in enumerate(who)]} for who in (ONE, TWO)]}),
        json.dumps({"people": [{"items": [f"{n}. {t}" for n, t in enumerate(who, 1)]} for who in (ONE, TWO)]}),
        ANSWER[:-2] + ', {"items": ["They keep one", "They ke',  # cut off
        ANSWER.replace("hen number 1.", "hen\nnumber 1."),  # a raw line break in a string
        f"Person 1:\n{numbered(ONE)}\n\nPerson 2:\n{numbered(TWO)}",
        f"{numbered(ONE)}\n{numbered(TWO)}",
        f"{numbered(ONE, '{}) {}')}\n\n{numbered(TWO, '{}: {}')}",
        numbered(ONE, "**{}.** {}") + "\n### Second\n" + numbered(TWO, "* {1}"),
        numbered(ONE, "- {1}") + "\n\n" + numbered(TWO, "- {1}"),
        numbered(ONE, between="\n\n") + "\n\n" + numbered(TWO, between="\n\n"),
        "1. The first one\n" + numbered(ONE, "   - {1}") + "\n2. The second one\n" + numbered(TWO, "   - {1}"),
        numbered(ONE, '{}. "{}"') + "\n---\n" + numbered(TWO, "• {1}"),
    ],
)
def test_both_people_are_found(text):
    assert parse_proposals(text) == [ONE, TWO]


@pytest.mark.parametrize(
    "text", ["", "I'm sorry, but I can't help with that.", "{", '{"people": []}', "null", "<think>hmm", "- one bullet"]
)
def test_nothing_is_found(text):
    assert parse_proposals(text) == []


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 50_000, "[1," * 10_000 + BULLETS, "{[" * 9_000, "- \n" * 1000, "1. " * 999]
)
def test_hostile_answers_do_not_raise(text):
    for items in parse_proposals(text):
        assert all(isinstance(item, str) for item in items)


@given(st.text(alphabet='{}[]",:\\- \n1.*ab`', max_size=200) | st.text(max_size=200))
def test_never_raises(text):
    for items in parse_proposals(text):
        assert items == tuple(items)
        assert all(item == item.strip() != "" for item in items)


def test_the_schema_asks_for_that_many_people_of_eight_to_ten_items():
    schema = proposal_schema("profile", 2)
    assert (schema["required"], schema["additionalProperties"]) == (["people"], False)
    people = schema["properties"]["people"]
    assert (people["minItems"], people["maxItems"]) == (2, 2)
    items = people["items"]["properties"]["items"]
    assert (items["minItems"], items["maxItems"], items["items"]) == (8, 10, {"type": "string"})
    assert (people["items"]["required"], people["items"]["additionalProperties"]) == (["items"], False)


@pytest.mark.parametrize("kind", ["profile", "personality"])
def test_the_message_shows_examples_and_the_notes_of_each(kind):
    attributes = [draw_attributes(kind, 0, number) for number in range(3)]
    examples = read_seeds(kind)[:2]
    (message,) = proposal_messages(kind, attributes, examples, 3)
    assert message.role == "user"
    assert all(item in message.content for example in examples for item in example.items)
    assert all(value in message.content for drawn in attributes for value in drawn.values())
    assert "Invent 3 more" in message.content
    assert proposal_messages(kind, attributes, examples, 3) == [message]


def test_what_an_entry_says_is_no_template():
    entry = make_entry("profile", ("They wrote {{ 7 * 7 }} {% raw %} on a wall.",), {}, "file")
    (message,) = proposal_messages("profile", [{"work": "{{ people }}"}], [entry], 1)
    assert "{{ 7 * 7 }} {% raw %}" in message.content
    assert "{{ people }}" in message.content
    assert "49" not in message.content

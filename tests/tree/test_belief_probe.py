"""The answers of probes: one text per belief, and what is no answer."""

import pytest

from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.requests import Constraint
from aloe_jax.tree.probe import (
    MAX_CLAIMS,
    MAX_ITEM,
    Claim,
    answer_text,
    probe_answer,
    probe_question,
    read_claims,
    schema,
)
from aloe_jax.tree.schema import Conversation, Node
from helpers.tree_samples import tokenizer

CLAIMS = (Claim("pet.mare", 2), Claim("question.none", 1), Claim("job.nurse", 2))
TEXT = '{"known":[{"item":"question.none","turn":1},{"item":"pet.mare","turn":2},{"item":"job.nurse","turn":2}]}'


def test_an_answer_is_sorted_by_turn_and_read_back():
    assert answer_text(CLAIMS) == TEXT
    assert read_claims(TEXT) == (CLAIMS[1], CLAIMS[0], CLAIMS[2])
    assert answer_text(()) == '{"known":[]}'
    assert read_claims('{"known":[]}') == ()
    assert read_claims(' {"known": [{"turn": 1, "item": "keeps ünusual bees"}]}\n') == (Claim("keeps ünusual bees", 1),)


def test_of_two_claims_about_one_item_the_first_counts():
    assert read_claims(answer_text([Claim("a", 1), Claim("b", 1), Claim("a", 2)])) == (Claim("a", 1), Claim("b", 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I have learned that you like tea.",
        TEXT[:-1],
        TEXT + " That is all.",
        "[]",
        '{"known":{}}',
        '{"known":["pet.mare"]}',
        '{"known":[],"more":1}',
        '{"known":[],"known":[]}',
        '{"known":[{"item":"pet.mare"}]}',
        '{"known":[{"item":"","turn":1}]}',
        '{"known":[{"item":3,"turn":1}]}',
        '{"known":[{"item":"pet.mare","turn":0}]}',
        '{"known":[{"item":"pet.mare","turn":true}]}',
        '{"known":[{"item":"pet.mare","turn":1.0}]}',
        '{"known":[{"item":"pet.mare","turn":1,"sure":true}]}',
        answer_text([Claim("x" * (MAX_ITEM + 1), 1)]),
        answer_text([Claim(str(number), 1) for number in range(MAX_CLAIMS + 1)]),
    ],
)
def test_other_texts_are_no_answer(text):
    assert read_claims(text) is None


@pytest.mark.parametrize("catalogue", [("question.none", "pet.mare", "job.nurse"), None])
def test_the_schema_lets_an_answer_through_and_nothing_that_is_none(catalogue):
    def taken(text, turns=2):
        matcher = Grammar(tokenizer()).matcher(Constraint.json(schema(catalogue, turns)))
        for token in tokenizer().encode(text):
            if not matcher.allowed[token // 32] >> (token % 32) & 1:
                return False
            matcher.take(token)
        return any(matcher.allowed[end // 32] >> (end % 32) & 1 for end in tokenizer().end_of_turn_ids)

    assert taken(TEXT)
    assert taken('{"known":[]}')
    assert not taken(TEXT, turns=1)
    assert not taken(TEXT[:-1])
    assert taken('{"known":[{"item":"pet.cat","turn":1}]}') == (catalogue is None)


def test_its_nodes_hang_under_a_reply():
    nodes = (
        Node(id="u1", parent=None, role="user", text="Hello."),
        Node(id="a1", parent="u1", role="assistant", text="Hi."),
        probe_question("a1"),
        probe_answer("a1", TEXT),
        probe_answer("a1", TEXT, 2),
    )
    tree = Conversation(id="one", nodes=nodes, path=("u1", "a1"))
    assert [node.id for node in tree.nodes if node.is_probe] == ["a1/probe", "a1/belief", "a1/belief2"]
    assert [node.id for node in tree.path_to("a1/belief2")] == ["u1", "a1", "a1/probe", "a1/belief2"]

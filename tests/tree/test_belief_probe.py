"""Probes: one text per belief, what is no answer, and their place beside the dialogue."""

import jax
import numpy as np
import pytest

from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.requests import Constraint
from aloe_jax.errors import InputError
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.objectives.turns import by_turn, turn_weight
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.probe import (
    MAX_CLAIMS,
    MAX_ITEM,
    QUESTION,
    Claim,
    answer_text,
    probe_answer,
    probe_question,
    read_claims,
    schema,
)
from aloe_jax.tree.row import Capacity
from aloe_jax.tree.schema import PROBE, Conversation, Node, Preference, message_of
from aloe_jax.tree.supervision import supervision
from aloe_jax.tree.trie import build_trie, dialogue_ids
from helpers.tree_samples import chat_format, tokenizer

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


def probed(*more, **fields):
    """Two turns with two replies each, the first one preferred, and a probe with two answers after the second."""
    nodes = (
        Node(id="u1", parent=None, role="user", text="Hello."),
        Node(id="a1", parent="u1", role="assistant", text="Hi."),
        Node(id="b1", parent="u1", role="assistant", text="Yes?"),
        Node(id="u2", parent="a1", role="user", text="I keep bees."),
        Node(id="a2", parent="u2", role="assistant", text="Bees!"),
        Node(id="b2", parent="u2", role="assistant", text="Oh."),
        probe_question("a2"),
        probe_answer("a2", TEXT),
        probe_answer("a2", answer_text(()), 2),
        *more,
    )
    pairs = (Preference(chosen="a1", rejected="b1"), Preference(chosen="a2", rejected="b2"))
    return Conversation(
        **{"id": "one", "nodes": nodes, "preferences": pairs, "path": ("u1", "a1", "u2", "a2")} | fields
    )


def test_a_probe_is_beside_the_dialogue():
    tree = probed()
    assert [node.id for node in tree.nodes if node.is_probe] == ["a2/probe", "a2/belief", "a2/belief2"]
    assert [node.id for node in tree.path_to("a2/belief2")] == ["u1", "a1", "u2", "a2", "a2/probe", "a2/belief2"]
    assert [node.id for node in tree.dialogue] == ["u1", "a1", "b1", "u2", "a2", "b2"]
    assert [node.id for node in tree.replies()] == ["a1", "b1", "a2", "b2"]


@pytest.mark.parametrize(
    ("more", "fields", "why"),
    [
        ((Node(id="u3", parent="a2/belief", role="user", text="So."),), {}, "has the probe 'a2/belief' above it"),
        ((probe_answer("a2", "", 3).model_copy(update={"label": True}),), {}, "the probe 'a2/belief3' has a label"),
        ((), {"path": ("u1", "a1", "u2", "a2", "a2/probe")}, "path names the probe 'a2/probe'"),
        ((), {"preferences": (Preference(chosen="a2/belief", rejected="a2/belief2"),)}, "names the probe 'a2/belief'"),
    ],
)
def test_nothing_takes_it_for_a_turn(more, fields, why):
    with pytest.raises(ValueError, match=why):
        probed(*more, **fields)


def test_its_answers_are_trained_on_and_cost_their_own_tokens():
    tree, chat = probed(), chat_format("chatml")
    trie = build_trie(tree, chat)
    [row] = fragments(tree, trie, Capacity(1024, 512, 16, 16), 0)
    assert row.turn.tolist() == [1, 1, 2, 2, 0, 0]
    assert row.group.tolist() == [0, 0, 1, 1, 2, 2]
    assert [row.weight[row.reply == reply].max().item() for reply in range(6)] == [1, 0, 1, 0, 1, 1]
    assert row.label.tolist() == [1, -1, 1, -1, 0, 0]
    assert row.pairs.tolist() == [[0, 1], [2, 3]]
    without = build_trie(tree.model_copy(update={"nodes": tree.dialogue}), chat)
    reply, first, second = (trie.path(trie.replies[place].piece) for place in (2, 4, 5))
    assert first[:-1] == second[:-1]
    assert first[: len(reply)] == reply
    own = [token for piece in (*first[len(reply) :], second[-1]) for token in trie.pieces[piece].tokens]
    assert tokenizer().decode(own, skip_special=False).count(QUESTION) == 1
    assert trie.tree_tokens - without.tree_tokens == len(own)
    muted = tree.model_copy(
        update={"nodes": (*tree.nodes[:-1], tree.nodes[-1].model_copy(update={"flags": (PROBE, "no_loss")}))}
    )
    assert supervision(muted).weights[-2:] == [1.0, 0.0]


def test_an_answer_is_sampled_after_the_tokens_that_it_is_trained_after():
    """The ids of the replies before it are those that were sampled, not those of their text."""
    end = min(tokenizer().end_of_turn_ids)
    sampled = {"token_ids": (40, 41, end), "logprobs": (-1.0, -1.0, -1.0), "tokenizer": tokenizer().hash}
    tree, chat = probed(), chat_format("chatml")
    nodes = (node.model_copy(update=sampled) if node.id in ("a1", "a2") else node for node in tree.nodes)
    tree = tree.model_copy(update={"nodes": tuple(nodes)})
    trie = build_trie(tree, chat)
    prompt = trie.path_ids(trie.pieces[trie.replies[-1].piece].parent)
    assert dialogue_ids([message_of(node) for node in tree.path_to("a2/probe")], chat) == prompt
    assert [tuple(prompt[at : at + 3]) for at in range(len(prompt))].count((40, 41, end)) == 2


def test_a_probe_that_is_too_long_loses_turns_but_not_all():
    tree, chat = probed(), chat_format("chatml")
    trie = build_trie(tree, chat)
    longest = max(len(trie.path_ids(reply.piece)) for reply in trie.replies)
    cut = build_trie(tree, chat, longest - 1)
    assert [(reply.turn, reply.turns_cut) for reply in cut.replies] == [(1, 0), (1, 0), (2, 0), (2, 0), (0, 1), (0, 1)]
    own = len(trie.path_ids(trie.replies[-2].piece)) - len(trie.path_ids(trie.replies[2].piece))
    with pytest.raises(InputError, match=r"node 'a2/belief': .* even with all earlier turns cut"):
        build_trie(tree, chat, own + 5)


def test_it_is_in_no_turn_of_weights_and_metrics():
    settings = ObjectiveSettings("sft", turn_weights=(0.0, 0.5), turn_buckets=2)
    turn, ones = np.array([1, 2, 3, 0]), np.ones(4)
    both = jax.jit(lambda turn: (turn_weight(turn, settings), by_turn("loss", 2 * ones, ones, turn, settings)))
    weights, found = both(turn)
    assert weights.tolist() == [0.0, 0.5, 0.5, 1.0]
    assert {name: (float(total), float(weight)) for name, (total, weight) in found.items()} == {
        "loss_turn_1": (2.0, 1.0),
        "loss_turn_2": (4.0, 2.0),
    }

"""The rows of a round: the tokens that were sampled, with their ids, and what they would be given a hint."""

import dataclasses

import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.train.forward import Compute
from aloe_jax.train.policy_pass import make_policy_pass
from aloe_jax.tree.hinted import hinted_paths
from aloe_jax.tree.prune import advantaged, hinted
from aloe_jax.tree.row import Capacity
from aloe_jax.tree.schema import Belief, Conversation, Item, Message, Node, Persona, message_of
from aloe_jax.tree.trie import dialogue_ids
from data_gen.online.hints import Hints
from data_gen.online.packed import Packing, batched
from data_gen.players.prompts import shipped_prompt
from helpers.tiny import CHAT, MODEL, params, token_log_probs

CAPACITY = Capacity(512, 160, 12, 4)
POLICY = make_policy_pass(MODEL, Compute(attention="dense"))
PACKING = Packing(CHAT, CAPACITY, 400, MODEL, advantaged)
END = min(CHAT.tokenizer.end_of_turn_ids)


def sampled(text):
    """Ids that spell the text letter by letter, which the tokenizer would not."""
    ids = [token for letter in text for token in CHAT.tokenizer.encode(letter)]
    assert ids != list(CHAT.tokenizer.encode(text))
    return (*ids, END)


def reply(name, parent, text, advantage=None):
    ids = sampled(text)
    own = {"token_ids": ids, "logprobs": (-1.0,) * len(ids), "tokenizer": CHAT.tokenizer.hash}
    return Node(id=name, parent=parent, role="assistant", text=text, condition="plain", advantage=advantage, **own)


def tree(number):
    """Two turns with two replies each, of which the first go on; in the second turn a fact and a trait have shown."""
    persona = Persona(
        id=f"p{number}", profile="Has a boat.", personality="Likes rhymes.",
        facts=(Item(id="boat", text="They have a boat."), Item(id="dog", text="They have a dog.")),
        traits=(Item(id="rhymes", text="They like rhymes."),),
    )  # fmt: skip
    shown = (Belief(id="rhymes", node="u1"), Belief(id="boat", node="u2"))
    nodes = (
        Node(id="u1", parent=None, role="user", text=f"Ahoy {number}!", belief=()),
        reply("a1.1", "u1", "Hello there.", 1.0),
        reply("a1.2", "u1", "Hello again.", -1.0),
        Node(id="u2", parent="a1.1", role="user", text="Where to sail?", belief=shown),
        reply("a2.1", "u2", "To the bay.", 0.5),
        reply("a2.2", "u2", "Hello from the bay.", -0.5),
    )
    return Conversation(id=f"t{number}", persona=persona, nodes=nodes, path=("u1", "a1.1", "u2", "a2.1"))


TREES = [tree(0), tree(1)]
HINTS = Hints(shipped_prompt("responder_v1.jinja"))


def dialogue(own, name):
    """The messages before a reply."""
    return [message_of(node) for node in own.path_to(name)[:-1]]


def score(rows):
    batch, used = batched(rows, 2, CAPACITY)
    return batch, np.asarray(POLICY(params(), batch, used))


def of_replies(rows, column):
    """The values of each reply's tokens, by tree and node."""
    found = {}
    for at in np.ndindex(rows.tokens.shape[:2]):
        for place in np.flatnonzero(rows.conversation[at] >= 0).tolist():
            own = TREES[int(rows.conversation[at][place])]
            name = own.nodes[int(rows.node[at][place])].id
            found[own.id, name] = column[at][rows.reply[at] == place]
    return found


def test_what_is_trained_is_what_was_sampled():
    """Targets have the ids that were sampled, and stand after those of the prompt that they were sampled after."""
    rows, _ = batched(PACKING.rows(TREES)[0], 2, CAPACITY)
    targets, sources = of_replies(rows, rows.target), of_replies(rows, rows.source)
    assert len(targets) == 8
    for own in TREES:
        for node in own.replies():
            assert targets[own.id, node.id].tolist() == list(node.token_ids)
            prompt = dialogue_ids(dialogue(own, node.id), CHAT)
            at = next(at for at in np.ndindex(rows.tokens.shape[:2]) if own.id in named(rows, at))
            last = int(sources[own.id, node.id][0])
            ends = rows.subtree_end[at]
            seen = [int(rows.tokens[at][key]) for key in range(last + 1) if ends[key] > last]
            assert seen == prompt


def named(rows, at):
    return {TREES[index].id for index in rows.conversation[at].tolist() if index >= 0}


def test_hints_are_those_of_a_responder_that_was_told():
    """Nothing has shown by the first message. The wording is that of the responder's prompt, the order that in which
    things showed."""
    found = HINTS.of(TREES[0])
    assert found == {"u2": HINTS.prompt.render("system", hint="They like rhymes. They have a boat.")}
    assert "so far: They like rhymes. They have a boat.\n" in found["u2"]


def test_token_advantages_of_two_plain_sequences():
    """log p(y | hint, path) - log p(y | path) of every token, each sequence computed by itself; replies without a hint
    are not trained on."""
    packing = dataclasses.replace(PACKING, chooses=hinted)
    given = HINTS.log_probs(TREES, packing, score)
    assert sorted(given) == [(0, 4), (0, 5), (1, 4), (1, 5)]
    rows, old = score(packing.rows(TREES, given)[0])
    found = of_replies(rows, rows.hinted_log_prob - old)
    assert sorted(found) == [("t0", "a2.1"), ("t0", "a2.2"), ("t1", "a2.1"), ("t1", "a2.2")]
    system = Message(role="system", content=HINTS.of(TREES[0])["u2"])
    for (name, reply), advantage in found.items():
        own = next(each for each in TREES if each.id == name)
        before, ids = dialogue(own, reply), list(own.node(reply).token_ids)
        plain, told = (dialogue_ids(messages, CHAT) + ids for messages in (before, [system, *before]))
        plain, told = (np.asarray(token_log_probs(params(), path))[-len(ids) :] for path in (plain, told))
        np.testing.assert_allclose(advantage, told - plain, atol=2e-5)
        assert np.abs(advantage).max() > 0.01


def test_what_cannot_be_hinted():
    short = dataclasses.replace(PACKING, longest=100)
    with pytest.raises(InputError, match=r"config\.dataset\.max_path"):
        HINTS.log_probs(TREES, short, score)
    with pytest.raises(InputError, match="which is no message of the user"):
        hinted_paths(TREES[0], {"a1.1": "Told."})
    (once,) = hinted_paths(TREES[0], {"u2": "Told."})
    with pytest.raises(InputError, match="a hint beside the system message"):
        hinted_paths(once.conversation, {"u2": "Told again."})

"""Log-probabilities of sampled replies and of scored prompts against `aloe score`, from a model folder on."""

import json
import re

import pytest

from aloe_jax.decode.requests import Request, Sampling
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.models.families import FAMILIES
from aloe_jax.run.progress import Progress
from aloe_jax.serve.local import load_engine
from aloe_jax.train.score import score_file
from aloe_jax.tree.schema import Conversation, Node, write_records
from aloe_jax.tree.trie import build_trie
from helpers import tiny_models
from helpers.family_samples import write_folder

TURNS, REPLIES, LIMIT = 4, 2, 24


def prompt_of(nodes, chat):
    """The ids before a reply to the last of the nodes."""
    reply = Node(id="reply", parent=nodes[-1].id, role="assistant", text="x")
    trie = build_trie(Conversation(id="played", nodes=(*nodes, reply)), chat)
    [piece] = [span.piece for span in trie.replies if span.node == len(nodes)]
    return tuple(trie.path_ids(trie.pieces[piece].parent))


def played(engine, chat):
    """A conversation tree of sampled replies: `REPLIES` per turn, and it goes on from the last one. Prompts have the
    ids that were sampled: the text of a random model's reply would come back as other ones."""
    nodes, last = [], None
    for turn in range(TURNS):
        user = Node(id=f"user{turn}", parent=last, role="user", text=f"Question {turn} about the old bridge?")
        nodes.append(user)
        prompt = prompt_of(nodes, chat)
        [replies] = engine.generate([Request(prompt, Sampling(max_tokens=LIMIT), seed=turn, n=REPLIES)])
        for number, reply in enumerate(replies):
            last = f"reply{turn}.{number}"
            node = Node(
                id=last,
                parent=user.id,
                role="assistant",
                text=chat.tokenizer.decode(reply.text_ids),
                token_ids=reply.token_ids,
                logprobs=reply.log_probs,
                tokenizer=chat.tokenizer.hash,
                flags=() if reply.finish_reason == "stop" else ("truncated",),
            )
            nodes.append(node)
    return Conversation(id="played", nodes=nodes)


def ancestors(tree, node):
    """The nodes on the path to `node`, without it."""
    by_id, found = {each.id: each for each in tree.nodes}, []
    while node.parent is not None:
        node = by_id[node.parent]
        found.insert(0, node)
    return found


SLOW = [pytest.param(family, marks=pytest.mark.slow) for family in ("olmo3", "phi3")]


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", *SLOW])
def test_sampled_log_probs_are_those_of_aloe_score(family, tmp_path):
    """Every turn and sibling goes on in the pages of the trunk before it. All but llama have windows, which the
    dialogue outgrows; gemma2 has caps, olmo3 amplitudes, and of phi3's heads a part rotates. 1e-4 per reply of up to 24
    tokens is the bound that the project promises."""
    config = tiny_models.variants(family, FAMILIES[family].TINY)["tiny"] | tiny_models.SCORED
    folder = write_folder(tmp_path / "model", family, config)
    assert family == "llama" or any(layer.window is not None for layer in read_chat_model(folder)[0].pattern)
    engine, chat = load_engine(str(folder), slots=2, context=512)
    tree = played(engine, chat)
    assert engine.found > engine.prefilled
    compiled, most = map(int, re.findall(r"\d+", engine.compiled))
    assert 0 < compiled <= most
    write_records(tmp_path / "trees.jsonl", [tree])
    score_file(str(folder), tmp_path / "trees.jsonl", tmp_path / "scores.jsonl", "float32", "keep", Progress())
    scores = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    replies = {node.id: node for node in tree.nodes if node.role == "assistant"}
    assert [score["node"] for score in scores] == list(replies)
    for score in scores:
        reply = replies[score["node"]]
        assert score["tokens"] == len(reply.token_ids)
        assert score["log_prob"] == pytest.approx(sum(reply.logprobs), abs=1e-4)
        asked = [node for node in tree.nodes if node.id == reply.parent]
        path = (*prompt_of([*ancestors(tree, asked[0]), *asked], chat), *reply.token_ids)
        [[echoed]] = engine.generate([Request(path, Sampling(max_tokens=0), score=True)])
        assert score["log_prob"] == pytest.approx(sum(echoed.prompt.log_probs[-len(reply.token_ids) :]), abs=1e-4)

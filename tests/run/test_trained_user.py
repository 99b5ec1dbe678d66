"""A model of the user, from real chats to conversations: converted, fine-tuned for two steps, served, played with."""

import json

import pytest

from aloe_jax.decode.engine import Engine
from aloe_jax.formats.swapped import OPENING, swapped
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.serve.server.server import Server
from aloe_jax.train.sources import model_at
from aloe_jax.tree.schema import read_trees

pytestmark = pytest.mark.slow
DEMO = ("--config=demo:debug",)
CHATS = [
    [("user", f"hi, the {thing} broke again"), ("assistant", f"Which part of the {thing}?"), ("user", "the lid, ofc")]
    for thing in ("kettle", "boiler", "mower", "radio")
]


def test_a_model_trained_on_users_plays_the_user(aloe, tiny_model, one_device, tmp_path, monkeypatch):
    """Its prompts in the game are those that it was trained on: the swapped dialogue, and no instruction."""
    monkeypatch.delenv("ALOE_API_KEY", raising=False)
    chats, users, trained, run = (tmp_path / name for name in ("chats.jsonl", "users.jsonl", "user", "run"))
    lines = ({"messages": [{"role": role, "content": text} for role, text in chat]} for chat in CHATS)
    chats.write_text("\n".join(map(json.dumps, lines)))
    assert aloe("convert", chats, f"--out={users}", "--train=user")[0] == 0
    model = f"--config.model.source={tiny_model}"
    data = (f"--config.dataset.sources.trees.path={users}", "--config.sft.epochs=1", "--config.sft.batch=2")
    code, _, errors = aloe("run", *DEMO, model, f"--workdir={trained}", "--stages=dataset,sft", *data)
    assert code == 0, errors
    steps = [json.loads(line) for line in (trained / "sft/metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 2
    assert all(step["loss"] > 0 for step in steps)

    found = model_at(str(trained / "sft"))
    config, chat = read_chat_model(found.folder)
    ends, vocab = chat.tokenizer.end_of_turn_ids, chat.tokenizer.vocab_size
    engine = Engine(config, found.load(one_device, config), slots=4, context=512, end_of_turn=ends, vocab=vocab)
    with Server(engine, chat, "people") as server:
        user = {"player": "model", "prompt": "dialogue", "base_url": server.base_url, "model": "people"}
        played = [f"--config.roles.user.{name}={value}" for name, value in (user | {"max_tokens": 8}).items()]
        code, _, errors = aloe("run", *DEMO, model, f"--workdir={run}", "--stages=personas,conversations", *played)
    assert code == 0, errors
    asked = {}
    for line in (run / "conversations/calls.jsonl").read_text().splitlines():
        call = json.loads(line)
        asked[call["id"]] = [(each["role"], each["content"]) for each in call["request"]["messages"]]
        assert call["role"] == "user"
    trees = list(read_trees(run / "conversations/trees.jsonl"))
    assert len(trees) == 2
    for tree in trees:
        turns = swapped(tree)
        said = [node for node in tree.nodes if node.role == "user"]
        assert len(said) == 2
        for node in said:
            prompt = [(each.role, each.text) for each in turns.path_to(node.id)[:-1]]
            assert asked[node.calls[0]] == prompt
            assert prompt[0] == ("user", OPENING)

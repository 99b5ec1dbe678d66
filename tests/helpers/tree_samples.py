"""Chat formats of the template fixtures, and conversation trees for the tests of the tree core."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from aloe_jax.tree.schema import Conversation, Message, Node, Preference
from aloe_jax.tree.template import ChatFormat, ChatTemplate
from aloe_jax.tree.tokenizer import Tokenizer

FIXTURES = Path(__file__).parent.parent / "fixtures"
# The begin- and end-of-sequence tokens of each family's tokenizer.
SPECIAL: Mapping[str, tuple[str | None, str]] = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "qwen2_5": (None, "<|im_end|>"),
    "qwen3": (None, "<|im_end|>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "mistral_v0_3": ("<s>", "</s>"),
    "mistral_moving": ("<s>", "</s>"),
    "gemma": ("<bos>", "<end_of_turn>"),
    "olmo": (None, "<|endoftext|>"),
    "phi4": ("<|endoftext|>", "<|im_end|>"),
}


@functools.cache
def tokenizer() -> Tokenizer:
    return Tokenizer.load(FIXTURES / "tokenizer")


def chat_format(name: str, **options: Any) -> ChatFormat:
    text = (FIXTURES / "templates" / f"{name}.jinja").read_text()
    bos, eos = SPECIAL[name]
    return ChatFormat(tokenizer(), ChatTemplate(text, bos=bos, eos=eos, name=f"{name} template", **options))


def conversation(
    *nodes: tuple[str, str | None, str, str] | Node, preferences: tuple = (), name: str = "c"
) -> Conversation:
    """A tree from (id, parent, role, text) rows."""
    full = [node if isinstance(node, Node) else Node(**dict(zip(("id", "parent", "role", "text"), node, strict=True)))
            for node in nodes]  # fmt: skip
    pairs = tuple(Preference(chosen=chosen, rejected=rejected) for chosen, rejected in preferences)
    return Conversation(id=name, nodes=tuple(full), preferences=pairs)


def aloe_tree(turns: int = 10, system: str | None = None, name: str = "aloe") -> Conversation:
    """Two replies per turn; the conversation continues from the preferred one in odd turns, from the other in even
    ones."""
    nodes, pairs, parent = [], [], None
    if system is not None:
        nodes.append(("system", None, "system", system))
        parent = "system"
    for turn in range(1, turns + 1):
        nodes.append((f"user{turn}", parent, "user", f"Question {turn} about the old bridge?"))
        nodes.append((f"good{turn}", f"user{turn}", "assistant", f"I like walk {turn} along the river."))
        nodes.append((f"poor{turn}", f"user{turn}", "assistant", f"It is a bridge, number {turn}."))
        pairs.append((f"good{turn}", f"poor{turn}"))
        parent = f"good{turn}" if turn % 2 else f"poor{turn}"
    return conversation(*nodes, preferences=tuple(pairs), name=name)


def messages(tree: Conversation, node: str) -> list[Message]:
    """The path to a node as messages."""
    return [Message(role=step.role, content=step.text) for step in tree.path_to(node)]


TEXTS = st.text(alphabet="abc de.?\n", max_size=12)


@st.composite
def trees(draw: st.DrawFn, max_turns: int = 12) -> Conversation:
    """Any tree in which users and assistants alternate: any depth and branching, equal siblings, broken-off replies,
    stored ids, and preferences among siblings."""
    nodes: list[Node] = []
    open_ends: list[str | None] = [None]  # possible parents of a user message
    if draw(st.booleans()):
        nodes.append(Node(id="s", parent=None, role="system", text=draw(TEXTS)))
        open_ends = ["s"]
    preferences = []
    for turn in range(draw(st.integers(1, max_turns))):
        user = Node(id=f"u{turn}", parent=draw(st.sampled_from(open_ends)), role="user", text=draw(TEXTS))
        nodes.append(user)
        replies = [draw(_reply(f"a{turn}.{number}", user.id)) for number in range(draw(st.integers(0, 3)))]
        nodes += replies
        open_ends += [reply.id for reply in replies]
        for chosen, rejected in itertools.pairwise(replies):
            if draw(st.booleans()):
                margin = draw(st.sampled_from([1.0, 0.5, 0.0, -0.5]))
                preferences.append(Preference(chosen=chosen.id, rejected=rejected.id, margin=margin))
    return Conversation(id="random", nodes=tuple(nodes), preferences=tuple(preferences))


@st.composite
def _reply(draw: st.DrawFn, name: str, parent: str) -> Node:
    flags = draw(st.sampled_from([(), (), ("truncated",), ("no_loss",)]))
    text = draw(TEXTS) + ("." if "truncated" in flags else "")
    stored: dict[str, Any] = {}
    if draw(st.booleans()):
        end = () if "truncated" in flags else (min(tokenizer().end_of_turn_ids),)
        body = draw(st.lists(st.integers(20, 300), min_size=1, max_size=6))
        stored = {"token_ids": (*body, *end), "tokenizer": draw(st.sampled_from([tokenizer().hash, "other"]))}
    return Node(id=name, parent=parent, role="assistant", text=text, flags=flags, **stored)

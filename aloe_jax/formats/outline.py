"""A conversation as lines of text, to see whether it was read as it was meant."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from aloe_jax.tree.schema import Conversation, Node
from aloe_jax.tree.supervision import supervision

CHARACTERS = 90  # of a message that are shown


def tree_lines(tree: Conversation) -> Iterator[str]:
    """A line per message, with its role and the beginning of its text; ✓ and ✗ mark chosen and rejected replies.

    Messages beside each other answer the same one. What follows the one with the most messages behind it stands below
    all of them, so that a long conversation is not indented; what follows another one stands behind that.
    """
    children: dict[str | None, list[Node]] = {}
    for node in tree.nodes:
        children.setdefault(node.parent, []).append(node)
    sizes: dict[str, int] = {}
    for node in reversed(tree.nodes):  # children stand behind their parents
        sizes[node.id] = 1 + sum(sizes[child.id] for child in children.get(node.id, ()))
    found = supervision(tree)
    replies, messages = len(tree.replies()), len(tree.dialogue)
    given = zip(tree.nodes, found.labels, found.weights, strict=True)
    marks = {node.id: _mark(label, weight) for node, label, weight in given}
    yield _seen(f"conversation {tree.id}: {messages} messages, {replies} replies, {len(found.pairs)} pairs")
    yield from _below(None, children, sizes, marks, "")


def _below(
    parent: str | None,
    children: dict[str | None, list[Node]],
    sizes: dict[str, int],
    marks: dict[str, str],
    indent: str,
) -> Iterator[str]:
    """What follows a message. The nesting is at most logarithmic in the size: the largest branch is not nested."""
    while below := children.get(parent, []):
        main = max(below, key=lambda node: sizes[node.id])
        for node in below:
            corner = "" if len(below) == 1 else "└ " if node is below[-1] else "├ "
            yield indent + corner + _line(node, marks)
            if node is not main:
                yield from _below(node.id, children, sizes, marks, indent + ("  " if node is below[-1] else "│ "))
        if len(below) > 1 and children.get(main.id):
            yield f"{indent}after {_seen(main.id)}:"
        parent = main.id


def _line(node: Node, marks: dict[str, str]) -> str:
    text = _seen(" ".join(node.text.split()))
    more = f"… ({len(node.text):,} characters)" if len(text) > CHARACTERS else ""
    mark = marks[node.id] if node.role == "assistant" else ""
    return f"{node.role} {_seen(node.id)}{mark}: {text[:CHARACTERS].rstrip()}{more}"


def _mark(label: float, weight: float) -> str:
    """The side of a reply in the pairs, or that it is trained on without one."""
    return " ✓" if label > 0 else " ✗" if label < 0 else " (trained on)" if weight else ""


def _seen(text: str) -> str:
    """Text without characters that a terminal obeys."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(each)[0] == "C" else each for each in text)

"""Conversations with their roles swapped: what trains a model of the user instead of one of the assistant.

A model of the user is fine-tuned on the user's turns of real dialogues (UserLM, arXiv 2510.06552). Here a user's
messages become the assistant's and the replies the user's, so that nothing else changes: the swapped conversation is an
ordinary one, whose replies are trained on. The first message of the user answers `OPENING`, unless the assistant spoke
first. System messages instruct the assistant and are left out, as are replies that no user answered, preferences,
labels and the persona.
"""

from __future__ import annotations

from aloe_jax.tree.schema import PROBE, Conversation, Node

OPENING = "Hello! How can I help you today?"  # stands before the first message, in training and when the model plays


def swapped(tree: Conversation) -> Conversation | None:
    """The conversation with swapped roles; None if no user speaks in it. Nodes keep their ids, flags are left out but
    for `no_loss` of a user's message, which an empty one has in any case: nothing is to learn silence."""
    answered: set[str] = set()
    by_id = {node.id: node for node in tree.nodes}
    kept = [node for node in tree.nodes if node.role != "system" and PROBE not in node.flags]
    for node in reversed(kept):  # children before parents
        if (node.role == "user" or node.id in answered) and node.parent is not None:
            answered.add(node.parent)
    opening = next(name for name in map("opening{}".format, ("", *range(len(by_id)))) if name not in by_id)
    nodes: list[Node] = []
    for node in kept:
        if node.role == "assistant" and node.id not in answered:
            continue
        parent = node.parent if node.parent is None or by_id[node.parent].role != "system" else None
        if node.role == "assistant":
            nodes.append(Node(id=node.id, parent=parent, role="user", text=node.text))
            continue
        if parent is None:
            parent = opening
            if not any(each.id == opening for each in nodes):
                nodes.append(Node(id=opening, parent=None, role="user", text=OPENING))
        flags = ("no_loss",) if "no_loss" in node.flags or not node.text.strip() else ()
        nodes.append(Node(id=node.id, parent=parent, role="assistant", text=node.text, flags=flags))
    return Conversation(id=tree.id, nodes=tuple(nodes)) if nodes else None

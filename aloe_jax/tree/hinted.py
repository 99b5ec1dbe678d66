"""Replies once more, after a prompt that holds a hint: what their log-probabilities given a hint are computed from.

A hint is a system message, so nothing after it is shared with the tree. Such paths are conversations of their own,
scored and then forgotten; the rows that are trained on get the values in the column `hinted_log_prob` and no further
token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from aloe_jax.errors import InputError
from aloe_jax.tree.row import TreeRow
from aloe_jax.tree.schema import Conversation, Node

HINT = "+hint"  # id of the system message


class HintedPath(NamedTuple):
    """A path of a tree behind a hint, with all replies to its last message; and the places among the tree's nodes of
    these replies, by their places among those of `conversation`."""

    conversation: Conversation
    replies: Mapping[int, int]

    def told(self, fragment: TreeRow) -> Bool[np.ndarray, " R"]:
        """The replies of a fragment of the conversation that answer the last message."""
        return np.isin(fragment.node, list(self.replies))


def hinted_paths(tree: Conversation, hints: Mapping[str, str]) -> list[HintedPath]:
    """For each user message of `hints` the path to it and its replies, after the text given there as system message.

    All of them keep their tokens. Raises InputError for a hint at anything but a user message, and in a tree that has a
    system message of its own.
    """
    places = {node.id: place for place, node in enumerate(tree.nodes)}
    found = []
    for name, text in hints.items():
        if name not in places or tree.nodes[places[name]].role != "user":
            raise InputError(f"conversation '{tree.id}': a hint for '{name}', which is no message of the user")
        first, *path = tree.path_to(name)
        if first.role == "system":
            raise InputError(f"conversation '{tree.id}': a hint beside the system message '{first.id}'; leave one out")
        replies = [node for node in tree.nodes if node.parent == name and node.role == "assistant"]
        hint = Node(id=HINT, parent=None, role="system", text=text)
        nodes = (hint, first.model_copy(update={"parent": HINT}), *path, *replies)
        own = {len(nodes) - len(replies) + number: places[reply.id] for number, reply in enumerate(replies)}
        found.append(HintedPath(Conversation(id=f"{tree.id} {name}", nodes=nodes), own))
    return found


def with_hints(fragment: TreeRow, log_probs: Mapping[tuple[int, int], Float[np.ndarray, " n"]]) -> TreeRow:
    """The fragment, or a row, with `hinted_log_prob` of the replies whose tokens' log-probabilities are given, by
    (conversation, node) as the fragment has them."""
    column = np.array(fragment.hinted_log_prob)
    for reply, key in enumerate(zip(fragment.conversation.tolist(), fragment.node.tolist(), strict=True)):
        if key in log_probs:
            column[fragment.reply == reply] = log_probs[key]
    return fragment.replace(hinted_log_prob=column)

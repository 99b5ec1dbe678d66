"""Replies once more, after a path that holds a hint: what their log-probabilities given a hint are computed from.

They are rows of their own, scored and then forgotten. The rows that are trained on get the values in the column
`hinted_log_prob` and no further token.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from aloe_jax.errors import InputError
from aloe_jax.tree.row import TreeRow
from aloe_jax.tree.schema import Conversation

MARK = "+hint"  # ends the ids of nodes that are added


def hinted_tree(tree: Conversation, hints: Mapping[str, str]) -> Conversation:
    """The tree with each reply of `hints` once more, under a sibling of its user message with the text given there.

    The added nodes come last; a reply keeps its tokens. What stands before the user message is shared with the tree.
    Raises InputError for a hint at anything but a reply to a user message.
    """
    nodes = {node.id: node for node in tree.nodes}
    added = []
    for name, text in hints.items():
        reply = nodes.get(name)
        user = nodes.get(reply.parent or "") if reply is not None else None
        if reply is None or user is None or (user.role, reply.role) != ("user", "assistant"):
            raise InputError(f"conversation '{tree.id}': a hint for '{name}', which is no reply to a user message")
        told = {"id": f"{name}{MARK}.user", "text": text, "token_ids": None, "logprobs": None, "tokenizer": None}
        added += [
            user.model_copy(update=told),
            reply.model_copy(update={"id": f"{name}{MARK}", "parent": f"{name}{MARK}.user"}),
        ]
    return tree.model_copy(update={"nodes": (*tree.nodes, *added), "preferences": (), "path": ()})


def is_told(fragment: TreeRow, tree: Conversation) -> Bool[np.ndarray, " R"]:
    """The replies of a fragment of a `hinted_tree` that stand after a hint."""
    return np.array([tree.nodes[node].id.endswith(MARK) for node in fragment.node.tolist()], bool)


def with_hints(fragment: TreeRow, log_probs: Mapping[tuple[int, int], Float[np.ndarray, " n"]]) -> TreeRow:
    """The fragment, or a row, with `hinted_log_prob` of the replies whose tokens' log-probabilities are given, by
    (conversation, node) as the fragment has them."""
    column = np.array(fragment.hinted_log_prob)
    for reply, key in enumerate(zip(fragment.conversation.tolist(), fragment.node.tolist(), strict=True)):
        if key in log_probs:
            column[fragment.reply == reply] = log_probs[key]
    return fragment.replace(hinted_log_prob=column)

"""Probes of grown trees: after some replies the model is asked what it has learned, and the inducer's belief is the
answer, which fine-tuning learns to give."""

from __future__ import annotations

import random

from aloe_jax.tree.probe import answer_text, probe_answer, probe_question
from aloe_jax.tree.schema import Conversation
from data_gen.roles import Revealed
from data_gen.seeds import stable_seed
from data_gen.world.catalogue import claims_of


def probed(tree: Conversation, share: float, seed: int) -> Conversation:
    """The tree with a probe after a `share` of the replies of its path, drawn by (seed, tree, turn)."""
    assert tree.persona is not None
    users, replies = tree.path[::2], tree.path[1::2]
    number = {user: turn for turn, user in enumerate(users, start=1)}
    added = []
    for user, reply in zip(users, replies, strict=False):  # the last message may have no reply
        if random.Random(stable_seed(seed, tree.id, "probe", number[user])).random() >= share:
            continue
        known = [Revealed(belief.id, number[belief.node]) for belief in tree.node(user).belief or ()]
        added += [probe_question(reply), probe_answer(reply, answer_text(claims_of(tree.persona, known)))]
    return tree.model_copy(update={"nodes": (*tree.nodes, *added)})

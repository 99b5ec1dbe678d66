"""Trees with advantages, and the objectives of a policy's own replies as one, so that a program is compiled once."""

import numpy as np

from aloe_jax.train.objectives import OBJECTIVES, Objective
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.tree.prune import advantaged
from aloe_jax.tree.schema import Conversation, Node

NAMES = ("tree_regression", "policy_gradient", "distil")
ALL = "all of them"
SETTINGS = ObjectiveSettings(ALL, turn_weights=(1.0, 0.5), turn_buckets=2, eta=0.5, kl_weight=0.01, tokens_per_reply=16)


def all_of_them(replies, pairs, settings):
    """The sums of the three objectives' sums, and each one's loss and metrics under its name."""
    found = {name: OBJECTIVES[name].function(replies, pairs, settings) for name in NAMES}
    metrics = {f"{name} loss": result[:2] for name, result in found.items()}
    metrics |= {f"{name} {key}": pair for name, result in found.items() for key, pair in result[2].items()}
    return sum(result[0] for result in found.values()), sum(result[1] for result in found.values()), metrics


ENTRY = Objective(all_of_them, "replies", advantaged)


def over_the_others(values):
    """A_i = Q_i - mean of the other siblings' Q."""
    values = np.asarray(values, float)
    return list((values - values.mean()) * len(values) / (len(values) - 1))


def grown(name, *turns):
    """A tree with siblings at every turn, which have these values; it goes on from the first."""
    nodes, parent = [], None
    for turn, values in enumerate(turns, 1):
        nodes.append(Node(id=f"u{turn}", parent=parent, role="user", text=f"Question {turn} of {name}?"))
        for number, (value, advantage) in enumerate(zip(values, over_the_others(values), strict=True)):
            nodes.append(
                Node(
                    id=f"a{turn}.{number}", parent=f"u{turn}", role="assistant", value=value, policy=0,
                    text=f"Reply {'so ' * number}number {number} in {turn}.", advantage=advantage,
                )
            )  # fmt: skip
        parent = f"a{turn}.0"
    return Conversation(id=name, nodes=tuple(nodes))

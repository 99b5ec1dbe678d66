"""A rollout tree made by hand, with its rewards."""

from __future__ import annotations

from aloe_jax.tree.schema import Belief, Conversation, Item, Node, Persona, Score
from data_gen.online.rewards import BELIEF, REWARD, TOTAL, rewarded
from data_gen.online.settings import RolloutSettings

PERSONA = Persona(
    id="p1",
    profile="profile",
    personality="personality",
    facts=tuple(Item(id=f"f{number}", text=f"Fact {number}.") for number in range(1, 5)),
)
SETTINGS = RolloutSettings(turns=3, siblings=2, futures=1, horizon=1.0, discount=0.5)


def user(id, parent, shown):
    belief = tuple(Belief(id=f"f{number}", node="u1") for number in range(1, shown + 1))
    return Node(id=id, parent=parent, role="user", text=f"Message {id}.", belief=belief)


def reply(id, parent, score):
    scores = (Score(judge="judge", criterion="overall", value=score),)
    return Node(id=id, parent=parent, role="assistant", text=f"Reply {id}.", scores=scores)


def total(value):
    """The scores of a reply whose reward is `value`, nothing of it for the belief."""
    return tuple(Score(judge=REWARD, criterion=name, value=amount) for name, amount in ((BELIEF, 0.0), (TOTAL, value)))


def tree(scores=(3.0, 5.0, 2.0, 4.0, 5.0), name="t1"):
    """Three turns with two siblings at the first, whose futures have one turn: H(1) = min(ceil(2/3), 2) = 1.

        u1 (1 of 4 facts shown)
          a1.1 (3)  -> u2 (2 shown)      a2.1 (2)       -> u3 (3 shown)  a3.1 (5)
          a1.2 (5)  -> a1.2/u2 (1 shown) a1.2/a2.1 (4)  -> a1.2/u3 (2 shown)

    Phi = 2 right / (found + 4): 0.4, 2/3 and 6/7 with 1, 2 and 3 facts shown.
    """
    nodes = (
        user("u1", None, 1),
        reply("a1.1", "u1", scores[0]),
        reply("a1.2", "u1", scores[1]),
        user("u2", "a1.1", 2),
        user("a1.2/u2", "a1.2", 1),
        reply("a2.1", "u2", scores[2]),
        reply("a1.2/a2.1", "a1.2/u2", scores[3]),
        user("u3", "a2.1", 3),
        user("a1.2/u3", "a1.2/a2.1", 2),
        reply("a3.1", "u3", scores[4]),
    )
    path = ("u1", "a1.1", "u2", "a2.1", "u3", "a3.1")
    return rewarded(Conversation(id=name, persona=PERSONA, nodes=nodes, path=path), SETTINGS)

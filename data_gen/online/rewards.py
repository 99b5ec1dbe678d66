"""What each reply of a rollout tree is rewarded for, part by part.

    r_t = w s + lambda (gamma Phi(t + 1) - Phi(t)) - questions - length - repetition - leak
          - personal - flattery

- s: the judge's score of the reply, which counts what the user has shown, taken from 1..5 to [0, 1];
- Phi(t): F1 of the belief about the user after its message of turn t, as the frozen reader (the role `inducer`) has it,
  against all facts and traits that hold in that turn. A difference of potentials leaves it open which policy is the
  best (Ng, Harada and Russell, 1999; for beliefs about a user CURIO, arXiv 2504.03206), given the same gamma
  throughout: over turns t to t + H the parts add up to gamma^(H+1) Phi(t + H + 1) - Phi(t). At the cut of a future
  Phi stays what the user's next message makes it; only after the dialogue's last turn it is 0, so the last turns earn
  nothing for what they bring to light;
- penalties: questions and words over their budgets, an earlier reply of the path once more, a fact not shown, a fact or
  flourish of the user where the reply is not to be about it (`data_gen.world.occasions`; users of the scripted world),
  praise of the user without content.

A pure function of stored trees, so other weights need no other rollouts. The parts stand in a reply's `scores` under
the judge `reward`, already weighted and with their signs, so they add up to `total`; Phi stands in those of the user's
message. Where a reply has several futures, its part `belief` is the mean over them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import fmean

from aloe_jax.tree.schema import Conversation, Message, Node, Persona, Score
from data_gen.game import guards
from data_gen.game.guards import Scene
from data_gen.online.probes import probe_scores
from data_gen.online.settings import RewardSettings, RolloutSettings
from data_gen.roles import Revealed
from data_gen.text import copied_share, falling, words
from data_gen.world.events import is_event
from data_gen.world.flattery import flatters
from data_gen.world.inducer import of_this_world
from data_gen.world.judge import REPEAT
from data_gen.world.occasions import ORDINARY, over_personal
from data_gen.world.styles import styles_of

REWARD = "reward"  # the judge that the parts stand under
SCORE, BELIEF, TOTAL, POTENTIAL = "score", "belief", "total", "potential"
PENALTIES = ("questions", "length", "repetition", "leak", "personal", "flattery")
PARTS = (SCORE, BELIEF, *PENALTIES)


def part(node: Node, name: str) -> float | None:
    """A part of a node's reward, `total` or `potential`; None where there is none."""
    return next((each.value for each in node.scores if each.judge == REWARD and each.criterion == name), None)


def rewarded(tree: Conversation, settings: RolloutSettings) -> Conversation:
    """The tree with the parts of every reply's reward, and the potential at every message of the user.

    Answers of probes get the parts `probe` and `unfounded`, and change nothing about other rewards. Rewards that the
    tree has already are replaced. A reply that the judge left unscored has neither `score` nor `total`; a
    reply that nobody answered before the dialogue's end leaves Phi as it is.
    """
    assert tree.persona is not None
    by_id = {node.id: node for node in tree.dialogue}
    asked = probe_scores(tree, settings.reward, REWARD)
    done = {node.id: node.model_copy(update={"scores": asked.get(node.id, ())}) for node in tree.nodes if node.is_probe}
    below: dict[str, list[Node]] = {}
    for node in tree.dialogue:
        if node.role == "user" and node.parent is not None:
            below.setdefault(node.parent, []).append(node)
    paths = {node.id: _path(by_id, node) for node in tree.dialogue}
    turns = {name: (len(path) + 1) // 2 for name, path in paths.items()}
    phi = {node.id: potential(tree.persona, node, turns[node.id]) for node in tree.dialogue if node.role == "user"}
    for node in tree.dialogue:
        if node.role == "user":
            done[node.id] = _scored(node, {POTENTIAL: phi[node.id]})
            continue
        before = phi[paths[node.id][-2].id]
        after = [phi[user.id] for user in below.get(node.id, ())] or [before]
        gain = settings.discount * (0.0 if turns[node.id] == settings.turns else fmean(after)) - before
        parts: dict[str, float | None] = {
            SCORE: _of_judge(node, settings.reward.score),
            BELIEF: settings.reward.belief * gain,
            **penalties(tree.persona, paths[node.id], settings.reward),
        }
        known = [value for value in parts.values() if value is not None]
        parts[TOTAL] = sum(known) if len(known) == len(parts) else None
        done[node.id] = _scored(node, parts)
    return tree.model_copy(update={"nodes": tuple(done[node.id] for node in tree.nodes)})


def potential(persona: Persona, user: Node, turn: int) -> float:
    """F1 in [0, 1] of the belief at a user's message of this turn (from 1); 1 for a user without facts and traits."""
    return f1({belief.id for belief in user.belief or ()}, true_items(persona, turn))


def f1(found: Collection[str], true: Collection[str]) -> float:
    """Harmonic mean of precision and recall; 1 where there is nothing to find and nothing is found."""
    right = len(set(found) & set(true))
    return 2 * right / (len(found) + len(true)) if found or true else 1.0


def true_items(persona: Persona, turn: int) -> frozenset[str]:
    """The ids of all facts and traits that hold in a turn, shown or not. A user of the scripted world that changes a
    preference holds the new setting from the turn of the change on, and the old one before."""
    facts = [item.id for item in persona.facts if not is_event(item)]
    traits = [item.id for item in persona.traits if not is_event(item)]
    if of_this_world(persona):
        held = {style.id for style in styles_of(persona, turn)}
        traits = [id for id in traits if id.partition("@")[0] in held]
    return frozenset((*facts, *traits))


def penalties(persona: Persona, path: Sequence[Node], settings: RewardSettings) -> dict[str, float]:
    """The penalties of the last reply of a path, weighted, none above 0."""
    *before, reply = path
    dialogue = [Message(role=node.role, content=node.text) for node in before]
    earlier = [message.content for message in dialogue if message.role == "assistant"]
    again = max((copied_share(reply.text, text, REPEAT[0]) for text in earlier), default=0.0)
    size, questions = len(words(reply.text)), reply.text.count("?")
    shown = tuple(Revealed(belief.id, 0) for belief in before[-1].belief or ())
    leaks = guards.broken(guards.REPLY, ("unrevealed",), reply.text, Scene(dialogue, persona=persona, revealed=shown))
    amounts = {
        "questions": settings.questions * max(0, questions - settings.question_budget),
        "length": settings.length * max(0, size - settings.length_budget) / settings.length_budget,
        "repetition": settings.repetition * (1.0 - falling(again, *REPEAT)),
        "leak": settings.leak * (leaks is not None),
        "personal": settings.personal * _out_of_place(persona, dialogue, reply.text),
        "flattery": settings.flattery * flatters(reply.text, dialogue[-1].content),
    }
    return {name: 0.0 - amount for name, amount in amounts.items()}


def judge_score(reply: Node) -> float | None:
    """The score of the judge, the first that the reply has, from 1 to 5; None where it is unscored."""
    return next((each.value for each in reply.scores if each.judge != REWARD), None)


def _out_of_place(persona: Persona, dialogue: Sequence[Message], reply: str) -> bool:
    """Whether a reply is personal in a turn in which it is not to be."""
    if not of_this_world(persona):
        return False
    kind, personal = over_personal(persona, dialogue, reply)
    return personal and kind != ORDINARY


def _of_judge(reply: Node, weight: float) -> float | None:
    """The weighted score of the judge, which no judge is asked for if it has no weight; an empty reply has the
    lowest."""
    if not reply.text.strip() or not weight:
        return 0.0
    value = judge_score(reply)
    return None if value is None else weight * (value - 1.0) / 4.0


def _scored(node: Node, parts: dict[str, float | None]) -> Node:
    of_others = tuple(score for score in node.scores if score.judge != REWARD)
    own = tuple(Score(judge=REWARD, criterion=name, value=value) for name, value in parts.items())
    return node.model_copy(update={"scores": (*of_others, *own)})


def _path(by_id: dict[str, Node], node: Node) -> list[Node]:
    """The nodes from the first message down to `node`."""
    path = [node]
    while path[-1].parent is not None:
        path.append(by_id[path[-1].parent])
    return path[::-1]

"""Growing one conversation tree: each turn a user message, several candidate replies, a judgement, and a step on.

Paper, section 2, with the reference's mistakes mended: every reply stands on the path that was really continued, a turn
is built only from calls that all succeeded, and the judge decides which reply is preferred.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aloe_jax import files
from aloe_jax.tree.schema import Belief, Conversation, Message, Node, Persona, Preference, Score
from data_gen.roles import Inducer, Judge, Reply, Responder, User, hint_text


@dataclass(frozen=True)
class Roles:
    """Who plays."""

    user: User
    inducer: Inducer
    responder: Responder
    judge: Judge


@dataclass(frozen=True)
class TreeConfig:
    """Shape of a tree: turns, candidates a turn with and without the hint, and the smallest judge's margin (2p - 1)
    that makes two candidates a preference."""

    turns: int
    hinted: int
    plain: int
    min_margin: float

    @classmethod
    def from_config(cls, section: Mapping[str, Any]) -> TreeConfig:
        return cls(section["turns"], section["hinted"], section["plain"], section["min_margin"])


async def grow(name: str, persona: Persona, roles: Roles, config: TreeConfig, seed: int) -> Conversation:
    """A conversation of `config.turns` turns, or fewer if no candidate of a turn says anything.

    The path goes on from a candidate drawn at random (paper, section 2, step 5); its siblings stay leaves.
    """
    nodes: list[Node] = []
    preferences: list[Preference] = []
    path: list[str] = []
    dialogue: list[Message] = []
    shown_at: dict[int, str] = {}
    for turn in range(1, config.turns + 1):
        text = await roles.user.message(persona, dialogue)
        dialogue.append(Message(role="user", content=text))
        user_id = shown_at[turn] = f"u{turn}"
        revealed = await roles.inducer.beliefs(persona, dialogue)
        belief = tuple(Belief(id=item.id, node=shown_at[item.turn]) for item in revealed)
        nodes.append(Node(id=user_id, parent=path[-1] if path else None, role="user", text=text, belief=belief))
        turn_seed = stable_seed(seed, name, turn)
        candidates = await _candidates(roles, dialogue, hint_text(persona, revealed), config, turn_seed)
        replies = [
            await _reply_node(f"a{turn}.{number}", user_id, persona, dialogue, roles.judge, condition, reply)
            for number, (condition, reply) in enumerate(candidates, start=1)
        ]
        nodes += replies
        preferences += await _preferences(replies, persona, dialogue, roles.judge, config.min_margin)
        path.append(user_id)
        speaking = [reply for reply in replies if "empty" not in reply.flags]
        if not speaking:
            break
        chosen = random.Random(turn_seed).choice(speaking)
        path.append(chosen.id)
        dialogue.append(Message(role="assistant", content=chosen.text))
    return Conversation(id=name, persona=persona, nodes=tuple(nodes), preferences=tuple(preferences), path=tuple(path))


def stable_seed(*parts: object) -> int:
    """A 31-bit seed that depends on the parts alone."""
    return int(files.sha256(*map(str, parts))[:8], 16) & 0x7FFFFFFF


async def _candidates(
    roles: Roles, dialogue: Sequence[Message], hint: str, config: TreeConfig, seed: int
) -> list[tuple[str, Reply]]:
    found: list[tuple[str, Reply]] = []
    for condition, told, count in (("hinted", hint, config.hinted), ("plain", None, config.plain)):
        if count:
            replies = await roles.responder.replies(dialogue, told, count, stable_seed(seed, condition))
            found += [(condition, reply) for reply in replies]
    return found


async def _reply_node(
    name: str,
    parent: str,
    persona: Persona,
    dialogue: Sequence[Message],
    judge: Judge,
    condition: str,
    reply: Reply,
) -> Node:
    verdict = await judge.score(persona, dialogue, reply.text)
    flags = ["truncated"] if reply.truncated else []
    if not reply.text.strip():
        flags += ["empty", "no_loss"]
    return Node(
        id=name,
        parent=parent,
        role="assistant",
        text=reply.text,
        condition=condition,
        token_ids=reply.token_ids,
        logprobs=reply.logprobs,
        tokenizer=reply.tokenizer,
        scores=(Score(judge=judge.name, criterion="overall", value=verdict.value),),
        value=verdict.value,
        calls=reply.calls,
        flags=tuple(flags),
    )


async def _preferences(
    replies: Sequence[Node], persona: Persona, dialogue: Sequence[Message], judge: Judge, min_margin: float
) -> list[Preference]:
    """Every two candidates that differ and that the judge tells apart, both say something."""
    found = []
    usable = [reply for reply in replies if "empty" not in reply.flags]
    for index, first in enumerate(usable):
        for second in usable[index + 1 :]:
            if first.text == second.text:
                continue
            p = await judge.prefer(persona, dialogue, first.text, second.text)
            if p is None:
                continue
            margin = 2 * p - 1
            chosen, rejected = (first, second) if margin > 0 else (second, first)
            if abs(margin) >= min_margin and margin:
                found.append(Preference(chosen=chosen.id, rejected=rejected.id, margin=abs(margin), judge=judge.name))
    return found

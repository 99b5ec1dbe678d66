"""Judging stored rollout trees once more: what the policy sampled stays, and only the scores are new.

Users do not depend on the judge (in the scripted world they react to the reply itself), so the trees are those that a
sound judge would have met the first time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from aloe_jax.serve.client.call_errors import RefusedCallError
from aloe_jax.tree.schema import Conversation, Node, message_of
from data_gen.concurrency import gather_all
from data_gen.game.turn import verdict_scores
from data_gen.roles import Judge, Revealed, Verdict


async def judged(trees: Sequence[Conversation], judge: Judge) -> list[Conversation]:
    """The trees, each reply with the judge's score of now in place of the scores that it has."""
    return list(await gather_all(_judged(tree, judge) for tree in trees))


async def _judged(tree: Conversation, judge: Judge) -> Conversation:
    replies = [node for node in tree.replies() if node.scores]
    verdicts = await gather_all(_verdict(tree, reply, judge) for reply in replies)
    new = {
        reply.id: reply.model_copy(
            update={
                "scores": verdict_scores(judge.name, verdict),
                "calls": tuple(dict.fromkeys((*reply.calls, *verdict.calls))),
            }
        )
        for reply, verdict in zip(replies, verdicts, strict=True)
    }
    return tree.model_copy(update={"nodes": tuple(new.get(node.id, node) for node in tree.nodes)})


async def _verdict(tree: Conversation, reply: Node, judge: Judge) -> Verdict:
    assert tree.persona is not None
    *before, user, _ = tree.path_to(reply.id)
    turns = {node.id: place for place, node in enumerate((*before[::2], user), start=1)}
    known = [Revealed(belief.id, turns[belief.node]) for belief in user.belief or ()]
    return await verdict_of(
        judge.score(tree.persona, [message_of(node) for node in (*before, user)], reply.text, known)
    )


async def verdict_of(asked: Awaitable[Verdict]) -> Verdict:
    """What the judge says; no score where its server refuses this call for good."""
    try:
        return await asked
    except RefusedCallError:
        return Verdict(None)

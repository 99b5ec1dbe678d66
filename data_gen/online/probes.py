"""Probes in rounds: what the policy has learned about the user, sampled from it beside the dialogue, and rewarded.

After the main path's replies of chosen turns the policy is asked (`aloe_jax.tree.probe`) and gives several answers,
which are siblings. An answer is sampled as any reply is, without a constraint: else its tokens would not be the
policy's. Its reward is the F1 of its claims, of what the user has shown so far, above that of the answers before,
less a penalty for each claim without evidence. A text that is no answer has F1 0.

What the answers before were worth is the same for all siblings, so it is in the reward and not in the advantages.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.probe import probe_answer, read_claims
from aloe_jax.tree.schema import PROBE, Conversation, Node, Persona, Score, message_of
from data_gen.online.settings import RewardSettings
from data_gen.roles import calls_of
from data_gen.world.catalogue import correctness

READABLE, PRECISION, RECALL, F1, UNFOUNDED = "readable", "precision", "recall", "f1", "unfounded"
FIGURES = (READABLE, PRECISION, RECALL, F1, UNFOUNDED)  # the scores of an answer under the judge `probe`


def sampled_answer(reply: str, number: int, answer: Answer, policy: int | None) -> Node:
    """An answer of the policy to the probe after `reply`, as it was sampled."""
    node = probe_answer(reply, answer.text, number)
    how = {
        "token_ids": answer.token_ids,
        "logprobs": answer.logprobs,
        "tokenizer": answer.tokenizer,
        "calls": calls_of(answer),
        "policy": policy,
        "flags": (PROBE, "truncated") if answer.truncated else node.flags,
    }
    return node.model_copy(update=how)


def answers_of(tree: Conversation) -> list[list[Node]]:
    """The answers of each probe of the main path, first turn first."""
    by_reply: dict[str, list[Node]] = {}
    for node in tree.nodes:
        if node.is_probe and node.role == "assistant" and node.parent is not None:
            by_reply.setdefault(node.parent.removesuffix(f"/{PROBE}"), []).append(node)
    return [by_reply[name] for name in tree.path[1::2] if name in by_reply]


def figures(persona: Persona, tree: Conversation, answer: Node) -> dict[str, float | None]:
    """How right an answer is, by `FIGURES`; precision, recall and unfounded claims only of a readable one."""
    claims = read_claims(answer.text)
    if claims is None:
        return {READABLE: 0.0, PRECISION: None, RECALL: None, F1: 0.0, UNFOUNDED: None}
    dialogue = [message_of(node) for node in tree.path_to(answer.id)[:-2]]
    found = correctness(claims, persona, dialogue)
    return {
        READABLE: 1.0,
        PRECISION: found.precision,
        RECALL: found.recall,
        F1: found.f1,
        UNFOUNDED: float(found.unfounded),
    }


def probe_scores(tree: Conversation, settings: RewardSettings, judge: str) -> dict[str, tuple[Score, ...]]:
    """The scores of each answer by node id: its figures, and under `judge` the parts of its reward with their total."""
    assert tree.persona is not None
    scores: dict[str, tuple[Score, ...]] = {}
    before = 0.0
    for answers in answers_of(tree):
        found = {answer.id: figures(tree.persona, tree, answer) for answer in answers}
        for name, own in found.items():
            gain = settings.probe * ((own[F1] or 0.0) - before)
            penalty = 0.0 - settings.unfounded * (own[UNFOUNDED] or 0.0)
            parts = {PROBE: gain, UNFOUNDED: penalty, "total": gain + penalty}
            scores[name] = (
                *(Score(judge=PROBE, criterion=figure, value=value) for figure, value in own.items()),
                *(Score(judge=judge, criterion=part, value=value) for part, value in parts.items()),
            )
        before = fmean(own[F1] or 0.0 for own in found.values())
    return scores


def probe_measures(trees: Sequence[Conversation]) -> dict[str, float]:
    """Means over the answers of all probes, `probe_<figure>`, and the numbers of `probes`, of their siblings that do
    not differ, `probe_flat_groups`, and of `probe_tokens` sampled; nothing without probes."""
    groups = [answers for tree in trees for answers in answers_of(tree)]
    every = [answer for answers in groups for answer in answers]
    if not every:
        return {}
    values = {
        name: [
            score.value for node in every for score in node.scores if (score.judge, score.criterion) == (PROBE, name)
        ]
        for name in FIGURES
    }
    known = {name: [value for value in found if value is not None] for name, found in values.items()}
    return {
        **{f"probe_{name}": fmean(found) if found else 0.0 for name, found in known.items()},
        "probes": float(len(groups)),
        "probe_flat_groups": float(sum(len(found) > 1 and found[0].advantage is None for found in groups)),
        "probe_tokens": float(sum(len(node.token_ids or ()) for node in every)),
    }

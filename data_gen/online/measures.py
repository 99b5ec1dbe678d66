"""What a round's trees say in metrics.jsonl: rewards by part, and how the replies look."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from aloe_jax.tree.schema import Conversation, Node
from data_gen.online.advantages import EQUAL, Counts
from data_gen.online.probes import probe_measures
from data_gen.online.rewards import PARTS, REWARD, TOTAL, judge_score, part
from data_gen.online.rollout import UNREAD
from data_gen.text import copied_share, words

TOP = 4.95  # score from which it counts as the top one: a judge's expected score hardly reaches 5


def measures(trees: Sequence[Conversation], counts: Counts) -> dict[str, float]:
    """Means over the replies of the main paths: `reward`, `reward_<part>`, `words`, `questions`, `repeated` (the share
    of a reply's runs of words that an earlier one of its path has), `truncated` (the share that was cut off), `silent`
    and `unread` (the shares of all user messages that are empty, and whose belief was refused), and `value` over the
    siblings; and counts: `groups` of siblings, those `flat_groups` without a difference and those `unscored_groups`
    that were left out, `sampled` replies, `sampled_tokens`, and `judge_calls`, the replies that were judged;
    `judge_measures`, and of probes those of `probe_measures`; and `zero_advantages`, the share of the replies that have
    an advantage for which it is 0."""
    paths = [[tree.node(name) for name in tree.path[1::2]] for tree in trees]
    replies = [reply for path in paths for reply in path]
    sampled = [reply for tree in trees for reply in tree.replies()]
    messages = [node for tree in trees for node in tree.dialogue if node.role == "user"]
    return {
        "reward": _mean([part(reply, TOTAL) for reply in replies]),
        **{f"reward_{name}": _mean([part(reply, name) for reply in replies]) for name in PARTS},
        "value": _mean([reply.value for reply in sampled]),
        "words": _mean([len(words(reply.text)) for reply in replies]),
        "questions": _mean([reply.text.count("?") for reply in replies]),
        "repeated": _mean([_repeated(path, place) for path in paths for place in range(1, len(path))]),
        "truncated": _mean(["truncated" in reply.flags for reply in replies]),
        "silent": _mean([not message.text.strip() for message in messages]),
        "unread": _mean([UNREAD in message.flags for message in messages]),
        "zero_advantages": _mean([abs(reply.advantage) <= EQUAL for reply in sampled if reply.advantage is not None]),
        "groups": float(counts.groups),
        "flat_groups": float(counts.flat),
        "unscored_groups": float(counts.unscored),
        **judge_measures(trees),
        "sampled": float(len(sampled)),
        "sampled_tokens": float(sum(len(node.token_ids or ()) for tree in trees for node in tree.nodes)),
        "judge_calls": float(sum(any(score.judge != REWARD for score in reply.scores) for reply in sampled)),
        **probe_measures(trees),
    }


def judge_measures(trees: Sequence[Conversation]) -> dict[str, float]:
    """Of the replies that were judged the shares `unscored` and, of the others, with its `top_score`."""
    judged = (reply for tree in trees for reply in tree.replies() if any(each.judge != REWARD for each in reply.scores))
    scores = [judge_score(reply) for reply in judged]
    return {
        "unscored": _mean([float(score is None) for score in scores]),
        "top_score": _mean([float(score >= TOP) for score in scores if score is not None]),
    }


def _repeated(path: Sequence[Node], place: int) -> float:
    return max(copied_share(path[place].text, earlier.text) for earlier in path[:place])


def _mean(values: Sequence[float | None]) -> float:
    """The mean of the values that there are; 0 without any."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else 0.0

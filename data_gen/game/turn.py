"""One turn, as trees of every kind are built of it: the place where it grows, and its messages as nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.schema import Belief, Message, Node, Score, message_of
from data_gen.roles import Revealed, Said, Verdict, calls_of
from data_gen.seeds import stable_seed

THOUGHT = "thought"  # flag of a message from which the model's thoughts were cut


@dataclass(frozen=True)
class Branch:
    """Where a dialogue goes on: what was said so far and what it has shown. The ids of its nodes begin with `prefix`,
    which is empty on the main path."""

    parent: str | None = None
    dialogue: tuple[Message, ...] = ()
    known: tuple[Revealed, ...] = ()
    shown_at: Mapping[int, str] = field(default_factory=dict)  # turn -> id of its user node
    prefix: str = ""

    @property
    def turn(self) -> int:
        """Number of the turn that comes next or whose reply is due, from 1."""
        return len(self.dialogue) // 2 + 1

    @property
    def user_id(self) -> str:
        """The id of the turn's user node."""
        return f"{self.prefix}u{self.turn}"

    def reply_id(self, number: int) -> str:
        """The id of the turn's reply of this number, from 1."""
        return f"{self.prefix}a{self.turn}.{number}"

    def heard(self, said: Said) -> tuple[Message, ...]:
        """The dialogue with the user's message."""
        return (*self.dialogue, Message(role="user", content=said.text))

    def asked(self, said: Said, known: Sequence[Revealed]) -> tuple[Node, Branch]:
        """The user's message as a node, and the branch in which a reply to it is due. `known` is what has shown by
        then."""
        shown_at = {**self.shown_at, self.turn: self.user_id}
        node = Node(
            id=self.user_id,
            parent=self.parent,
            role="user",
            text=said.text,
            belief=tuple(Belief(id=item.id, node=shown_at[item.turn]) for item in known),
            calls=said.calls,
            flags=(THOUGHT,) if said.thought else (),
        )
        return node, replace(self, parent=node.id, dialogue=self.heard(said), known=tuple(known), shown_at=shown_at)

    def answered(self, reply: Node, prefix: str) -> Branch:
        """The branch in which the next turn follows on `reply`."""
        return replace(self, parent=reply.id, dialogue=(*self.dialogue, message_of(reply)), prefix=prefix)


def reply_node(name: str, parent: str, condition: str, reply: Answer, verdict: Verdict, judge: str) -> Node:
    """A reply as a node, with the score of the `judge` of this name, or of each of a panel's, as its value."""
    flags = ["truncated"] if reply.truncated else []
    if not reply.text.strip():
        flags += ["empty", "no_loss"]
    if reply.thought is not None:
        flags.append(THOUGHT)
    return Node(
        id=name,
        parent=parent,
        role="assistant",
        text=reply.text,
        condition=condition,
        token_ids=reply.token_ids,
        logprobs=reply.logprobs,
        tokenizer=reply.tokenizer,
        scores=verdict_scores(judge, verdict),
        value=verdict.value,
        calls=(*calls_of(reply), *verdict.calls),
        flags=tuple(flags),
    )


def verdict_scores(judge: str, verdict: Verdict) -> tuple[Score, ...]:
    """The score of the `judge` of this name, or of a panel and each of its members."""
    return tuple(
        Score(judge=name, criterion="overall", value=each.value)
        for name, each in {judge: verdict, **verdict.members}.items()
    )


def another(seed: int, attempt: int) -> int:
    """The seed of a further attempt at the same draw; that of the first (0) is `seed` itself."""
    return stable_seed(seed, attempt) if attempt else seed

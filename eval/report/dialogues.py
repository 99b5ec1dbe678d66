"""Conversation trees as the page shows them: turns along the continued path, the candidate replies of a turn side by
side, and the other branches folded away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aloe_jax.tree.schema import Conversation, Node, Persona, Score
from eval.report.reading import ModelResult

MARKUP = 90  # characters around a message on the page
OVERALL = "overall"  # criterion of the score that counts; it is computed from the others


@dataclass(frozen=True)
class Candidate:
    """One reply. `score` is the overall score and `parts` are the criteria it was computed from; `branches` are the
    continuations beside the continued path."""

    text: str
    condition: str | None
    score: float | None
    parts: tuple[Score, ...]
    chosen: int  # preferences in which it is the chosen reply
    rejected: int
    continued: bool
    flags: tuple[str, ...]
    branches: tuple[tuple[Turn, ...], ...]


@dataclass(frozen=True)
class Turn:
    """A user message, the facts and traits that it reveals for the first time, and the replies to it."""

    message: str
    revealed: tuple[str, ...]
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Dialogue:
    """A conversation as the page shows it."""

    id: str
    persona: Persona | None
    system: str | None
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class CaseTurn:
    """One turn of a benchmark case: per model the user's message and the reply, None if its dialogue has ended."""

    number: int
    turns: tuple[tuple[str, Turn | None], ...]

    @property
    def shared(self) -> str:
        """The user's message if it is the same for all models; else empty."""
        messages = {turn.message if turn else None for _, turn in self.turns}
        return (messages.pop() or "") if len(messages) == 1 else ""


@dataclass(frozen=True)
class Case:
    """One benchmark case, turn by turn for all models."""

    id: str
    persona: Persona | None
    rows: tuple[CaseTurn, ...]


def dialogue(tree: Conversation) -> Dialogue:
    """The conversation as turns. Without a stored path, the first child is followed at every fork."""
    reader = _Reader(tree)
    system = next((node.text for node in tree.nodes if node.role == "system"), None)
    return Dialogue(tree.id, tree.persona, system, reader.follow(reader.start()))


def side_by_side(results: Mapping[str, ModelResult], case: str) -> Case:
    """A case turn by turn, for the results that have a dialogue of it."""
    found = {name: result.dialogues[case] for name, result in results.items() if case in result.dialogues}
    turns = {name: dialogue(tree).turns for name, tree in found.items()}
    rows = tuple(
        CaseTurn(k + 1, tuple((name, own[k] if k < len(own) else None) for name, own in turns.items()))
        for k in range(max((len(own) for own in turns.values()), default=0))
    )
    return Case(case, next((tree.persona for tree in found.values()), None), rows)


def all_cases(results: Mapping[str, ModelResult], limit: int) -> tuple[list[Case], int]:
    """The cases in file order until their texts exceed `limit` characters, and the number of all cases."""
    names = list(dict.fromkeys(case for result in results.values() for case in result.dialogues))
    cases, size = list[Case](), 0
    for name in names:
        trees = [result.dialogues[name] for result in results.values() if name in result.dialogues]
        size += sum(len(node.text) + MARKUP for tree in trees for node in tree.nodes)
        if size > limit and cases:
            break
        cases.append(side_by_side(results, name))
    return cases, len(names)


def overall(scores: Sequence[Score]) -> float | None:
    """The score with the criterion OVERALL; otherwise the only score; None if there is neither."""
    named = [score.value for score in scores if score.criterion == OVERALL]
    if named:
        return named[0]
    return scores[0].value if len(scores) == 1 else None


class _Reader:
    """Walks one tree."""

    def __init__(self, tree: Conversation) -> None:
        self.children: dict[str | None, list[Node]] = {}
        for node in tree.dialogue:
            self.children.setdefault(node.parent, []).append(node)
        self.path = frozenset(tree.path)
        persona = tree.persona
        self.texts = {item.id: item.text for item in (*persona.facts, *persona.traits)} if persona else {}
        self.chosen = Counter(preference.chosen for preference in tree.preferences)
        self.rejected = Counter(preference.rejected for preference in tree.preferences)

    def start(self) -> Node | None:
        """The first user message of the continued path."""
        first = self.onward(self.children[None])
        while first is not None and first.role != "user":
            first = self.onward(self.children.get(first.id, []))
        return first

    def onward(self, nodes: Sequence[Node]) -> Node | None:
        """The node on the stored path, or the first one."""
        return next((node for node in nodes if node.id in self.path), nodes[0] if nodes else None)

    def follow(self, user: Node | None) -> tuple[Turn, ...]:
        """The turns from a user message to the end of its path."""
        turns = []
        while user is not None:
            children = self.children.get(user.id, [])
            replies = [node for node in children if node.role == "assistant"]
            taken = self.continued(replies)
            revealed = tuple(self.texts.get(b.id, b.id) for b in user.belief or () if b.node == user.id)
            turns.append(Turn(user.text, revealed, tuple(self.candidate(node, node is taken) for node in replies)))
            below = self.children.get(taken.id, []) if taken else children
            user = self.onward([node for node in below if node.role == "user"])
        return tuple(turns)

    def continued(self, replies: Sequence[Node]) -> Node | None:
        """The reply on the path; otherwise the first one that was answered; otherwise the first one."""
        on_path = [node for node in replies if node.id in self.path]
        answered = [node for node in replies if self.children.get(node.id)]
        return next(iter([*on_path, *answered, *replies]), None)

    def candidate(self, node: Node, continued: bool) -> Candidate:
        """A reply with the branches below it that `follow` does not show."""
        below = [child for child in self.children.get(node.id, []) if child.role == "user"]
        shown = self.onward(below) if continued else None
        return Candidate(
            text=node.text,
            condition=node.condition,
            score=overall(node.scores),
            parts=tuple(score for score in node.scores if score.criterion != OVERALL) if len(node.scores) > 1 else (),
            chosen=self.chosen[node.id],
            rejected=self.rejected[node.id],
            continued=continued,
            flags=node.flags,
            branches=tuple(self.follow(child) for child in below if child is not shown),
        )

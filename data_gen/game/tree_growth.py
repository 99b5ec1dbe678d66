"""Growing one conversation tree: each turn has a user message, several candidate replies and their judgements.

Paper, section 2, without the mistakes of the paper's code: every reply stands on the path that was really continued, a
turn is built only from calls that all succeeded and texts that all guards let through, and the judge decides which
reply is preferred. In the paper's mode one reply per turn, drawn at random, is continued; of the kinds of candidates
(`kinds.py`) only hinted and plain ones are. With `expand` above 1 more
replies are continued, for `depth` turns: these turns are a reply's simulated future, from which its value is backed up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.schema import Conversation, Message, Node, Persona, Preference
from data_gen.calls.store import EVENTS, GIVEN_UP, NODES, PREFERENCES, REJECTS
from data_gen.concurrency import gather_all
from data_gen.game import guards
from data_gen.game.guards import Scene
from data_gen.game.kinds import KINDS, Place
from data_gen.game.probes import probed
from data_gen.game.settings import CONDITIONS, CONTINUED, ConversationSettings, TreeSettings
from data_gen.game.turn import Branch, another, reply_node
from data_gen.game.values import backed_up, pairs, preference, preferred_by_value
from data_gen.roles import Comparison, Revealed, Roles, Said, calls_of
from data_gen.seeds import stable_seed

EQUAL = "equal"  # why a candidate is turned down whose text another one has
# Called with (ledger, key, record) for everything that happens, once more after an interruption.
Note = Callable[[str, str, dict[str, object]], object]


@dataclass(frozen=True)
class Shape:
    """What a tree grows to: the settings of its turns and of its branches. `guard_user` is whether guards check user
    messages; a scripted user would repeat the message that was turned down."""

    conversations: ConversationSettings
    tree: TreeSettings
    guard_user: bool = True


@dataclass(frozen=True)
class _Turn:
    """A turn that succeeded, and the branches that its continued replies begin, the main path first."""

    nodes: tuple[Node, ...]
    preferences: tuple[Preference, ...]
    branches: tuple[Branch, ...]


class _RejectedError(Exception):
    """A turn that failed; the message says why."""


async def grow(
    name: str,
    persona: Persona,
    roles: Roles,
    shape: Shape,
    seed: int,
    note: Note = lambda ledger, key, record: None,
    others: Sequence[Persona] = (),
) -> Conversation | None:
    """A conversation of at most `turns` turns on its main path, or None if fewer than `min_turns` turns succeeded. It
    ends at a turn without a candidate to continue from or in which the guards let too few texts through. `others` are
    the personas that kinds of candidates borrow from.

    The path continues from a hinted or plain candidate drawn at random (paper, section 2, step 5). Equal answers of the
    roles give equal trees and equal notes, whatever was interrupted.
    """
    growth = _Growth(name, persona, roles, shape.conversations, shape.tree, shape.guard_user, seed, note, others)
    return await growth.grown()


@dataclass(frozen=True)
class _Growth:
    name: str
    persona: Persona
    roles: Roles
    conversations: ConversationSettings
    tree: TreeSettings
    guard_user: bool
    seed: int
    note: Note
    others: Sequence[Persona]

    async def grown(self) -> Conversation | None:
        turns = await self._explore(Branch(), self.conversations.turns)
        path = _path(turns)
        done = sum(node.startswith("u") for node in path)
        if done < self.tree.min_turns:
            self.note(EVENTS, self.name + GIVEN_UP, {"event": "given_up", "conversation": self.name, "turns": done})
            return None
        nodes = tuple(node for turn in turns for node in turn.nodes)
        if self.tree.discount:
            nodes = backed_up(nodes, self.tree.discount, self.tree.depth)
        preferences = tuple(pair for turn in turns for pair in turn.preferences)
        if self.tree.prefer == "value":
            preferences = preferred_by_value(nodes, self.conversations.min_margin, self.roles.judge.name)
        tree = Conversation(id=self.name, persona=self.persona, nodes=nodes, preferences=preferences, path=path)
        return probed(tree, self.conversations.probes, self.seed)

    async def _explore(self, branch: Branch, left: int) -> list[_Turn]:
        """The turns from `branch` on, at most `left` deep, parents before children."""
        try:
            turn = await self._turn(branch)
        except _RejectedError as reason:
            key = f"{self.name} {branch.prefix}u{branch.turn} ended"
            record = {"event": "ended", "conversation": self.name, "turn": branch.turn, "reason": str(reason)}
            self.note(EVENTS, key, record)
            return []
        depths = [left - 1, *(min(self.tree.depth, left - 1) for _ in turn.branches[1:])]
        below = await gather_all(
            self._explore(each, depth)
            for each, depth in zip(turn.branches, depths, strict=False)  # there may be no candidate to continue from
            if depth > 0
        )
        return [turn, *(each for found in below for each in found)]

    async def _turn(self, branch: Branch) -> _Turn:
        """One turn; it is noted once all its calls have succeeded."""
        turn, prefix = branch.turn, branch.prefix
        seed = stable_seed(self.seed, self.name, *([prefix] if prefix else []), turn)
        said = await self._message(branch, seed)
        dialogue = branch.heard(said)
        known = await self.roles.inducer.beliefs(self.persona, dialogue, branch.known)
        user, asked = branch.asked(said, known)
        candidates = await self._candidates(dialogue, known, f"{prefix}a{turn}", seed)
        replies = await gather_all(
            self._reply(asked, number, condition, reply)
            for number, (condition, reply) in enumerate(candidates, start=1)
        )
        preferences: list[Preference] = []
        if self.tree.prefer == "judge":
            preferences = await self._preferences(replies, dialogue, known)
        for node in (user, *replies):
            self.note(NODES, f"{self.name} {node.id}", {"conversation": self.name, **_plain(node)})
        speaking = [reply for reply in replies if "empty" not in reply.flags and reply.condition in CONTINUED]
        drawn = random.Random(seed).sample(speaking, min(self.tree.expand, len(speaking))) if speaking else []
        branches = tuple(
            asked.answered(reply, prefix if number == 0 else f"{reply.id}/") for number, reply in enumerate(drawn)
        )
        return _Turn((user, *replies), tuple(preferences), branches)

    async def _message(self, branch: Branch, seed: int) -> Said:
        """A user message that the guards let through."""
        reason = None
        for attempt in range(self.tree.attempts):
            said = await self.roles.user.message(
                self.persona, branch.dialogue, another(stable_seed(seed, "user"), attempt)
            )
            scene = Scene(branch.dialogue, said.truncated)
            reason = guards.broken(guards.USER, self.tree.guards, said.text, scene) if self.guard_user else None
            if reason is None:
                return said
            self._reject(f"{branch.user_id}#{attempt}", branch.turn, "user", reason, said.text, said.calls)
        raise _RejectedError(f"no usable user message in {self.tree.attempts} attempts, the last one {reason}")

    async def _candidates(
        self, dialogue: Sequence[Message], known: Sequence[Revealed], name: str, seed: int
    ) -> list[tuple[str, Answer]]:
        """Candidates that the guards let through and that differ, with their conditions; a candidate that is turned
        down is drawn again. Where all draws are equal one is left, and the turn has nothing to compare; so has a turn
        in which a kind is not to be had."""
        found: list[tuple[str, Answer]] = []
        texts, alone = set[str](), False
        place = Place(self.persona, dialogue, tuple(known), self.roles, self.others, seed)
        turn = (len(dialogue) + 1) // 2
        for condition in CONDITIONS:
            count = self.conversations.mix.total(condition)
            asked = KINDS[condition](place) if count else None
            if asked is None:
                alone |= count > 0
                continue
            names = [guard for guard in self.tree.guards if guard not in asked.guards_off]
            good: list[Answer] = []
            for attempt in range(self.tree.attempts):
                if len(good) == count:
                    break
                drawn = await asked.draw(count - len(good), another(stable_seed(seed, condition), attempt))
                for number, reply in enumerate(drawn):
                    scene = Scene(dialogue, reply.truncated, self.persona, known, asked.hint)
                    reason = guards.broken(guards.REPLY, names, reply.text, scene)
                    text = reply.text.strip()
                    if reason is None and not text and not reply.token_ids and reply.truncated:
                        reason = "empty"  # only thoughts, cut off: no token is left to train on or to score
                    if reason is None and text in texts:
                        reason, alone = EQUAL, True
                    if reason is None:
                        good.append(reply)
                        texts |= {text} - {""}
                    else:
                        key = f"{name} {condition}.{number}#{attempt}"
                        self._reject(key, turn, condition, reason, reply.text, calls_of(reply))
            found += [(condition, reply) for reply in good]
        if len(found) + alone < 2:
            raise _RejectedError(f"{len(found)} usable replies in {self.tree.attempts} attempts")
        return found

    async def _reply(self, asked: Branch, number: int, condition: str, reply: Answer) -> Node:
        verdict = await self.roles.judge.score(self.persona, asked.dialogue, reply.text, asked.known)
        assert asked.parent is not None
        name, judge = asked.reply_id(number), self.roles.judge.name
        return reply_node(name, asked.parent, condition, reply, verdict, judge)

    async def _preferences(
        self, replies: Sequence[Node], dialogue: Sequence[Message], known: Sequence[Revealed]
    ) -> list[Preference]:
        """A preference for every two candidates that are not empty, that differ and that the judge tells apart."""
        judge, found = self.roles.judge, list[Preference]()
        for first, second in pairs(replies):
            if guards.PAIR in self.tree.guards and guards.uneven(first.text, second.text):
                key, text = f"{first.id} {second.id}", f"{first.text}\n{second.text}"
                self._reject(key, (len(dialogue) + 1) // 2, "pair", guards.PAIR, text, ())
                continue
            compared = await judge.prefer(self.persona, dialogue, first.text, second.text, known)
            record: dict[str, object] = {
                "conversation": self.name,
                "first": first.id,
                "second": second.id,
                "judge": judge.name,
            }
            if compared is not None:
                record["orders"] = _orders(compared)
                record["calls"] = list(compared.calls)
                if compared.members:
                    record["members"] = {name: each and _orders(each) for name, each in compared.members.items()}
            self.note(PREFERENCES, f"{self.name} {first.id} {second.id}", record)
            if compared is None or compared.inconclusive:
                continue
            found += preference(first, second, 2 * compared.p - 1, self.conversations.min_margin, judge.name)
        return found

    def _reject(self, key: str, turn: int, role: str, reason: str, text: str, calls: Sequence[str]) -> None:
        record = {"conversation": self.name, "turn": turn, "role": role, "reason": reason, "text": text}
        self.note(REJECTS, f"{self.name} {key}", {**record, "calls": list(calls)})


def _orders(verdict: Comparison) -> list[float]:
    return [verdict.shown_first, verdict.shown_second]


def _plain(node: Node) -> dict[str, object]:
    return node.model_dump(mode="json", exclude_defaults=True)


def _path(turns: Sequence[_Turn]) -> tuple[str, ...]:
    """The main path: ids without a prefix, each turn's message and the reply that was drawn."""
    path: list[str] = []
    for turn in turns:
        if "/" not in turn.nodes[0].id:
            path.append(turn.nodes[0].id)
            path += [branch.parent for branch in turn.branches[:1] if branch.parent]
    return tuple(path)

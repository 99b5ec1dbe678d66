"""Rollout trees: dialogues that the policy itself leads, with siblings at some turns and their simulated futures.

The main path is sampled from the policy, never the best reply and never a hinted one. At chosen turns it has siblings.
Each of them, the main path's own included, gets the same number of futures over the same number of turns; future 0 of
the main path's reply is the main path, so nothing is computed twice. A future ends with one more user message: only
that shows what its last reply has brought out of the user.

Random draws depend on (seed, tree, turn, future) and not on the sibling: siblings meet the same user, and with
`common_draws` the same policy. What their values differ by is then due to the reply rather than to chance. (Our engine
keys a token's noise by its position in the dialogue, so that of a model is the same only after siblings of equal
length.) Draws of different turns or futures are independent, so each value is still unbiased.

Trees of a batch grow in lock-step. In every turn all users speak, then all beliefs are read, then the policy answers
all of them, then all replies are judged, then the policy is asked what it has learned, where probes are due; so its
calls do not depend on how fast anybody answers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.call_errors import RefusedCallError
from aloe_jax.tree.probe import probe_question
from aloe_jax.tree.schema import PROBE, Conversation, Node, Persona, message_of
from data_gen.concurrency import gather_all
from data_gen.game.turn import Branch, another, reply_node
from data_gen.online.judging import verdict_of
from data_gen.online.probes import sampled_answer
from data_gen.online.settings import RolloutSettings
from data_gen.roles import Responder, Revealed, Roles, Said, Verdict
from data_gen.seeds import stable_seed

PLAIN = "plain"  # condition of every reply: from the dialogue alone
UNREAD = "unread"  # flag of a user message whose belief is that before it, as the inducer's server refused it
SPOKEN = 3  # draws of a user message, of which one must not be empty; the last one stands


@dataclass(frozen=True)
class Seat:
    """A tree to grow: its id, the user and the roles, of which `responder` is the policy; `asked` is the policy as it
    answers probes, by default as it replies. The user's draws depend on `met`, which trees that are compared share;
    empty: on the id."""

    name: str
    persona: Persona
    roles: Roles
    met: str = ""
    asked: Responder | None = None


def tree_name(round_number: int, persona: Persona, number: int = 1) -> str:
    """The id of a tree of a persona in a round; with several, `number` counts them from 1."""
    return f"r{round_number:04d}-{persona.id}{f'.{number}' if number > 1 else ''}"


def chosen_turns(name: str, settings: RolloutSettings, seed: int) -> tuple[int, ...]:
    """The turns with siblings of the tree `name`, sorted: `share` of all, early ones more often; at least one unless
    `share` is 0.

    They are drawn without replacement with weights T - t + 1 (Efraimidis and Spirakis, 2006: the largest u^(1/weight)).
    A larger share adds to those of a smaller one.
    """
    draws = random.Random(stable_seed(seed, name, "chosen"))
    keys = {turn: draws.random() ** (1 / (settings.turns - turn + 1)) for turn in range(1, settings.turns + 1)}
    ordered = sorted(keys, key=lambda turn: -keys[turn])
    return tuple(sorted(ordered[: settings.chosen]))


@dataclass(frozen=True)
class _Open:
    """A branch of a tree under way: its tree's number, which future it is, and the last turn that is answered in it."""

    tree: int
    branch: Branch
    future: int
    until: int

    @property
    def main(self) -> bool:
        """Whether it is the main path."""
        return not self.branch.prefix


@dataclass
class _Grown:
    """What a tree has so far."""

    chosen: tuple[int, ...]
    nodes: list[Node] = field(default_factory=list)
    path: list[str] = field(default_factory=list)


async def roll_out(
    seats: Sequence[Seat], settings: RolloutSettings, seed: int, policy: int | None = None
) -> list[Conversation]:
    """The trees of one batch, in the order of `seats`; their replies carry the version `policy`.

    Equal arguments give equal trees, if the roles' answers depend on their arguments alone. Raises CallError if a
    server fails on a call: a batch is whole, or it is done again. What a server refuses for good it would refuse then
    too: a message stays empty, a belief as it was before or a reply unscored, and the alarms `silent`, `unread` and
    `unscored` count them.
    """
    batch = _Batch(seats, settings, seed, policy)
    grown = [_Grown(chosen_turns(seat.name, settings, seed)) for seat in seats]
    under_way = [_Open(number, Branch(), 0, settings.turns) for number in range(len(seats))]
    for _ in range(settings.turns):
        under_way = await batch.turn(under_way, grown)
    return [
        Conversation(id=seat.name, persona=seat.persona, nodes=tuple(tree.nodes), path=tuple(tree.path))
        for seat, tree in zip(seats, grown, strict=True)
    ]


@dataclass(frozen=True)
class _Batch:
    seats: Sequence[Seat]
    settings: RolloutSettings
    seed: int
    policy: int | None

    async def turn(self, under_way: Sequence[_Open], grown: Sequence[_Grown]) -> list[_Open]:
        """One turn of every branch; the branches that go on, those of the main paths among them."""
        asked = await self._spoken(under_way, grown)
        answers = await gather_all(
            self.seats[place.tree].roles.responder.replies(
                place.branch.dialogue, None, self._count(place, grown), self._policy_seed(place)
            )
            for place in asked
        )
        replies = [
            (place, number, reply)
            for place, found in zip(asked, answers, strict=True)
            for number, reply in enumerate(found, start=1)
        ]
        verdicts = await gather_all(self._verdict(place, reply) for place, _, reply in replies)
        onward: list[_Open] = []
        probed: list[tuple[_Open, Node]] = []
        for (place, number, reply), verdict in zip(replies, verdicts, strict=True):
            judge, parent = self.seats[place.tree].roles.judge, place.branch.parent
            assert parent is not None
            name = "" if judge is None else judge.name
            node = reply_node(place.branch.reply_id(number), parent, PLAIN, reply, verdict, name)
            if judge is None:
                node = node.model_copy(update={"scores": ()})
            node = node.model_copy(update={"value": None, "policy": self.policy, "flags": _flags(node)})
            tree = grown[place.tree]
            tree.nodes.append(node)
            if place.main and number == 1:
                tree.path += [parent, node.id]
            onward += self._onward(place, node, number, tree)
            if self.settings.probes and place.main and number == 1 and place.branch.turn in tree.chosen:
                probed.append((place, node))
        await self._ask(probed, grown)
        return onward

    async def _spoken(self, under_way: Sequence[_Open], grown: Sequence[_Grown]) -> list[_Open]:
        """All users speak and all beliefs are read; the branches in which a reply is due."""
        said = await gather_all(map(self._message, under_way))
        known = await gather_all(map(self._known, under_way, said))
        asked = []
        for place, message, shown in zip(under_way, said, known, strict=True):
            user, branch = place.branch.asked(message, place.branch.known if shown is None else shown)
            if shown is None:
                user = user.model_copy(update={"flags": (*user.flags, UNREAD)})
            grown[place.tree].nodes.append(user)
            if branch.turn <= place.until:
                asked.append(_Open(place.tree, branch, place.future, place.until))
        return asked

    async def _ask(self, probed: Sequence[tuple[_Open, Node]], grown: Sequence[_Grown]) -> None:
        """Ask the policy what it has learned after these replies."""
        answers = await gather_all(self._belief(place, reply) for place, reply in probed)
        for (place, reply), found in zip(probed, answers, strict=True):
            nodes = grown[place.tree].nodes
            nodes.append(probe_question(reply.id))
            nodes += [sampled_answer(reply.id, number, each, self.policy) for number, each in enumerate(found, start=1)]

    async def _belief(self, place: _Open, reply: Node) -> list[Answer]:
        seat = self.seats[place.tree]
        dialogue = (*place.branch.answered(reply, "").dialogue, message_of(probe_question(reply.id)))
        seed = stable_seed(self.seed, seat.name, PROBE, place.branch.turn)
        return await (seat.asked or seat.roles.responder).replies(dialogue, None, self.settings.probes, seed)

    def _onward(self, place: _Open, reply: Node, number: int, tree: _Grown) -> list[_Open]:
        """The branches that a reply begins."""
        turn = place.branch.turn
        if turn == self.settings.turns:
            return []
        if not place.main:  # after its last reply the user speaks once more
            return [_Open(place.tree, place.branch.answered(reply, place.branch.prefix), place.future, place.until)]
        found = []
        if number == 1:
            found.append(_Open(place.tree, place.branch.answered(reply, ""), 0, self.settings.turns))
        if turn in tree.chosen:
            for future in range(int(number == 1), self.settings.futures):
                branch = place.branch.answered(reply, future_prefix(reply.id, future))
                found.append(_Open(place.tree, branch, future, turn + self.settings.ahead(turn)))
        return found

    async def _message(self, place: _Open) -> Said:
        seat = self.seats[place.tree]
        seed = stable_seed(self.seed, seat.met or seat.name, "user", place.branch.turn, place.future)
        said = Said("")
        for attempt in range(SPOKEN):
            try:
                said = await seat.roles.user.message(seat.persona, place.branch.dialogue, another(seed, attempt))
            except RefusedCallError:  # for good: the batch would meet it again
                continue
            if said.text.strip():
                break
        return said

    async def _known(self, place: _Open, said: Said) -> tuple[Revealed, ...] | None:
        """What has shown with the message; None where the inducer's server refuses this call for good."""
        seat = self.seats[place.tree]
        try:
            return await seat.roles.inducer.beliefs(seat.persona, place.branch.heard(said), place.branch.known)
        except RefusedCallError:
            return None

    async def _verdict(self, place: _Open, reply: Answer) -> Verdict:
        seat = self.seats[place.tree]
        if seat.roles.judge is None:
            return Verdict(None)
        return await verdict_of(
            seat.roles.judge.score(seat.persona, place.branch.dialogue, reply.text, place.branch.known)
        )

    def _count(self, place: _Open, grown: Sequence[_Grown]) -> int:
        """The replies that the policy gives here."""
        return self.settings.siblings if place.main and place.branch.turn in grown[place.tree].chosen else 1

    def _policy_seed(self, place: _Open) -> int:
        own = () if self.settings.common_draws or place.main else (place.branch.prefix,)
        name, turn = self.seats[place.tree].name, place.branch.turn
        return stable_seed(self.seed, name, "policy", turn, place.future, *own)


def future_prefix(reply: str, future: int) -> str:
    """What the ids of a reply's future begin with."""
    return f"{reply}/f{future}/" if future else f"{reply}/"


def future_number(reply: str) -> int:
    """The number of the future that a reply is in, by its id; 0 on the main path too, whose draws it shares."""
    *_, branch = reply.rpartition("/")[0].rpartition("/")
    return int(branch[1:]) if branch.startswith("f") else 0


def _flags(reply: Node) -> tuple[str, ...]:
    """The reply's flags; an empty one is trained on like any other if the policy sampled it."""
    return tuple(flag for flag in reply.flags if flag != "no_loss" or reply.token_ids is None)

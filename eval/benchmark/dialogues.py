"""One case of the benchmark: a simulated user talks with the model under test, a judge scores each reply (paper, 4).

Interactive, the user answers the model's replies. In replay the model answers a stored dialogue, turn by turn: each
reply is given to the stored messages and the *stored* replies before it, so that all models answer the same histories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.call_errors import CallError
from aloe_jax.tree.schema import Conversation, Message, Node, Persona, Score
from data_gen.roles import Dialogue, Judge, Responder, Said, User, Verdict, calls_of
from data_gen.seeds import stable_seed
from eval.benchmark.probing import Prober

FLOOR = 1.0  # of the judge's scale: the score of an empty reply
ATTEMPTS = 3  # draws of a user message, of which one must not be empty
OVERALL, PERSONA = "overall", "persona"  # criteria of the two scales
STORED = "stored"  # condition of a reply that was replayed, not given by the model under test


Seen = Callable[[Persona, Dialogue], Dialogue]  # what of a case's dialogue the model reads


class Played(NamedTuple):
    """A case as far as it came: its whole turns (None without any), and the failure that ended it early."""

    tree: Conversation | None
    failure: CallError | None = None


@dataclass(frozen=True)
class Tested:
    """The model under test: who answers a persona, and what of the dialogue is read there (`whole`: all of it). With a
    `hint`, empty or not, the responder's own instruction stands before it. A `prober` also asks the model after each
    reply what it has learned."""

    responder: Callable[[Persona], Responder]
    seen: Seen
    hint: str | None = None
    prober: Prober | None = None

    async def answer(self, persona: Persona, dialogue: Dialogue, seed: int) -> Answer:
        """The reply to `dialogue`, which ends with a user message."""
        [reply] = await self.responder(persona).replies(self.seen(persona, dialogue), self.hint, 1, seed)
        return reply


def whole(persona: Persona, dialogue: Dialogue) -> Dialogue:
    """The dialogue alone, without a system message, as in training."""
    return dialogue


class _NothingStoredError(CallError):
    """The stored dialogue ends before this turn."""


class _SilentUserError(CallError):
    """The simulated user says nothing: no reply can be judged as an answer to that."""


@dataclass(frozen=True)
class Benchmark:
    """Who plays the cases, over how many turns. `stored` are the dialogues to replay by case; None: interactive."""

    tested: Tested
    user: User
    judge: Judge
    turns: int
    seed: int
    stored: Mapping[str, Conversation] | None = None

    async def case(self, persona: Persona) -> Played:
        """The dialogue of a case as a tree, each reply with its scores."""
        nodes: list[Node] = []
        dialogue: list[Message] = []
        path: list[str] = []
        failure = None
        try:
            for turn in range(1, self.turns + 1):
                found = await self._turn(persona, dialogue, path[-1] if path else None, turn)
                nodes += found
                first, *_, last = (node for node in found if not node.is_probe)
                path += [first.id, last.id]
                dialogue += [Message(role=node.role, content=node.text) for node in (first, last)]
        except CallError as error:
            failure = error
        if not nodes:
            return Played(None, failure)
        return Played(Conversation(id=persona.id, persona=persona, nodes=tuple(nodes), path=tuple(path)), failure)

    async def _turn(self, persona: Persona, before: Dialogue, parent: str | None, turn: int) -> list[Node]:
        """The user's message and the reply; in replay, but for the last turn, the stored reply after it, which goes on;
        and the probe under the reply. Raises CallError if a server fails on it."""
        # Equal seeds for every model: all models meet the same users and the same random draws.
        seed = stable_seed(self.seed, persona.id, turn)
        if self.stored is None:
            said, onward = await self._message(persona, before, seed), []
            of_user = tuple(flag for flag in ("truncated", "thought") if getattr(said, flag))
            user = Node(id=f"u{turn}", parent=parent, role="user", text=said.text, calls=said.calls, flags=of_user)
        else:
            text, reply_text = stored_turn(self.stored, persona, turn)
            user = Node(id=f"u{turn}", parent=parent, role="user", text=text)
            stored = Node(id=f"s{turn}", parent=user.id, role="assistant", text=reply_text, condition=STORED)
            onward = [stored] if turn < self.turns else []
        dialogue = [*before, Message(role="user", content=user.text)]
        reply = await self.tested.answer(persona, dialogue, seed)
        verdict = await self.judge.score(persona, dialogue, reply.text)
        flags = {
            "truncated": reply.truncated,
            "thought": reply.thought is not None,
            "empty": not reply.text.strip(),
        }
        node = Node(
            id=f"a{turn}",
            parent=user.id,
            role="assistant",
            text=reply.text,
            token_ids=reply.token_ids,
            logprobs=reply.logprobs,
            tokenizer=reply.tokenizer,
            scores=scores_of(verdict, self.judge.name, empty=flags["empty"]),
            calls=(*calls_of(reply), *verdict.calls),
            flags=tuple(flag for flag, holds in flags.items() if holds),
        )
        if self.tested.prober is None:
            return [user, node, *onward]
        known = [*dialogue, Message(role="assistant", content=reply.text)]
        return [user, node, *onward, *await self.tested.prober.nodes(node.id, known, seed)]

    async def _message(self, persona: Persona, before: Dialogue, seed: int) -> Said:
        """The user's message, drawn again with another seed where it is empty. Raises CallError if all draws are."""
        for attempt in range(ATTEMPTS):
            said = await self.user.message(persona, before, stable_seed(seed, attempt) if attempt else seed)
            if said.text.strip():
                return said
        raise _SilentUserError(
            f"case '{persona.id}': the user said nothing in {ATTEMPTS} attempts; raise config.roles.user.max_tokens, "
            "or name another model in config.roles.user",
            "empty user message",
        )


def scores_of(verdict: Verdict, judge: str, empty: bool) -> tuple[Score, ...]:
    """The scores of a reply: `overall` (what the user has shown counts), `persona` where the judge gives it, and the
    criteria; after those of a panel the same of each member, under its name. An empty reply is at the floor of both
    scales, whatever the judge makes of it."""
    parts = {OVERALL: FLOOR if empty else verdict.value}
    if verdict.persona is not None:
        parts[PERSONA] = FLOOR if empty else verdict.persona
    parts |= verdict.criteria
    own = [Score(judge=judge, criterion=name, value=value) for name, value in parts.items()]
    of_members = (scores_of(each, name, empty) for name, each in verdict.members.items())
    return (*own, *(score for scores in of_members for score in scores))


def replies_of(tree: Conversation) -> list[Node]:
    """The replies of the model under test, by turn."""
    return [node for node in tree.replies() if node.condition != STORED]


def score_of(node: Node, criterion: str) -> float | None:
    """The score of a reply by a criterion; None where it is unscored."""
    return next((score.value for score in node.scores if score.criterion == criterion), None)


def stored_turn(stored: Mapping[str, Conversation], persona: Persona, turn: int) -> tuple[str, str]:
    """The user's message and the reply of a turn of the stored dialogue of a case; "" if it ends with the message.
    Raises CallError if there is no such turn: the case counts as unscored from there on."""
    tree = stored.get(persona.id)
    messages = spoken(tree) if tree else []
    if len(messages) < 2 * turn - 1:
        raise _NothingStoredError(f"case '{persona.id}': no stored dialogue has turn {turn}", "nothing stored")
    said, reply = [*messages, None][2 * turn - 2 : 2 * turn]
    assert said is not None
    return said.content, reply.content if reply else ""


def spoken(tree: Conversation) -> Sequence[Message]:
    """The messages on the path of a dialogue, the user's and the replies to them in turn."""
    nodes = map(tree.node, tree.path)
    return [Message(role=node.role, content=node.text) for node in nodes if node.role != "system"]

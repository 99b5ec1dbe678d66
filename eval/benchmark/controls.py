"""The controls: what the model under test reads under each, and judges that must not see what the effect is.

| control | the model reads | the judge |
|---|---|---|
| `wrong_persona` | another user's dialogue with the same model, then this user's last message | as ever |
| `no_history` | the last message alone | as ever |
| `style_prompt`, `self_reflection` | a fixed instruction, then the dialogue | as ever |
| `other_simulator` | the dialogue, in which the user is the other simulator | as ever |
| `oracle` | persona and dialogue: the scripted world's oracle answers | as ever |
| `length_judge` | nothing: its stored replies are scored again | counts words |
| `no_context_judge` | nothing: its stored replies are scored again | sees the last message and the reply alone |
| `scripted_judge` | nothing: its stored replies are scored again | the scripted world's, which is the truth there |

Under `wrong_persona` and `no_history` the topic stays in sight, and the score is for the user who speaks. So what the
model loses is what it had from *this* user's earlier messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aloe_jax.errors import InputError
from aloe_jax.serve.client.call_errors import CallError
from aloe_jax.tree.schema import Conversation, Message, Node, Persona
from data_gen.calls.call_cache import Chat
from data_gen.players.player import Sampling
from data_gen.players.prompts import Prompt, shipped_prompt
from data_gen.players.responder import ModelResponder
from data_gen.players.table import load_prompt
from data_gen.roles import Dialogue, Judge, Revealed, Verdict
from data_gen.seeds import draw
from data_gen.text import words
from data_gen.world.judge import ScriptedJudge
from data_gen.world.responders import ScriptedResponder
from eval.benchmark.dialogues import Played, Seen, Tested, replies_of, scores_of, spoken, whole
from eval.benchmark.entries import ORACLE, PROMPTED, SCRIPTED_JUDGE

LONG = 60  # words from which a reply is as long as the length-only judge can tell


def tested_under(
    control: str, chat: Chat | None, sampling: Sampling, personas: Sequence[Persona], own: Mapping[str, Conversation]
) -> Tested:
    """The model behind `chat` under a control ("" for none), for cases of `personas`. `own` are its dialogues without a
    control, which `wrong_persona` takes."""
    if control == ORACLE:
        return Tested(ScriptedResponder, whole)
    assert chat is not None
    prompt = prompt_of(control) if control in PROMPTED else load_prompt("responder")
    model = ModelResponder(chat, prompt, sampling)
    seen: Seen = whole
    if control == "no_history":
        seen = last_message
    elif control == "wrong_persona":
        seen = of_another_user(partners(personas, own), own)
    return Tested(lambda persona: model, seen, "" if control in PROMPTED else None)


def last_message(persona: Persona, dialogue: Dialogue) -> Dialogue:
    """The last message alone."""
    return dialogue[-1:]


def of_another_user(partner: Mapping[str, str], own: Mapping[str, Conversation]) -> Seen:
    """What is read in place of a case's dialogue: that of its `partner` up to the same turn, then the last message."""

    def seen(persona: Persona, dialogue: Dialogue) -> Dialogue:
        return [*spoken(own[partner[persona.id]])[: len(dialogue) - 1], dialogue[-1]]

    return seen


def partners(personas: Sequence[Persona], own: Mapping[str, Conversation]) -> dict[str, str]:
    """For each case one with another profile and another personality whose dialogue in `own` is among the longest, else
    one with another personality, else any other.

    It is an earlier case if one fits, else the first later one, so that cases added later change nothing. InputError if
    there is only one case.
    """
    longest = max((len(spoken(tree)) for tree in own.values()), default=0)
    ready = [persona for persona in personas if persona.id in own and len(spoken(own[persona.id])) == longest]
    found = {}
    for place, persona in enumerate(personas):
        others = [other for other in ready if other.id != persona.id]
        styled = [other for other in others if other.personality != persona.personality]
        fitting = [other for other in styled if other.profile != persona.profile] or styled or others
        earlier = [other for other in fitting if other in personas[:place]]
        if not fitting:
            raise InputError("config.benchmark.controls: wrong_persona needs a second case; raise control_cases")
        found[persona.id] = (draw(earlier, "partner", persona.id) if earlier else fitting[0]).id
    return found


def prompt_of(control: str) -> Prompt:
    """The instruction of a control that is one."""
    return shipped_prompt(f"{control}_v1.jinja")


class Scorer(Protocol):
    """The part of a judge that scores."""

    @property
    def name(self) -> str:
        """The name that its scores carry."""
        ...

    async def score(
        self, persona: Persona, dialogue: Dialogue, reply: str, revealed: Sequence[Revealed] | None = None
    ) -> Verdict:
        """The score of `reply` as an answer to `dialogue`."""
        ...


class LengthJudge:
    """Scores a reply by its length alone: 1 without a word, 5 from `LONG` words on, linear between."""

    name = "length"

    async def score(
        self, persona: Persona, dialogue: Dialogue, reply: str, revealed: Sequence[Revealed] | None = None
    ) -> Verdict:
        """The score of the number of words."""
        return Verdict(1.0 + 4.0 * min(1.0, len(words(reply)) / LONG))


@dataclass(frozen=True)
class NoContextJudge:
    """A judge that is shown the last message and the reply, and neither earlier turns nor what they revealed."""

    judge: Judge

    @property
    def name(self) -> str:
        """The judge's name, marked."""
        return f"{self.judge.name}, no context"

    async def score(
        self, persona: Persona, dialogue: Dialogue, reply: str, revealed: Sequence[Revealed] | None = None
    ) -> Verdict:
        """The judge's score of the reply to the last message alone."""
        return await self.judge.score(persona, dialogue[-1:], reply, ())


@dataclass(frozen=True)
class Rescoring:
    """Scores the stored dialogues `own`, of `turns` turns, again; no model answers."""

    scorer: Scorer
    own: Mapping[str, Conversation]
    turns: int

    async def case(self, persona: Persona) -> Played:
        """The dialogue of a case with the scorer's scores, as far as it was played."""
        if (tree := self.own.get(persona.id)) is None:
            return Played(None, _ended(persona))
        scored: dict[str, Node] = {}
        failure = None
        try:
            for node in replies_of(tree):
                dialogue = [Message(role=each.role, content=each.text) for each in tree.path_to(node.id)[:-1]]
                verdict = await self.scorer.score(persona, dialogue, node.text)
                scores = scores_of(verdict, self.scorer.name, empty="empty" in node.flags)
                scored[node.id] = node.model_copy(update={"scores": scores, "calls": (*node.calls, *verdict.calls)})
            failure = _ended(persona) if len(scored) < self.turns else None
        except CallError as error:
            failure = error
        if not scored:
            return Played(None, failure)
        last = max(place for place, node in enumerate(tree.nodes) if node.id in scored)
        nodes = tuple(scored.get(node.id, node) for node in tree.nodes[: last + 1] if not node.is_probe)
        kept = {node.id for node in nodes}
        path = tuple(name for name in tree.path if name in kept)
        return Played(tree.model_copy(update={"nodes": nodes, "path": path}), failure)


def _ended(persona: Persona) -> CallError:
    return CallError(f"case '{persona.id}': its dialogue ended early", "nothing stored")


def rescorer(control: str, judge: Judge) -> Scorer:
    """The judge of a control that scores stored replies again."""
    if control == SCRIPTED_JUDGE:
        return ScriptedJudge()
    return LengthJudge() if control == "length_judge" else NoContextJudge(judge)

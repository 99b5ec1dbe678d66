"""Users' records as paths of turns: chats, pairs of replies, prompts with a reply, and the transcripts of HH-RLHF."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aloe_jax.formats import keys
from aloe_jax.formats.keys import Tally, given
from aloe_jax.formats.written import written_messages
from aloe_jax.tree import markup
from aloe_jax.tree.schema import Message, Role, content_text

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}
_WEIGHTS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
_SPEAKER = re.compile(r"(?:^|\n\n)\s*(Human|Assistant):")
TRIMMED = "a prompt that differs from the dialogue's own in white space, written once"
DECODED = "messages that are written as text, read as messages"
SWAPPED = "a pair that prefers the reply called rejected, swapped"
CUT = "the end of a turn behind a message's text, cut off"
REPEATED_WORDS = 6  # of a prompt that both replies begin with; a shorter one may be repeated by chance


@dataclass(frozen=True)
class Turn:
    """A message of a record; `no_loss` if the record excludes it from training."""

    message: Message
    no_loss: bool = False


@dataclass(frozen=True)
class Pair:
    """Two whole paths, and the margin between their replies, None if the record states none."""

    chosen: list[Turn]
    rejected: list[Turn]
    margin: float | None


@dataclass(frozen=True)
class Reader:
    """Reads the record on a line; keys that are not read are counted in `tally`, and the repairs that it took are added
    to `repairs`. Methods raise ValueError with the reason for a broken record."""

    tally: Tally
    line: int
    repairs: set[str] = field(default_factory=set)

    def chat(self, record: Mapping[str, object]) -> list[Turn]:
        """The turns of a chat, or of a prompt with its reply."""
        name = next((name for name in keys.CHATS if given(record.get(name))), None)
        if name is None:
            return self._answered(record)
        said = self.messages(record[name], name)
        self._check_keys(record, (name, *keys.PROMPTS, *keys.SYSTEMS, *keys.LABELS))
        turns = _with_system(self._joined(self._prompt(record, ()), said, name), _system(record))
        _check_replies(turns, name)
        return turns

    def pair(self, record: Mapping[str, object]) -> Pair:
        """The two paths of a record with `chosen` and `rejected`: texts, messages or transcripts, with or without the
        prompt in front. Messages beside them are the prompt, or one of the two paths once more."""
        replies = {side: self._reply(record.get(side), side) for side in keys.SIDES}
        if isinstance(asked := record.get("prompt"), str) and _transcript(asked):
            replies = {side: [_stripped(turn) for turn in turns] for side, turns in replies.items()}
        stated, margin = _margin(record)
        used = (*keys.SIDES, *stated, *keys.CHATS, *keys.PROMPTS, *keys.INPUTS, *keys.SYSTEMS)
        self.tally.check(record, used, self.line)
        prompt = self._prompt(record, keys.INPUTS)
        name = next((name for name in keys.CHATS if given(record.get(name))), None)
        beside = self.messages(record[name], name) if name is not None else []
        if beside and not prompt and beside[-1].message.role == "user":
            prompt = beside
        _check_unrepeated(prompt, list(replies.values()))
        paths = [_with_system(self._joined(prompt, replies[side], side), _system(record)) for side in keys.SIDES]
        if beside and not any(_heads(beside, path) for path in paths):
            raise ValueError(f"'{name}' is the head of neither 'chosen' nor 'rejected'; remove it, or mend the record")
        for side, path in zip(keys.SIDES, paths, strict=True):
            if not path[-1].message.content.strip():
                raise ValueError(f"'{side}' ends with an empty reply; expected text")
        if margin is not None and margin < 0:
            self.repairs.add(SWAPPED)
        return Pair(paths[0], paths[1], margin)

    def label(self, record: Mapping[str, object], turns: Sequence[Turn]) -> bool | None:
        """Whether the reply at the end of a record's `turns` is a good one; None if the record does not say."""
        stated = {name: record[name] for name in keys.LABELS if record.get(name) not in (None, "")}
        said = {name: _yes_or_no(value) for name, value in stated.items()}
        for name, good in said.items():
            if good is None:
                raise ValueError(
                    f"'{name}' is {str(stated[name])[:40]!r}; expected true or 1 for a good reply, false or 0"
                )
            if turns[-1].message.role != "assistant":
                raise ValueError(f"'{name}' stands beside a dialogue that ends with no reply; expected the reply")
        if len(set(said.values())) > 1:
            raise ValueError(f"{' and '.join(map(repr, said))} contradict each other; expected one of them")
        return next(iter(said.values()), None)

    def _check_keys(self, record: Mapping[str, object], read: Sequence[str]) -> None:
        """Count the keys of a record without pairs that are not in `read`. Raises ValueError for one that would change
        the dialogue or says which replies are bad."""
        self.tally.check_verdicts(record, read)
        self.tally.check(record, read, self.line)

    def messages(self, value: object, name: str) -> list[Turn]:
        """The turns of a list of {"role", "content"} or {"from", "value"}, which may be written as text."""
        value = self._decoded(value)
        if not isinstance(value, list) or not value:
            raise ValueError(f"'{name}' is {type(value).__name__}; expected a list of messages with role and content")
        turns = []
        for position, entry in enumerate(value):
            where = f"'{name}' message {position}"
            if not isinstance(entry, dict):
                raise ValueError(f"{where} is {type(entry).__name__}; expected an object with role and content")
            self.tally.check_message(entry, where, self.line)
            role = _one(entry, keys.ROLES, where)
            known = _ROLES.get(role) if isinstance(role, str) else None
            if role is None:
                raise ValueError(f"{where} has no role, but {', '.join(map(repr, entry))}; expected role and content")
            if known is None:
                raise ValueError(f"{where} has role {str(role)[:40]!r}; expected one of {', '.join(_ROLES)}")
            if known == "system" and position:
                raise ValueError(f"{where} is a system message; expected it first")
            try:
                text = content_text(_one(entry, keys.CONTENTS, where))
            except ValueError as error:
                raise ValueError(f"{where} has {error}") from None
            trained = _trained(entry, where)
            if trained and known != "assistant":
                self.tally.count(f"weights of {known} messages", trained, self.line)
            no_loss = known == "assistant" and trained is False
            turns.append(self._turn(known, text, where, no_loss))
        return turns

    def _turn(self, role: Role, text: str, where: str, no_loss: bool = False) -> Turn:
        """A turn whose text holds nothing that a chat format writes around it. Raises ValueError for a rendered one."""
        found = markup.opening(text) or (markup.reply_header(text) if role != "assistant" else None)
        if found is not None:
            raise ValueError(
                f"{where} is rendered already: it holds '{found}', which a chat template writes; expected the texts "
                "of the messages alone"
            )
        kept = markup.without_end(text)
        if kept != text:
            self.repairs.add(CUT)
        return Turn(Message(role=role, content=kept), no_loss)

    def _decoded(self, value: object) -> object:
        """The value, or the messages that it is if they are written as text."""
        found = written_messages(value) if isinstance(value, str) else None
        if found is None:
            return value
        self.repairs.add(DECODED)
        return found

    def _answered(self, record: Mapping[str, object]) -> list[Turn]:
        """A prompt with its reply, such as `instruction`, `input` and `output`."""
        self._check_keys(record, (*keys.PROMPTS, *keys.INPUTS, *keys.SYSTEMS, *keys.REPLIES, *keys.LABELS))
        name = next(name for name in keys.REPLIES if given(record.get(name)))
        _one(record, keys.REPLIES, "the record")
        prompt, reply = self._prompt(record, keys.INPUTS), self._reply(record[name], name)
        turns = _with_system(self._joined(prompt, reply, name), _system(record))
        _check_replies(turns, name)
        return turns

    def _prompt(self, record: Mapping[str, object], inputs: Sequence[str]) -> list[Turn]:
        """The turns before the reply; none if no key holds them. `inputs` are the keys that are joined to a text."""
        value = self._decoded(_one(record, keys.PROMPTS, "the record"))
        extra = _one(record, inputs, "the record")
        if given(extra):
            if not isinstance(extra, str) or not isinstance(value or "", str):
                raise ValueError("'input' or 'context' stands beside messages; expected texts that can be joined")
            value = f"{value}\n{extra}" if given(value) else extra
        if not given(value):
            return []
        if isinstance(value, str):
            return _transcript(value) or [self._turn("user", value, "the prompt")]
        return self.messages([value] if isinstance(value, dict) else value, "prompt")

    def _reply(self, value: object, name: str) -> list[Turn]:
        """The turns of a reply, or of the whole dialogue that ends with it."""
        value = self._decoded(value)
        if isinstance(value, str):
            return _transcript(value) or [self._turn("assistant", value, f"'{name}'")]
        return self.messages([value] if isinstance(value, dict) else value, name)

    def _joined(self, prompt: list[Turn], rest: list[Turn], name: str) -> list[Turn]:
        """The prompt and what follows it. Where `rest` is a whole dialogue, the prompt has to be its head, and is
        written once, as the dialogue has it."""
        if not prompt:
            return rest
        body = _body(rest)
        if not body or body[0].message.role == "assistant":
            if len(body) < len(rest):
                raise ValueError(f"'{name}' begins with a system message and a reply; expected the prompt between them")
            if prompt[-1].message.role == "assistant":
                raise ValueError(
                    f"the prompt ends with an assistant message, and so does '{name}' begin; expected turns"
                )
            return prompt + rest
        if not _heads(prompt, rest):
            raise ValueError(
                f"the prompt is not the head of the dialogue in '{name}'; expected it once more, or no prompt"
            )
        if _body(prompt) != body[: len(_body(prompt))]:
            self.repairs.add(TRIMMED)
        own = prompt[: len(prompt) - len(_body(prompt))] if len(body) == len(rest) else []
        return own + rest


def _body(turns: Sequence[Turn]) -> Sequence[Turn]:
    """The turns without their system message."""
    return turns[1:] if turns and turns[0].message.role == "system" else turns


def _heads(head: Sequence[Turn], path: Sequence[Turn]) -> bool:
    """Whether a path begins with `head`, white space aside; a system message counts only if both have one."""
    both = len(_body(head)) < len(head) and len(_body(path)) < len(path)
    first, second = (head, path) if both else (_body(head), _body(path))
    return len(first) <= len(second) and all(map(_same, first, second))


def _same(first: Turn, second: Turn) -> bool:
    a, b = first.message, second.message
    return a.role == b.role and a.content.split() == b.content.split()


def _with_system(turns: list[Turn], system: str | None) -> list[Turn]:
    """The turns after the record's system message."""
    if system is None:
        return turns
    first = Turn(Message(role="system", content=system))
    if len(_body(turns)) < len(turns):
        if not _same(first, turns[0]):
            raise ValueError("the record and its messages have different system messages; expected one")
        return turns
    return [first, *turns]


def _stripped(turn: Turn) -> Turn:
    """The turn without the space that separates it from its "Assistant:"."""
    return Turn(Message(role=turn.message.role, content=turn.message.content.strip()), turn.no_loss)


def _system(record: Mapping[str, object]) -> str | None:
    value = _one(record, keys.SYSTEMS, "the record")
    if not given(value):
        return None
    if not isinstance(value, str):
        raise ValueError(f"the system message is {type(value).__name__}; expected text")
    return value


def _one(record: Mapping[str, object], names: Sequence[str], where: str) -> object:
    """The value under one of several names for the same thing. Raises ValueError if two differ."""
    found = [(name, record[name]) for name in names if given(record.get(name))]
    for name, value in found[1:]:
        if value != found[0][1]:
            raise ValueError(f"{where} has '{found[0][0]}' and '{name}' with different values; expected one of them")
    if found:
        return found[0][1]
    return next((record[name] for name in names if record.get(name) is not None), None)


def _trained(entry: Mapping[str, object], where: str) -> bool | None:
    """Whether a message is trained on: true, 1 and their texts say yes, false and 0 say no; None if nothing does."""
    found = set()
    for name in keys.WEIGHTS:
        value = entry.get(name)
        if value is None:
            continue
        weight = _yes_or_no(value)
        if weight is None:
            raise ValueError(f"{where} has {name} {str(value)[:40]!r}; expected true or 1, false or 0")
        found.add(weight)
    if len(found) > 1:
        raise ValueError(f"{where} has weights that contradict each other; expected one of {', '.join(keys.WEIGHTS)}")
    return found.pop() if found else None


def _yes_or_no(value: object) -> bool | None:
    """What true, 1, false, 0 and their texts say; None for anything else."""
    return _WEIGHTS.get(str(value).strip().lower()) if isinstance(value, str | int | float) else None


def _margin(record: Mapping[str, object]) -> tuple[tuple[str, ...], float | None]:
    """The keys that state the margin of a pair, and the margin 2p - 1; none and None without any.

    Of two scores p is the Bradley-Terry probability, the logistic function of their difference d, so that
    2p - 1 = tanh(d / 2).
    """
    if record.get(keys.MARGIN) is not None:
        return (keys.MARGIN,), _number(record[keys.MARGIN], keys.MARGIN, 1.0)
    if any(record.get(name) is None for name in keys.SCORES):
        return (), None
    chosen, rejected = (_number(record[name], name, math.inf) for name in keys.SCORES)
    return keys.SCORES, math.tanh((chosen - rejected) / 2)


def _number(value: object, name: str, most: float) -> float:
    """A finite number from -most to most, also as text."""
    number = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            number = float(value)
    if not (math.isfinite(number) and abs(number) <= most):
        bounds = f" from {-most:g} to {most:g}" if math.isfinite(most) else ""
        raise ValueError(f"'{name}' is {repr(value)[:40]}; expected a number{bounds}")
    return number


def _check_replies(turns: Sequence[Turn], name: str) -> None:
    """Raise ValueError for a chat without replies, or with an empty one that would be trained on."""
    if not any(turn.message.role == "assistant" for turn in turns):
        raise ValueError(f"'{name}' has no assistant message; expected a reply to train on")
    if not any(turn.message.role == "user" for turn in turns):
        raise ValueError(f"'{name}' has no user message before the reply; expected a prompt")
    for position, turn in enumerate(turns):
        if turn.message.role == "assistant" and not turn.no_loss and not turn.message.content.strip():
            raise ValueError(f"'{name}' message {position} is an empty reply; expected text, or \"weight\": 0")


def _check_unrepeated(prompt: Sequence[Turn], replies: Sequence[Sequence[Turn]]) -> None:
    """Raise ValueError if both replies begin with the prompt's own text: they are prompt and reply in one."""
    asked = prompt[-1].message.content.strip() if prompt else ""
    if len(asked.split()) >= REPEATED_WORDS and all(
        reply[0].message.role == "assistant" and reply[0].message.content.lstrip().startswith(asked)
        for reply in replies
    ):
        raise ValueError("'chosen' and 'rejected' both begin with the text of the prompt; expected the replies alone")


def _transcript(text: str) -> list[Turn]:
    """The turns of a text that begins with "Human:" and marks each turn so, as in HH-RLHF; none for another text. An
    open "Assistant:" at the end belongs to the reply."""
    pieces = _SPEAKER.split(text.strip())
    if pieces[0].strip() or len(pieces) < 5 or pieces[1] != "Human" or "Assistant" not in pieces[1::2]:
        return []
    spoken = zip(pieces[1::2], pieces[2::2], strict=True)
    turns = [Turn(Message(role=_ROLES[name.lower()], content=said.strip())) for name, said in spoken]
    last = turns[-1].message
    return turns[:-1] if last.role == "assistant" and not last.content else turns

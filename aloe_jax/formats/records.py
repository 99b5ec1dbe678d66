"""Merges chats and prompt/chosen/rejected records into trees, in which common prefixes are stored once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Conversation, Message, Node, Preference

_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Turn:
    """A message of a record; `no_loss` if the record excludes it from training (`"weight": 0`)."""

    message: Message
    no_loss: bool = False


@dataclass
class _Tree:
    nodes: list[Node] = field(default_factory=list)
    children: dict[tuple[str | None, Message], int] = field(default_factory=dict)
    preferences: dict[tuple[str, str], Preference] = field(default_factory=dict)

    def add(self, turns: Sequence[Turn]) -> list[str]:
        """Add a path, with new nodes where there is no equal one; returns its node ids. A reply is excluded from the
        loss only if every record excludes it."""
        path: list[str] = []
        for turn in turns:
            key = (path[-1] if path else None, turn.message)
            if key not in self.children:
                self.children[key] = len(self.nodes)
                self.nodes.append(
                    Node(
                        id=f"n{len(self.nodes)}",
                        parent=key[0],
                        role=turn.message.role,
                        text=turn.message.content,
                        flags=("no_loss",) if turn.no_loss else (),
                    )
                )
            index = self.children[key]
            if self.nodes[index].flags and not turn.no_loss:
                self.nodes[index] = self.nodes[index].model_copy(update={"flags": ()})
            path.append(self.nodes[index].id)
        return path


@dataclass
class Forest:
    """Trees that are merged from records. Records share a tree if their system message and first user message are
    equal: with the system message alone a whole data set would be one tree.

    `messages` and `characters` count the input, each path separately; `equal_pairs` counts pairs with equal sides.
    """

    messages: int = 0
    characters: int = 0
    equal_pairs: int = 0
    _trees: dict[tuple[Message, ...], _Tree] = field(default_factory=dict)

    def add_chat(self, turns: Sequence[Turn]) -> None:
        """Add a chat: one path, whose replies are all trained on unless they are excluded."""
        self._tree(turns).add(self._counted(turns))

    def add_pair(self, chosen: Sequence[Turn], rejected: Sequence[Turn], margin: float) -> None:
        """Add two whole paths whose first difference is a reply, and the preference between these two replies.

        Raises ValueError with the reason if they differ elsewhere.
        """
        fork = next((at for at, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
        if fork is None:
            if len(chosen) != len(rejected):
                raise ValueError("'chosen' and 'rejected' differ only in length; expected two different replies")
            self.equal_pairs += 1
            return
        roles = {chosen[fork].message.role, rejected[fork].message.role}
        if roles != {"assistant"}:
            raise ValueError(
                f"'chosen' and 'rejected' differ first in a message of role {'/'.join(sorted(roles))}; expected two "
                "different assistant messages after the same history"
            )
        tree = self._tree(chosen)
        pair = (tree.add(self._counted(chosen))[fork], tree.add(self._counted(rejected))[fork])
        tree.preferences.setdefault(pair, Preference(chosen=pair[0], rejected=pair[1], margin=margin))

    def conversations(self) -> Iterator[Conversation]:
        """The trees, in the order of their first record."""
        for number, tree in enumerate(self._trees.values(), start=1):
            yield Conversation(
                id=f"tree-{number:06d}", nodes=tuple(tree.nodes), preferences=tuple(tree.preferences.values())
            )

    def sharing(self) -> tuple[float, float]:
        """The ratios of the records' messages and characters to those of the trees; 1.0 if there are none."""
        nodes = [node for tree in self._trees.values() for node in tree.nodes]
        return self.messages / max(len(nodes), 1), self.characters / max(sum(len(node.text) for node in nodes), 1)

    def _tree(self, turns: Sequence[Turn]) -> _Tree:
        root = tuple(turn.message for turn in turns[: 2 if turns[0].message.role == "system" else 1])
        return self._trees.setdefault(root, _Tree())

    def _counted(self, turns: Sequence[Turn]) -> Sequence[Turn]:
        self.messages += len(turns)
        self.characters += sum(len(turn.message.content) for turn in turns)
        return turns


def read_messages(value: object, name: str) -> list[Turn]:
    """The turns of a list of {"role", "content"}. Raises ValueError naming the broken entry of field `name`."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"'{name}' is {type(value).__name__}; expected a list of messages with role and content")
    turns = []
    for position, entry in enumerate(value):
        entry = entry if isinstance(entry, dict) else {}
        role = entry.get("role")
        if role not in _ROLES:
            raise ValueError(f"'{name}' message {position} has role {role!r}; expected one of {', '.join(_ROLES)}")
        if role == "system" and position:
            raise ValueError(f"'{name}' message {position} is a system message; expected it first")
        text = _content(entry.get("content"))
        if text is None:
            raise ValueError(f"'{name}' message {position} has content that is not text")
        turns.append(Turn(Message(role=role, content=text), no_loss=role == "assistant" and entry.get("weight") == 0))
    return turns


def read_pair(record: Mapping[str, object]) -> tuple[list[Turn], list[Turn], float]:
    """The two whole paths of a prompt/chosen/rejected record, and its margin (1 if it names none).

    The prompt is a string or messages, or missing if chosen and rejected are whole conversations; these are strings or
    messages, with or without the prompt in front. Raises ValueError with the reason for a broken record.
    """
    prompt: list[Turn] = []
    if record.get("prompt") is not None:
        prompt = _as_turns(record["prompt"], "prompt", "user")
    paths = []
    for name in ("chosen", "rejected"):
        turns = _as_turns(record.get(name), name, "assistant")
        paths.append(turns if turns[: len(prompt)] == prompt else prompt + turns)
    margin = record.get("margin")
    margin = 1.0 if margin is None else margin
    if not isinstance(margin, int | float) or not -1 <= margin <= 1:
        raise ValueError(f"'margin' is {margin!r}; expected a number from -1 to 1")
    return paths[0], paths[1], float(margin)


def _as_turns(value: object, name: str, role: str) -> list[Turn]:
    return read_messages([{"role": role, "content": value}] if isinstance(value, str) else value, name)


def _content(value: object) -> str | None:
    """The text of a message's content: a string, or a list of text parts; None if it contains anything else."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else [None]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    known = [text for text in texts if isinstance(text, str)]
    return "".join(known) if len(known) == len(texts) else None


def add_record(forest: Forest, record: object, where: str) -> None:
    """Add a chat or a preference record to `forest`. Raises InputError naming `where` if it is neither or broken."""
    try:
        if isinstance(record, dict) and record.get("messages") is not None:
            forest.add_chat(read_messages(record["messages"], "messages"))
        elif isinstance(record, dict) and "chosen" in record and "rejected" in record:
            forest.add_pair(*read_pair(record))
        else:
            raise ValueError("expected an object with 'messages', or with 'chosen' and 'rejected'")
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None

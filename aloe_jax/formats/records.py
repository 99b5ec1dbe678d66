"""Merges chats and prompt/chosen/rejected records into trees, in which common prefixes are stored once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from aloe_jax.formats import keys
from aloe_jax.formats.dialogue import Reader, Turn
from aloe_jax.formats.keys import given
from aloe_jax.tree.schema import Conversation, Message, Node, Preference

LAYOUTS = "expected an object with 'messages', or with 'chosen' and 'rejected', or with a prompt and its reply"


@dataclass
class _Tree:
    nodes: list[Node] = field(default_factory=list)
    children: dict[tuple[str | None, Message], int] = field(default_factory=dict)
    margins: dict[tuple[str, str], list[float]] = field(default_factory=dict)  # those stated, by (chosen, rejected)
    labels: dict[str, set[bool]] = field(default_factory=dict)  # those stated, by node

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

    def labelled(self) -> Iterator[Node]:
        """The nodes, each with the label that all records which state one agree on."""
        for node in self.nodes:
            said = self.labels.get(node.id, set())
            yield node.model_copy(update={"label": next(iter(said))}) if len(said) == 1 else node

    def preferences(self) -> Iterator[Preference]:
        """The preferences, in the order of their first record."""
        for (chosen, rejected), margins in self.margins.items():
            for margin in margins or [1.0]:
                yield Preference(chosen=chosen, rejected=rejected, margin=margin)


@dataclass
class Forest:
    """Trees that are merged from records. Records share a tree if they are equal up to their first user message: with
    the system message or a greeting alone a whole data set would be one tree. Chats, labelled replies and pairs share
    none, since in a tree with preferences or labels nothing else is trained on in SFT.

    `messages` and `characters` count the input, each path separately; `equal_pairs` counts pairs with equal sides.
    """

    messages: int = 0
    characters: int = 0
    equal_pairs: int = 0
    _trees: dict[tuple[str | Message, ...], _Tree] = field(default_factory=dict)

    def add_chat(self, turns: Sequence[Turn], label: bool | None = None) -> None:
        """Add a chat: one path, whose replies are all trained on unless they are excluded; with the label of its last
        reply only that one is."""
        tree = self._tree(turns, "chat" if label is None else "labels")
        path = tree.add(self._counted(turns))
        if label is not None:
            tree.labels.setdefault(path[-1], set()).add(label)

    def add_pair(self, chosen: Sequence[Turn], rejected: Sequence[Turn], margin: float | None) -> None:
        """Add two whole paths whose first difference is a reply, and the preference between these two replies. Each
        margin that the records state for a pair is kept; 1 if they state none.

        Raises ValueError with the reason if they differ elsewhere.
        """
        pairs = zip(chosen, rejected, strict=False)
        fork = next((at for at, (a, b) in enumerate(pairs) if a.message != b.message), None)
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
        if not any(turn.message.role == "user" for turn in chosen[:fork]):
            raise ValueError(
                f"the pair has no prompt: no user message stands before its replies; expected one of "
                f"{', '.join(keys.PROMPTS)}, or whole dialogues"
            )
        tree = self._tree(chosen, "pairs")
        pair = (tree.add(self._counted(chosen))[fork], tree.add(self._counted(rejected))[fork])
        stated = tree.margins.setdefault((pair[0], pair[1]), [])
        if margin is not None and margin not in stated:
            stated.append(margin)

    def conversations(self) -> Iterator[Conversation]:
        """The trees, in the order of their first record."""
        for number, tree in enumerate(self._trees.values(), start=1):
            nodes, preferences = tuple(tree.labelled()), tuple(tree.preferences())
            yield Conversation(id=f"tree-{number:06d}", nodes=nodes, preferences=preferences)

    @property
    def contradicted(self) -> int:
        """The replies that records call good and bad, which have no label."""
        return sum(len(said) > 1 for tree in self._trees.values() for said in tree.labels.values())

    def sharing(self) -> tuple[float, float]:
        """The ratios of the records' messages and characters to those of the trees; 1.0 if there are none."""
        nodes = [node for tree in self._trees.values() for node in tree.nodes]
        return self.messages / max(len(nodes), 1), self.characters / max(sum(len(node.text) for node in nodes), 1)

    def _tree(self, turns: Sequence[Turn], kind: str) -> _Tree:
        first = next((at for at, turn in enumerate(turns) if turn.message.role == "user"), 0)
        root: tuple[str | Message, ...] = (kind, *(turn.message for turn in turns[: first + 1]))
        return self._trees.setdefault(root, _Tree())

    def _counted(self, turns: Sequence[Turn]) -> Sequence[Turn]:
        self.messages += len(turns)
        self.characters += sum(len(turn.message.content) for turn in turns)
        return turns


def add_record(forest: Forest, record: object, reader: Reader) -> None:
    """Add a user's record of any layout to `forest`. Raises ValueError with the reason if it is of no known layout or
    broken."""
    if not isinstance(record, dict):
        raise ValueError(f"the record is {type(record).__name__}; {LAYOUTS}")
    record = _with_sides(record)
    sides = [side for side in keys.SIDES if record.get(side) is not None]
    if len(sides) == 1:
        raise ValueError(f"the record has {sides[0]!r} alone; expected 'chosen' and 'rejected'")
    if sides:
        pair = reader.pair(record)
        forest.add_pair(pair.chosen, pair.rejected, pair.margin)
        return
    if not any(given(record.get(name)) for name in keys.CHATS + keys.REPLIES):
        for name in keys.CHATS:
            if record.get(name) is not None:
                reader.messages(record[name], name)
        raise ValueError(f"{LAYOUTS}; found {_found(record)}")
    turns = reader.chat(record)
    forest.add_chat(turns, reader.label(record, turns))


def _with_sides(record: dict[str, object]) -> dict[str, object]:
    """A record with both sides of the pair that it is if a key of `keys.REJECTED` stands beside a reply or messages;
    any other record as it is."""
    name = next((name for name in keys.REJECTED if given(record.get(name))), None)
    chosen = next((name for name in keys.CHATS + keys.REPLIES if given(record.get(name))), None)
    if name is None or chosen is None or any(record.get(side) is not None for side in keys.SIDES):
        return record
    good, bad = record[chosen], record[name]
    if chosen in keys.CHATS and isinstance(bad, str):
        if not isinstance(good, list):
            raise ValueError(f"'{name}' stands beside '{chosen}', which is no list; expected a list of messages")
        bad = [*good[:-1], {"role": "assistant", "content": bad}]
    rest = {key: value for key, value in record.items() if key not in (chosen, name)}
    return {**rest, "chosen": good, "rejected": bad}


def _found(record: dict[str, object]) -> str:
    """The keys of a record, and where lists of records may be inside."""
    inside = [
        name for name, value in record.items() if isinstance(value, list) and value and isinstance(value[0], dict)
    ]
    hint = f" (if the records are the list '{inside[0]}', make that list the file)" if inside else ""
    return (", ".join(f"'{name}'" for name in list(record)[:12]) or "no keys") + hint

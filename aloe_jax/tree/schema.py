"""The record of one conversation tree: a line of `trees.jsonl`.

Nodes are messages, parents come before their children, and siblings under one node are alternatives for the same turn.
An ordinary chat is a tree without branches; a prompt/chosen/rejected record is a tree with one fork.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, TypeVar

from etils import epath
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from aloe_jax import files
from aloe_jax.errors import InputError

SCHEMA_VERSION: Literal[1] = 1
PROBE = "probe"  # flag of a question about what the model has learned, and of its answers (see `probe`)
Role = Literal["system", "user", "assistant"]
R = TypeVar("R", bound="Record")
TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class Record(BaseModel):
    """Base of every stored record: unknown keys and numbers that are not finite are errors, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Item(Record):
    """One numbered fact or trait of a persona."""

    id: str
    text: str


class Persona(Record):
    """A profile (decides topics) paired with a personality (decides style); paper, section 1."""

    id: str
    profile: str = Field(description="id of the profile; benchmark cases are crossed over it")
    personality: str = Field(description="id of the personality; benchmark cases are crossed over it")
    facts: tuple[Item, ...] = ()
    traits: tuple[Item, ...] = ()


class Belief(Record):
    """A fact or trait that the user has shown so far."""

    id: str
    node: str = Field(description="user node where it showed first")


class Score(Record):
    judge: str
    criterion: str
    value: float | None


class Node(Record):
    """One message. `token_ids` are present where our engine sampled it; they include the end-of-turn token unless
    `flags` holds `truncated`, and are trained on as they are, never re-tokenised."""

    id: str
    parent: str | None
    role: Role
    text: str
    condition: str | None = Field(default=None, description="the kind of the reply: hinted, plain, off_topic, ...")
    belief: tuple[Belief, ...] | None = None
    token_ids: tuple[TokenId, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    tokenizer: str | None = Field(default=None, description="hash of the tokenizer that `token_ids` belong to")
    scores: tuple[Score, ...] = ()
    value: float | None = None
    advantage: float | None = Field(
        default=None, description="how much better the reply is than its siblings, in spreads of the value"
    )
    policy: int | None = Field(
        default=None, ge=0, description="updates that the policy had behind it when it sampled the reply"
    )
    label: bool | None = Field(default=None, description="whether the reply is a good one, where a record says so")
    calls: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def is_probe(self) -> bool:
        """Whether it belongs to a probe: beside the dialogue, no turn of it."""
        return PROBE in self.flags


class Preference(Record):
    """`chosen` is preferred to `rejected` with `margin` = 2p - 1, p the judge's probability, mean of both orders.

    A negative margin prefers the other reply: it is read as the swapped pair with the positive margin, so `margin` is
    never negative and means the same to training, viewer, report and data set. Zero is a tie.
    """

    chosen: str
    rejected: str
    margin: float = Field(default=1.0, ge=-1.0, le=1.0)
    judge: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _towards_chosen(cls, values: object) -> object:
        margin = values.get("margin") if isinstance(values, dict) else None
        if not isinstance(values, dict) or not isinstance(margin, int | float) or not -1 <= margin < 0:
            return values
        swapped = {"chosen": values.get("rejected"), "rejected": values.get("chosen"), "margin": -margin}
        return {**values, **swapped}


class Message(Record):
    """A message without its place in a tree: the input of chat templates, roles and servers."""

    role: Role
    content: str


class SampledMessage(Message):
    """A reply as our engine sampled it: its tokens need not be those that its text is tokenised to, and what follows
    was sampled after them. The fields are those of its `Node`."""

    token_ids: tuple[TokenId, ...]
    tokenizer: str
    flags: tuple[str, ...] = ()


def message_of(node: Node) -> Message:
    """A node as a message, with its token ids if it has some."""
    if node.token_ids is None or node.tokenizer is None:
        return Message(role=node.role, content=node.text)
    return SampledMessage(
        role=node.role, content=node.text, token_ids=node.token_ids, tokenizer=node.tokenizer, flags=node.flags
    )


def content_text(value: object) -> str:
    """The text of a message's content: a string, or a list of text parts, which chat templates write one after the
    other with nothing between them. Raises ValueError for any other content, such as an image."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise ValueError(_NO_TEXT)
    return "".join(map(_part_text, value))


_NO_TEXT = 'content that is not text; expected a string or a list of {"type": "text", "text": ...} parts'
_PART_KEYS = ("type", "text", "cache_control", "annotations")


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else None
    if not isinstance(part, dict) or not isinstance(text, str):
        raise ValueError(_NO_TEXT)
    if (key := next((key for key, value in part.items() if value and key not in _PART_KEYS), None)) is not None:
        raise ValueError(f"content with a part that holds '{key}'; expected text alone")
    return text


class Conversation(Record):
    """One conversation tree. Raises `ValueError` (as `ValidationError`) for a broken structure."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str
    persona: Persona | None = None
    nodes: tuple[Node, ...] = Field(min_length=1)
    preferences: tuple[Preference, ...] = ()
    path: tuple[str, ...] = ()

    @field_validator("schema_version", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return None if isinstance(value, bool) else value  # true equals 1

    @model_validator(mode="after")
    def _check(self) -> Conversation:
        seen: dict[str, Node] = {}
        for node in self.nodes:
            if node.id in seen:
                raise ValueError(f"node id '{node.id}' is used twice")
            if node.parent is not None and node.parent not in seen:
                raise ValueError(f"node '{node.id}' has unknown parent '{node.parent}' (parents stand before children)")
            if node.role == "system" and node.parent is not None:
                raise ValueError(f"system node '{node.id}' must be first, but has parent '{node.parent}'")
            own = {"a label": node.label, "an advantage": node.advantage, "a policy": node.policy}
            if node.role != "assistant" and (what := next((name for name in own if own[name] is not None), None)):
                raise ValueError(f"node '{node.id}' of role {node.role} has {what}; expected one on replies alone")
            if node.parent is not None and seen[node.parent].is_probe and not node.is_probe:
                raise ValueError(
                    f"node '{node.id}' has the probe '{node.parent}' above it; expected the flag '{PROBE}'"
                )
            if node.is_probe and node.label is not None:
                raise ValueError(f"the probe '{node.id}' has a label; expected none")
            if node.logprobs is not None and len(node.logprobs) != len(node.token_ids or ()):
                raise ValueError(
                    f"node '{node.id}' has {len(node.logprobs)} logprobs for {len(node.token_ids or ())} token_ids"
                )
            seen[node.id] = node

        def reply(name: str) -> Node:
            if name not in seen or seen[name].role != "assistant":
                raise ValueError(f"preference names '{name}', which is not an assistant node")
            if seen[name].is_probe:
                raise ValueError(f"preference names the probe '{name}'; expected a reply of the dialogue")
            return seen[name]

        for preference in self.preferences:
            chosen, rejected = reply(preference.chosen), reply(preference.rejected)
            if chosen is rejected:
                raise ValueError(f"preference compares node '{preference.chosen}' with itself")
            if chosen.parent != rejected.parent:
                raise ValueError(
                    f"preference compares '{preference.chosen}' and '{preference.rejected}', which are not siblings"
                )
        for name in self.path:
            if name not in seen:
                raise ValueError(f"path names unknown node '{name}'")
            if seen[name].is_probe:
                raise ValueError(f"path names the probe '{name}'; expected messages of the dialogue")
        return self

    def node(self, node_id: str) -> Node:
        """The node with that id; KeyError if there is none."""
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise KeyError(node_id)

    def path_to(self, node_id: str) -> list[Node]:
        """Nodes from the first message down to `node_id`, inclusive."""
        by_id = {node.id: node for node in self.nodes}
        path = [by_id[node_id]]
        while path[-1].parent is not None:
            path.append(by_id[path[-1].parent])
        return path[::-1]

    @property
    def dialogue(self) -> tuple[Node, ...]:
        """The messages of the dialogue and its branches: all nodes but probes."""
        return tuple(node for node in self.nodes if not node.is_probe)

    def replies(self) -> list[Node]:
        """The assistant nodes of the dialogue in file order; answers of probes are none of them."""
        return [node for node in self.dialogue if node.role == "assistant"]


def parse(cls: type[R], line: str, where: str, strict: bool = True) -> R:
    """One JSON line as a record; unless `strict`, as for files that people write, its fields decide what is read from
    text, and no key may stand twice.

    Raises InputError naming `where` (file and line) and the first broken field.
    """
    if not strict:
        files.parse_json(line, where, finite=False)  # refuses a key that stands twice
    try:
        return cls.model_validate_json(line, strict=strict or None)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            files.parse_json(line, where)  # has more to say about what is wrong
        found = f", found {str(first['input'])[:80]!r}" if first["loc"] else ""
        raise InputError(f"{where}: {first_fault(error)}{found}") from None


def first_fault(error: ValidationError) -> str:
    """The first broken field of a record, and what is wrong with it."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    return f"{f'field {field}: ' if field else ''}{message}"


def read_trees(path: epath.PathLike) -> Iterator[Conversation]:
    """Conversations of a `trees.jsonl`, one at a time.

    Raises InputError for a missing file and for the first broken line, with its number, and for an id used twice.
    """
    seen: set[str] = set()
    for number, line in files.lines(path):
        tree = parse(Conversation, line, f"{path} line {number}")
        if tree.id in seen:
            raise InputError(f"{path} line {number}: conversation id '{tree.id}' is used twice")
        seen.add(tree.id)
        yield tree


def read_personas(path: epath.PathLike) -> list[Persona]:
    """Personas of a `personas.jsonl`. Raises InputError as `read_trees` does."""
    return [parse(Persona, line, f"{path} line {number}") for number, line in files.lines(path)]


def dump(record: Record) -> str:
    """A record as one JSON line, fields at their default left out; a conversation always states its schema version."""
    data = record.model_dump(mode="json", exclude_defaults=True)
    if isinstance(record, Conversation):
        data = {"schema_version": SCHEMA_VERSION, **data}
    return files.json_line(data)


def write_records(path: epath.PathLike, records: Iterable[Record]) -> int:
    """Write one JSON object per line, atomically; returns the number of lines."""
    return files.write_lines(path, (dump(record) for record in records))

"""The prefix trie of a conversation tree: every token sequence that a model computes, shared parts once.

For each reply the prompt P is the template rendered over its path with the generation prompt, and the reply is the text
that the rendered path adds to P, up to and including the first end-of-turn token. Cuts lie after each generation prompt
and after each end of turn. The piece between two cuts is tokenised in one call, so a path is the concatenation of its
pieces and no text is tokenised across a cut. Equal pieces along a path merge. Where a template rewrites history (drops
thinking, moves the system prompt) the piece differs, so the trie branches there by itself, without loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Conversation, Message, Node
from aloe_jax.tree.template import ChatFormat, without_thinking

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """A run of tokens that paths share as a whole. `parent` is the index of the piece before it, -1 at a root."""

    parent: int
    tokens: Tokens


@dataclass(frozen=True)
class ReplySpan:
    """The place of one assistant message: its tokens are those of `piece`.

    `node` is an index into the tree's nodes, `turn` counts assistant messages on its path from 1 (including those cut
    from the left; 0 for the answer of a probe, which is no turn), `group` is common to the replies under one parent
    node, `turns_cut` is the number of turns cut from the left of its path.
    """

    node: int
    piece: int
    turn: int
    group: int
    turns_cut: int = 0


@dataclass(frozen=True)
class Trie:
    """Pieces (parents before children) and replies (in file order) of one conversation tree.

    `path_tokens` is the sum of the replies' path lengths, the cost of one sequence per reply; `turns_cut` is the number
    of turns cut from the left, summed over the replies.
    """

    pieces: list[Piece]
    replies: list[ReplySpan]
    path_tokens: int
    turns_cut: int

    @property
    def tree_tokens(self) -> int:
        """Number of tokens in the trie."""
        return sum(len(piece.tokens) for piece in self.pieces)

    @property
    def sharing(self) -> float:
        """The ratio of the paths' tokens to the tree's; 1.0 for a tree without replies."""
        return self.path_tokens / self.tree_tokens if self.pieces else 1.0

    def path(self, piece: int) -> list[int]:
        """Indices of the pieces from the root down to `piece`, inclusive."""
        found = []
        while piece >= 0:
            found.append(piece)
            piece = self.pieces[piece].parent
        return found[::-1]

    def path_ids(self, piece: int) -> list[int]:
        """Token ids from the root to the end of `piece`."""
        return [token for index in self.path(piece) for token in self.pieces[index].tokens]


def build_trie(
    tree: Conversation,
    chat: ChatFormat,
    max_tokens: int | None = None,
    overlong: Literal["cut", "error"] = "cut",
) -> Trie:
    """Render, cut, tokenise and merge all replies of `tree`.

    A path longer than `max_tokens` loses whole turns (a user message and its reply) from its left, never the system
    message; siblings lose the same turns, so that they are compared after the same history. Stored token ids are used
    where the node's tokenizer hash is ours, for the reply and, where the template leaves it unchanged, in history.

    Raises InputError naming conversation and node if the template refuses the messages, if a reply cannot be told from
    its prompt, if stored ids are broken, or if a path is too long and `overlong` is "error" or no turn can be cut.
    """
    if overlong not in ("cut", "error"):
        raise InputError(f"overlong is '{overlong}'; expected cut or error")
    return _Builder(tree, chat, max_tokens, overlong).build()


def dialogue_ids(dialogue: Sequence[Message], chat: ChatFormat) -> list[int]:
    """The prompt of the next reply to a dialogue, as training has it: replies in it that were sampled keep their token
    ids. InputError as `build_trie` raises it."""
    nodes = [
        Node(
            id=str(place),
            parent=str(place - 1) if place else None,
            role=message.role,
            text=message.content,
            **(message.model_dump(include={"token_ids", "tokenizer", "flags"})),
        )
        for place, message in enumerate(dialogue)
    ]
    end = (min(chat.tokenizer.end_of_turn_ids),)
    reply = Node(
        id="reply", parent=nodes[-1].id, role="assistant", text="", token_ids=end, tokenizer=chat.tokenizer.hash
    )
    trie = build_trie(Conversation(id="dialogue", nodes=(*nodes, reply)), chat)
    return trie.path_ids(trie.pieces[trie.replies[-1].piece].parent)


@dataclass(frozen=True)
class _Rendered:
    """One reply as the template renders it. `text` is the text of its piece; `full` ends with the first end of turn.
    Both are empty for sampled ids behind a prompt that begins thinking, which the template does not render."""

    prompt: str
    text: str
    full: str


@dataclass
class _Builder:
    tree: Conversation
    chat: ChatFormat
    max_tokens: int | None
    overlong: str
    pieces: list[Piece] = field(default_factory=list)
    _index: dict[str, int] = field(init=False)
    _children: dict[tuple[int, Tokens], int] = field(default_factory=dict)
    _encoded: dict[tuple[str, str], Tokens] = field(default_factory=dict)
    _rendered: dict[tuple[int, int], _Rendered] = field(default_factory=dict)
    _cut: dict[int, int] = field(default_factory=dict)  # messages cut, by index of a reply's parent node

    def __post_init__(self) -> None:
        self._index = {node.id: index for index, node in enumerate(self.tree.nodes)}

    def build(self) -> Trie:
        nodes = self.tree.nodes
        groups: dict[str | None, list[int]] = {}
        for index, node in enumerate(nodes):
            if node.role == "assistant":
                groups.setdefault(node.parent, []).append(index)
        replies: list[ReplySpan] = []
        path_tokens = turns_cut = 0
        for number, siblings in enumerate(groups.values()):
            history = self._path(siblings[0])[:-1]
            cut, paths = self._fit(history, siblings)
            probed = nodes[siblings[0]].is_probe
            turn = 0 if probed else 1 + sum(nodes[index].role == "assistant" for index in history)
            dropped = sum(nodes[index].role == "user" for index in self._body(history)[:cut])
            for index, path in zip(siblings, paths, strict=True):
                replies.append(ReplySpan(index, self._insert(path), turn, number, dropped))
                path_tokens += sum(map(len, path))
                turns_cut += dropped
        replies.sort(key=lambda reply: reply.node)
        return Trie(self.pieces, replies, path_tokens, turns_cut)

    def _path(self, index: int) -> list[int]:
        """Node indices from the first message to `index`, inclusive."""
        path = [index]
        while (parent := self.tree.nodes[path[-1]].parent) is not None:
            path.append(self._index[parent])
        return path[::-1]

    def _body(self, path: Sequence[int]) -> Sequence[int]:
        """`path` without its system message."""
        return path[1:] if path and self.tree.nodes[path[0]].role == "system" else path

    def _fit(self, history: list[int], siblings: Sequence[int]) -> tuple[int, list[list[Tokens]]]:
        """The fewest messages to cut so that every sibling's path fits, and the paths as token pieces."""
        body = self._body(history)
        # Deeper paths contain their ancestors' history, so the search starts from the cut of the replies above.
        cut = max((self._cut.get(index, 0) for index in body), default=0)
        while True:
            kept = [*history[: len(history) - len(body)], *body[cut:]]
            paths = [self._segments([*kept, index], cut) for index in siblings]
            lengths = [sum(map(len, path)) for path in paths]
            if self.max_tokens is None or max(lengths) <= self.max_tokens:
                if body:
                    self._cut[body[-1]] = cut
                return cut, paths
            nodes = [self.tree.nodes[index] for index in body]
            users = [at for at in range(cut + 1, len(body)) if nodes[at].role == "user" and not nodes[at].is_probe]
            if self.overlong == "error" or not users:
                longest = siblings[lengths.index(max(lengths))]
                strict = self.overlong == "error"
                tried = "" if strict else ", even with all earlier turns cut"
                remedy = "raise the limit" if strict else "raise config.dataset.max_path"
                raise InputError(
                    f"{self._where(longest)}: its path has {max(lengths)} tokens, more than the {self.max_tokens} the "
                    f"model is given{tried}; {remedy} or shorten the conversation"
                )
            cut = users[0]

    def _where(self, index: int) -> str:
        return f"conversation '{self.tree.id}' node '{self.tree.nodes[index].id}'"

    def _segments(self, path: Sequence[int], cut: int) -> list[Tokens]:
        """Token pieces of a path whose last node is a reply; the last piece is the reply."""
        replies = [at for at in range(len(path)) if self.tree.nodes[path[at]].role == "assistant"]
        rendered = {at: self._render(path[: at + 1], cut) for at in replies}
        last = rendered[replies[-1]]
        stored: dict[tuple[int, int], int] = {}  # span in the prompt -> node whose text stands there unchanged
        ends = set()
        for at in replies[:-1]:
            start = len(rendered[at].prompt)
            if rendered[at].text and last.prompt.startswith(rendered[at].prompt + rendered[at].full):
                stored[start, start + len(rendered[at].text)] = path[at]
                ends.add(start + len(rendered[at].text))
        cuts = self.chat.cuts(last.prompt, [rendered[at].prompt for at in replies[:-1]])
        segments, start = [], 0
        for end in sorted(ends.union(cuts)):
            ids = self._stored_ids(stored[start, end]) if (start, end) in stored else None
            segments.append(ids or self._encode(last.prompt[start:end], last.prompt[:start]))
            start = end
        reply = self._stored_ids(path[-1]) or self._encode(last.text, last.prompt)
        if not reply:
            raise InputError(f"{self._where(path[-1])}: the reply is empty and has no end of turn; remove the node")
        prompt = [tokens for tokens in segments if tokens]
        if not prompt:
            raise InputError(f"{self._where(path[-1])}: the prompt has no tokens, nothing predicts the reply")
        return [*prompt, reply]

    def _render(self, path: Sequence[int], cut: int) -> _Rendered:
        """The rendered reply at the end of `path`, from which `cut` messages are missing."""
        key = (path[-1], cut)
        if key in self._rendered:
            return self._rendered[key]
        nodes = [self.tree.nodes[index] for index in path]
        messages = [Message(role=node.role, content=node.text) for node in nodes]
        try:
            prompt = self.chat.render(messages[:-1], add_generation_prompt=True)
            rendered = self.chat.render(messages, add_generation_prompt=False)
            if not rendered.startswith(prompt) and self._stored_ids(path[-1]):
                return self._rendered.setdefault(key, _Rendered(prompt, "", ""))  # sampled after this very prompt
            if not rendered.startswith(prompt):
                prompt = without_thinking(prompt)
            if not prompt or not rendered.startswith(prompt):
                raise self.chat.template.not_a_continuation(messages)
        except InputError as error:
            raise InputError(f"{self._where(path[-1])}: {error}") from None
        end = self.chat.end_of_turn.search(rendered, len(prompt))
        if end is None:
            known = ", ".join(self.chat.tokenizer.end_of_turn_texts)
            remedy = "put a special token behind a reply in the template"
            if rendered.rstrip().endswith(tuple(self.chat.tokenizer.special_tokens.values())):
                remedy = "name the token it uses in eos_token_id of generation_config.json"
            raise InputError(
                f"{self._where(path[-1])}: {self.chat.template.name} ends the reply with none of the end-of-turn "
                f"tokens {known}; {remedy}"
            )
        text_end = end.start() if "truncated" in nodes[-1].flags else end.end()
        found = _Rendered(prompt, rendered[len(prompt) : text_end], rendered[len(prompt) : end.end()])
        self._rendered[key] = found
        return found

    def _encode(self, text: str, after: str) -> Tokens:
        key = (text, after)
        if key not in self._encoded:
            self._encoded[key] = tuple(self.chat.tokenizer.encode(text, after=after))
        return self._encoded[key]

    def _stored_ids(self, index: int) -> Tokens | None:
        """The ids that a reply was sampled as; None if it has none of this tokenizer."""
        node = self.tree.nodes[index]
        if not node.token_ids or node.tokenizer != self.chat.tokenizer.hash:
            return None
        self._check_ids(index, node)
        return node.token_ids

    def _check_ids(self, index: int, node: Node) -> None:
        ids, size = node.token_ids or (), self.chat.tokenizer.vocab_size
        if min(ids) < 0 or max(ids) >= size:
            raise InputError(f"{self._where(index)}: token_ids are not all within the vocabulary of {size}")
        if "truncated" not in node.flags and ids[-1] not in self.chat.tokenizer.end_of_turn_ids:
            raise InputError(
                f"{self._where(index)}: token_ids end with {ids[-1]}, which is not an end-of-turn token; "
                "add it, or the flag truncated"
            )

    def _insert(self, path: Sequence[Tokens]) -> int:
        """The index of the last piece of `path`; pieces that do not exist yet are added."""
        piece = -1
        for tokens in path:
            key = (piece, tokens)
            if key not in self._children:
                self._children[key] = len(self.pieces)
                self.pieces.append(Piece(piece, tokens))
            piece = self._children[key]
        return piece

"""A conversation as it is held: a tree that grows, and the path on which it stands."""

from __future__ import annotations

import secrets

from aloe_jax.serve.chat.speaker import Piece
from aloe_jax.tree.schema import Conversation, Message, Node


class Talk:
    """One conversation. `path` are the nodes on which it stands: a system message, then user messages and replies in
    turn. The model reads the `preface` ahead of the first user message, as not every model takes a system message."""

    def __init__(self, system: str | None = None, preface: str = "") -> None:
        self.id = f"chat-{secrets.token_hex(8)}"
        self.preface = preface
        self.path: list[Node] = []
        self._nodes: dict[str, Node] = {}
        self._count = 0
        if system:
            self._add(Node(id=self._new_id(), parent=None, role="system", text=system))

    @property
    def messages(self) -> list[Message]:
        """The path as the model reads it."""
        return [Message(role=node.role, content=node.text) for node in map(self._prefaced, self.path)]

    @property
    def turns(self) -> list[Node]:
        """The user messages of the path; turn N is number N - 1."""
        return [node for node in self.path if node.role == "user"]

    @property
    def siblings(self) -> int:
        """How many replies there are to the last message of the path."""
        return len(self._replies)

    @property
    def _replies(self) -> list[Node]:
        return [node for node in self._nodes.values() if node.parent == self.path[-1].id]

    def say(self, text: str) -> None:
        """Add a user message below the path."""
        self._add(Node(id=self._new_id(), parent=self._tip, role="user", text=text))

    def answer(self, reply: Piece, model: str) -> None:
        """Add a reply of `model` to the last message, whole or the part of one that came."""
        stored = bool(reply.token_ids) and reply.tokenizer is not None
        self._add(
            Node(
                id=self._new_id(),
                parent=self._tip,
                role="assistant",
                text=reply.text,
                condition=model,
                token_ids=reply.token_ids if stored else None,
                logprobs=reply.log_probs if stored and len(reply.log_probs) == len(reply.token_ids) else None,
                tokenizer=reply.tokenizer if stored else None,
                flags=() if reply.finish_reason == "stop" else ("truncated",),
            )
        )

    def branch(self, turn: int) -> None:
        """Go back to before turn `turn`, from 1, so that the next message is another one in its place. IndexError where
        there is no such turn."""
        if turn < 1:
            raise IndexError(turn)
        self.path = self.path[: self.path.index(self.turns[turn - 1])]

    def retry(self) -> bool:
        """Go back to the last user message, so that the next reply is another one to it; False if there is none."""
        if not self.turns:
            return False
        self.path = self.path[: self.path.index(self.turns[-1]) + 1]
        return True

    def give_up(self) -> None:
        """Leave the last message, which got no reply: stand on an earlier reply to it, or forget the message."""
        if earlier := self._replies:
            self.path.append(earlier[-1])
        else:
            self.undo()

    def undo(self) -> bool:
        """Forget the last user message with all replies to it and what follows them; False if there is none."""
        if not self.turns:
            return False
        gone = {self.turns[-1].id}
        self.branch(len(self.turns))
        for node in self._nodes.values():  # parents come first
            if node.parent in gone:
                gone.add(node.id)
        self._nodes = {name: node for name, node in self._nodes.items() if name not in gone}
        return True

    def record(self) -> Conversation | None:
        """The line of `trees.jsonl`, without messages that nobody answered; None without a reply."""
        answered: set[str] = set()
        for node in reversed(self._nodes.values()):
            if node.role == "assistant" or node.id in answered:
                answered |= {node.id, node.parent or node.id}
        if not answered:
            return None
        nodes = tuple(self._prefaced(node) for node in self._nodes.values() if node.id in answered)
        return Conversation(id=self.id, nodes=nodes, path=tuple(node.id for node in self.path if node.id in answered))

    def _prefaced(self, node: Node) -> Node:
        """The node as the model reads it."""
        first = node.role == "user" and (node.parent is None or self._nodes[node.parent].role == "system")
        if not (first and self.preface):
            return node
        return node.model_copy(update={"text": f"{self.preface}\n\n{node.text}"})

    @property
    def _tip(self) -> str | None:
        return self.path[-1].id if self.path else None

    def _new_id(self) -> str:
        self._count += 1
        return f"n{self._count}"

    def _add(self, node: Node) -> None:
        self._nodes[node.id] = node
        self.path.append(node)

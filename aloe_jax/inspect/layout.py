"""The order in which a conversation is shown: chains of pieces, with the branches of each fork side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from aloe_jax.inspect.conversation import ConversationView, PieceView

Chain: TypeAlias = "tuple[PieceView | Fork, ...]"


@dataclass(frozen=True)
class Fork:
    """Branches after one piece. The largest one's first piece is its branch; what follows it comes behind the fork, so
    that a long conversation is not nested. `continues` names that piece."""

    title: str
    branches: tuple[Chain, ...]
    continues: str


def layout(view: ConversationView, turns: int | None = None) -> Chain:
    """The conversation as a chain, with the pieces that the replies of the first `turns` turns need."""
    shown = _needed(view, turns)
    children: dict[int, list[PieceView]] = {}
    for piece in view.pieces:
        if piece.index in shown:
            children.setdefault(piece.parent, []).append(piece)
    sizes: dict[int, int] = {}
    for piece in reversed(view.pieces):  # children stand behind their parents
        sizes[piece.index] = len(piece.tokens) + sum(sizes[child.index] for child in children.get(piece.index, ()))
    return _chain(-1, children, sizes)


def runs(chain: Chain) -> Iterator[tuple[PieceView, ...] | Fork]:
    """The chain with neighbouring pieces of a prompt together, as they are one text to a reader."""
    run: tuple[PieceView, ...] = ()
    for item in chain:
        joins = isinstance(item, PieceView) and not (item.replies or item.rewrites or item.turns_cut)
        if run and not (joins and not run[-1].replies):
            yield run
            run = ()
        if isinstance(item, PieceView):
            run = (*run, item)
        else:
            yield item
    if run:
        yield run


def _needed(view: ConversationView, turns: int | None) -> set[int]:
    parents = {piece.index: piece.parent for piece in view.pieces}
    turn = {reply.node: reply.turn for reply in view.replies}
    found: set[int] = set()
    for piece in view.pieces:
        if piece.replies and (turns is None or any(0 < turn[node] <= turns for node in piece.replies)):
            at = piece.index
            while at >= 0 and at not in found:
                found.add(at)
                at = parents[at]
    return found


def _chain(parent: int, children: dict[int, list[PieceView]], sizes: dict[int, int]) -> Chain:
    """What follows `parent`. The nesting is at most logarithmic in the size: the largest branch is not nested."""
    found: list[PieceView | Fork] = []
    while below := children.get(parent, []):
        main = max(below, key=lambda piece: sizes[piece.index])
        if len(below) == 1:
            found.append(main)
        else:
            branches = tuple(
                (piece,) if piece is main else (piece, *_chain(piece.index, children, sizes)) for piece in below
            )
            continues = _name(main) if children.get(main.index) else ""
            found.append(Fork(_title(below), branches, continues))
        parent = main.index
    return tuple(found)


def _title(pieces: list[PieceView]) -> str:
    """What a fork consists of."""
    replies = sum(len(piece.replies) for piece in pieces)
    again = sum(bool(piece.rewrites) for piece in pieces)
    cut = sum(bool(piece.turns_cut) for piece in pieces)
    other = sum(not piece.replies and not piece.rewrites and not piece.turns_cut for piece in pieces)
    counts = {
        "sibling reply": replies,
        "branch with history that the template rewrites": again,
        "branch with turns cut from the left": cut,
        "other branch": other,
    }
    plural = {"sibling reply": "sibling replies", "other branch": "other branches"}
    parts = [
        f"{count} {name if count == 1 else plural.get(name, name.replace('branch', 'branches', 1))}"
        for name, count in counts.items()
        if count
    ]
    return "fork: " + ", ".join(parts)


def _name(piece: PieceView) -> str:
    if piece.replies:
        return f"reply {', '.join(piece.replies)}"
    if piece.rewrites:
        return f"the rewritten {', '.join(piece.rewrites)}"
    return f"the branch at {piece.span}"

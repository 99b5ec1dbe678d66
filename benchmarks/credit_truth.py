"""The truth that credit.py compares with: what each sibling's value is over many futures, made once and stored.

A line per tree, after a first one with all that decides the table; an interrupted table is continued. Futures are
those of `roll_out`, by the same policy and users as the trees that are compared, but other draws than theirs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Conversation
from data_gen.online.advantages import groups
from data_gen.online.rewards import rewarded
from data_gen.online.rollout import Seat, roll_out
from data_gen.online.settings import RolloutSettings

SKIPPED = 4  # first futures of each sibling, which compared trees may have


@dataclass(frozen=True)
class State:
    """The siblings of one turn of a tree. Returns [k, futures] to the horizon (`cut`) and to the dialogue's end."""

    tree: str
    turn: int
    replies: tuple[str, ...]
    texts: tuple[str, ...]
    cut: np.ndarray
    end: np.ndarray


class Table:
    """The table in the file `path` for these settings; `futures` per sibling. Raises InputError if the file is of other
    settings."""

    def __init__(self, path: Path, settings: RolloutSettings, futures: int, seed: int, policy: str) -> None:
        self.path, self.settings, self.seed = path, settings, seed
        self.large = dataclasses.replace(settings, futures=futures + SKIPPED, horizon=float(settings.turns))
        head = {"policy": policy, "seed": seed, **dataclasses.asdict(settings), "futures": futures}
        for name in ("batch", "weigh", "common_draws", "probes"):  # they do not decide the table
            head.pop(name)
        self.states: dict[str, list[State]] = {}
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            files.append_line(path, json.dumps(head))
        files.repair_lines(path)
        first, *lines = (json.loads(line) for _, line in files.lines(path))
        if first != head:
            raise InputError(f"--table: {path} was made with other settings; name another file, or delete it")
        for line in lines:
            self.states[line["tree"]] = [_state(line["tree"], each) for each in line["states"]]

    async def add(self, seat: Seat) -> None:
        """Make the states of a tree and store them, unless they are there."""
        if seat.name in self.states:
            return
        [tree] = await roll_out([seat], self.large, self.seed)
        tree = rewarded(tree, self.large)
        cut, end = groups(tree, self.settings), groups(tree, self.large)
        rows = [
            {
                "turn": near.turn,
                "replies": near.replies,
                "texts": [tree.node(reply).text for reply in near.replies],
                "cut": _stored(near.returns),
                "end": _stored(far.returns),
            }
            for near, far in zip(cut, end, strict=True)
        ]
        files.append_line(self.path, json.dumps({"tree": seat.name, "states": rows}))
        self.states[seat.name] = [_state(seat.name, row) for row in rows]

    def check(self, trees: Sequence[Conversation]) -> None:
        """Raise InputError unless the siblings of `trees` are those of the table."""
        for tree in trees:
            for state in self.states[tree.id]:
                for reply, text in zip(state.replies, state.texts, strict=True):
                    if any(node.id == reply and node.text != text for node in tree.nodes):
                        raise InputError(
                            f"--table: reply {reply} of {tree.id} is another one in {self.path}; the policy has "
                            "changed since, so delete the table"
                        )


def _stored(returns: np.ndarray | None) -> list[list[float]]:
    assert returns is not None  # the scripted judge scores everything
    compared = returns[:, SKIPPED:] if returns.shape[1] > 1 else returns  # nothing follows on the last turn
    return [[round(value, 5) for value in row] for row in compared.tolist()]


def _state(tree: str, row: dict) -> State:
    cut, end = (np.array(row[name]) for name in ("cut", "end"))
    return State(tree, row["turn"], tuple(row["replies"]), tuple(row["texts"]), cut, end)

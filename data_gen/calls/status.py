"""How data generation stands: figures in a small file that any shell can read, and the panel that shows them."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloe_jax.run.defaults import STAGES
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.progress import duration
from data_gen.calls.store import Store
from data_gen.calls.tally import Tally

if TYPE_CHECKING:  # a cast brings JAX, which `aloe status` does without
    from data_gen.players.assemble import Cast

STATUS = "status.json"
STALE = 60.0  # seconds without a new figure, after which a run counts as stopped
WRITE_EVERY = 2.0  # seconds
RATE_OVER = 60.0  # seconds that rates are averaged over
MILLION = 1e6


class Status:
    """Counts while conversations grow. `prices` are (in, out) in US dollars a million tokens, by role."""

    def __init__(self, path: Path, target: int, accepted: int, prices: Mapping[str, tuple[float, float]]) -> None:
        self.path, self.target, self.accepted = path, target, accepted
        self.tally = Tally.of(path.parent)
        self.turns: dict[str, int] = {}  # conversation under way -> turns so far
        self._first, self._began, self._written = accepted, time.time(), 0.0
        self._prices = prices
        self._past: deque[tuple[float, dict[str, tuple[int, int]]]] = deque()

    def figures(self, cast: Cast, store: Store) -> dict[str, Any]:
        """Everything the panel shows, as JSON holds it."""
        now = time.time()
        totals = {role: (each.usage.calls, each.usage.tokens_out) for role, each in cast.recorded.items()}
        self._past.append((now, totals))
        while len(self._past) > 2 and now - self._past[0][0] > RATE_OVER:
            self._past.popleft()
        seconds = now - self._past[0][0]
        fresh, since = self.accepted - self._first, now - self._began
        left = since / fresh * (self.target - self.accepted) if fresh else None
        return {
            "time": now,
            "seconds": since,
            "left": left,
            "accepted": self.accepted,
            "target": self.target,
            "given_up": self.tally.given_up,
            "under_way": len(self.turns),
            "turns": {str(turn): count for turn, count in sorted(Counter(self.turns.values()).items())},
            "stored": store.calls,
            "roles": {role: self._role(role, cast, totals[role], seconds) for role in cast.recorded},
            "endpoints": [
                {
                    "address": server.address,
                    "model": server.model,
                    "under_way": server.limit.under_way,
                    "limit": int(server.limit.value),
                    "answered": server.answered,
                    "retries": server.retries,
                    "down": server.down,
                    "waiting": client.waiting,
                }
                for client in cast.clients
                for server in client.endpoints
            ],
            "rejects": dict(self.tally.rejects.most_common()),
            "judge": {name: getattr(self.tally, name) for name in ("compared", "flipped", "unreadable")},
            "cost": self._cost(cast),
        }

    def write(self, cast: Cast, store: Store, finished: bool = False) -> dict[str, Any] | None:
        """The figures, written to the file; None if they were written a moment ago."""
        now = time.monotonic()
        if now - self._written < WRITE_EVERY and not finished:
            return None
        self._written = now
        found = self.figures(cast, store)
        files.write_json(self.path, found)
        return found

    def _role(self, role: str, cast: Cast, total: tuple[int, int], seconds: float) -> dict[str, Any]:
        usage, before = cast.recorded[role].usage, self._past[0][1].get(role, (0, 0))
        return {
            "model": cast.models[role],
            "calls": usage.calls,
            "from_store": usage.stored,
            "tokens_in": usage.tokens_in,
            "tokens_out": usage.tokens_out,
            "calls_a_second": (total[0] - before[0]) / seconds if seconds else 0.0,
            "tokens_a_second": (total[1] - before[1]) / seconds if seconds else 0.0,
            "seconds_a_call": usage.seconds / usage.calls if usage.calls else None,
        }

    def _cost(self, cast: Cast) -> float | None:
        if not any(sum(self._prices[role]) for role in cast.recorded):
            return None
        return sum(
            each.usage.tokens_in * self._prices[role][0] / MILLION
            + each.usage.tokens_out * self._prices[role][1] / MILLION
            for role, each in cast.recorded.items()
        )


def panel(figures: Mapping[str, Any]) -> RenderableType:
    """The figures as tables for a terminal."""
    head = [f"{figures['accepted']} of {figures['target']} accepted", f"{figures['given_up']} given up"]
    head += [f"{figures['under_way']} under way", f"{figures['stored']} calls stored"]
    if figures["left"] is not None and figures["accepted"] < figures["target"]:
        head.append(f"about {duration(figures['left'])} left")
    if figures["cost"] is not None:
        head.append(f"${figures['cost']:.2f} so far")
    parts: list[RenderableType] = [Text("  ".join(head))]
    if figures["turns"]:
        parts.append(Text("by turn: " + "  ".join(f"{turn}: {count}" for turn, count in figures["turns"].items())))
    roles = _table("role", "model", "calls", "stored", "calls/s", "tokens/s", "s a call")
    for role, each in figures["roles"].items():
        waited = "" if each["seconds_a_call"] is None else f"{each['seconds_a_call']:.2f}"
        roles.add_row(
            role,
            Text(each["model"], overflow="ellipsis"),
            str(each["calls"]),
            str(each["from_store"]),
            f"{each['calls_a_second']:.1f}",
            f"{each['tokens_a_second']:.0f}",
            waited,
        )
    servers = _table("server", "under way", "limit", "waiting", "answered", "retries", "")
    for each in figures["endpoints"]:
        numbers = [str(each[name]) for name in ("under_way", "limit", "waiting", "answered", "retries")]
        servers.add_row(Text(each["address"], overflow="ellipsis"), *numbers, "down" if each["down"] else "")
    parts += [roles, servers]
    if figures["rejects"]:
        parts.append(Text("turned down: " + "  ".join(f"{name} {n}" for name, n in figures["rejects"].items())))
    judge = figures["judge"]
    if judge["compared"]:
        read = judge["compared"] - judge["unreadable"]
        flips = f"{judge['flipped'] / read:.0%} of verdicts turn with the order" if read else "no readable verdict"
        parts.append(Text(f"judge: {judge['compared']} pairs, {flips}, {judge['unreadable']} unreadable"))
    return Group(*parts)


def show(workdir: Path, console: Console) -> None:
    """Print how a run stands: its stages, and the panel of the conversations where there is one.

    Raises InputError if there is no run.
    """
    if not (workdir / "config.json").exists():
        raise InputError(f"'{workdir}' is no run directory of `aloe run`; name its --workdir")
    stages = _table("stage", "state", "seconds")
    for name in STAGES:
        if (path := workdir / name / "manifest.json").exists():
            manifest = files.read_json(path)
            stages.add_row(name, manifest["status"], f"{manifest['seconds']:.0f}")
    console.print(stages)
    if (path := workdir / "conversations" / STATUS).exists():
        figures = files.read_json(path)
        age = time.time() - figures["time"]
        console.print(f"conversations, as of {duration(age)} ago" + (" (nothing writes now)" if age > STALE else ""))
        console.print(panel(figures))


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 or column in ("model", "") else "right", no_wrap=True)
    return table

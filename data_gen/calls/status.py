"""The status of data generation: figures in a small file that any shell can read, and the panel that shows them."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import AliasChoices, ConfigDict, Field
from rich.console import Console, Group, RenderableType
from rich.text import Text

from aloe_jax import files
from aloe_jax.run.progress import duration
from aloe_jax.tree.schema import Record, parse
from data_gen.calls.narrow_table import NarrowableTable
from data_gen.calls.store import Store
from data_gen.calls.tally import Tally

if TYPE_CHECKING:  # `aloe status` starts without the client
    from data_gen.calls.connections import Cast

STATUS = "status.json"
WRITE_EVERY = 2.0  # seconds
RATE_OVER = 60.0  # seconds over which rates are averaged
MILLION = 1e6


class _Figures(Record):
    """Figures in the file; keys of another version are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class RoleFigures(_Figures):
    """Calls of a role since the run started."""

    model: str
    calls: int
    from_store: int
    tokens_in: int
    tokens_out: int
    calls_a_second: float
    tokens_a_second: float
    seconds_a_call: float | None


class ServerFigures(_Figures):
    """One server; `waiting` calls of its client have none yet."""

    address: str
    model: str
    under_way: int
    limit: int
    answered: int
    retries: int
    down: bool
    waiting: int


class JudgeFigures(_Figures):
    """Comparisons by the judge; `inconclusive` are those whose verdict turned with the order."""

    compared: int
    inconclusive: int = Field(validation_alias=AliasChoices("inconclusive", "flipped"))  # the latter in earlier files
    unreadable: int


class Figures(_Figures):
    """All that the panel shows. `time` is when it was written, in seconds since the epoch; `seconds` is how long the
    run has worked and `left` an estimate of the rest; `turns` counts conversations under way by their turn; `cost` is
    in US dollars, None if no prices are given."""

    time: float
    seconds: float
    left: float | None
    accepted: int
    target: int
    given_up: int
    under_way: int
    turns: dict[str, int]
    stored: int
    roles: dict[str, RoleFigures]
    endpoints: tuple[ServerFigures, ...]
    rejects: dict[str, int]
    judge: JudgeFigures
    cost: float | None


class Status:
    """Counts while conversations grow. `prices` are (in, out) in US dollars per million tokens, by role."""

    def __init__(self, path: Path, target: int, accepted: int, prices: Mapping[str, tuple[float, float]]) -> None:
        self.path, self.target, self.accepted = path, target, accepted
        self.tally = Tally.of(path.parent)
        self.turns: dict[str, int] = {}  # conversation under way -> turns so far
        self._first, self._began, self._written = accepted, time.time(), 0.0
        self._prices = prices
        self._past: deque[tuple[float, dict[str, tuple[int, int]]]] = deque()

    def figures(self, cast: Cast, store: Store) -> Figures:
        """The figures as of now."""
        now = time.time()
        totals = {role: (each.usage.calls, each.usage.tokens_out) for role, each in cast.recorded.items()}
        self._past.append((now, totals))
        while len(self._past) > 2 and now - self._past[0][0] > RATE_OVER:
            self._past.popleft()
        seconds = now - self._past[0][0]
        fresh, since = self.accepted - self._first, now - self._began
        return Figures(
            time=now,
            seconds=since,
            left=since / fresh * (self.target - self.accepted) if fresh else None,
            accepted=self.accepted,
            target=self.target,
            given_up=self.tally.given_up,
            under_way=len(self.turns),
            turns={str(turn): count for turn, count in sorted(Counter(self.turns.values()).items())},
            stored=store.calls,
            roles={role: self._role(role, cast, totals[role], seconds) for role in cast.recorded},
            endpoints=_servers(cast),
            rejects=dict(self.tally.rejects.most_common()),
            judge=JudgeFigures(
                compared=self.tally.compared,
                inconclusive=self.tally.inconclusive,
                unreadable=self.tally.unreadable,
            ),
            cost=self._cost(cast),
        )

    def write(self, cast: Cast, store: Store, finished: bool = False) -> Figures | None:
        """The figures, which are written to the file; None if they were written a moment ago."""
        now = time.monotonic()
        if now - self._written < WRITE_EVERY and not finished:
            return None
        self._written = now
        found = self.figures(cast, store)
        files.write_json(self.path, found.model_dump())
        return found

    def _role(self, role: str, cast: Cast, total: tuple[int, int], seconds: float) -> RoleFigures:
        usage, before = cast.recorded[role].usage, self._past[0][1].get(role, (0, 0))
        return RoleFigures(
            model=cast.models[role],
            calls=usage.calls,
            from_store=usage.stored,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            calls_a_second=(total[0] - before[0]) / seconds if seconds else 0.0,
            tokens_a_second=(total[1] - before[1]) / seconds if seconds else 0.0,
            seconds_a_call=usage.seconds / usage.calls if usage.calls else None,
        )

    def _cost(self, cast: Cast) -> float | None:
        if not any(sum(self._prices[role]) for role in cast.recorded):
            return None
        return sum(
            each.usage.tokens_in * self._prices[role][0] / MILLION
            + each.usage.tokens_out * self._prices[role][1] / MILLION
            for role, each in cast.recorded.items()
        )


def _servers(cast: Cast) -> tuple[ServerFigures, ...]:
    return tuple(
        ServerFigures(
            address=server.address,
            model=server.model,
            under_way=server.limit.under_way,
            limit=int(server.limit.value),
            answered=server.answered,
            retries=server.retries,
            down=server.down,
            waiting=client.waiting,
        )
        for client in cast.clients
        for server in client.endpoints
    )


def panel(figures: Figures) -> RenderableType:
    """The figures as tables for a terminal."""
    head = [f"{figures.accepted} of {figures.target} accepted", f"{figures.given_up} given up"]
    head += [f"{figures.under_way} under way", f"{figures.stored} calls stored"]
    if figures.left is not None and figures.accepted < figures.target:
        head.append(f"about {duration(figures.left)} left")
    if figures.cost is not None:
        head.append(f"${figures.cost:.2f} so far")
    parts: list[RenderableType] = [Text("  ".join(head))]
    if figures.turns:
        parts.append(Text("by turn: " + "  ".join(f"{turn}: {count}" for turn, count in figures.turns.items())))
    parts += [_roles_table(figures.roles), _servers_table(figures.endpoints)]
    if figures.rejects:
        parts.append(Text("turned down: " + "  ".join(f"{name} {n}" for name, n in figures.rejects.items())))
    judge = figures.judge
    if judge.compared:
        read = judge.compared - judge.unreadable
        flips = f"{judge.inconclusive / read:.0%} of verdicts turn with the order" if read else "no readable verdict"
        counts = f"{judge.inconclusive} inconclusive, {judge.unreadable} unreadable"
        parts.append(Text(f"judge: {judge.compared} pairs, {flips}, {counts}"))
    return Group(*parts)


def _roles_table(roles: Mapping[str, RoleFigures]) -> NarrowableTable:
    columns = ("role", "model", "calls", "stored", "calls/s", "tokens/s", "s per call")
    rows = [
        (
            role,
            each.model,
            str(each.calls),
            str(each.from_store),
            f"{each.calls_a_second:.1f}",
            f"{each.tokens_a_second:.0f}",
            "" if each.seconds_a_call is None else f"{each.seconds_a_call:.2f}",
        )
        for role, each in roles.items()
    ]
    return NarrowableTable(columns, rows, text="model", dropped=("s per call", "stored", "calls/s"))


def _servers_table(servers: Sequence[ServerFigures]) -> NarrowableTable:
    columns = ("server", "", "under way", "limit", "waiting", "answered", "retries")
    rows = []
    for each in servers:
        numbers = (each.under_way, each.limit, each.waiting, each.answered, each.retries)
        rows.append((each.address, "down" if each.down else "", *map(str, numbers)))
    return NarrowableTable(columns, rows, text="server", dropped=("retries", "answered", "limit"))


def show_panel(workdir: Path, console: Console) -> None:
    """Print the panel of a run's conversations if there is one."""
    if (path := workdir / "conversations" / STATUS).exists():
        figures = parse(Figures, files.read_text(path), str(path))
        console.print(f"conversations, as of {duration(time.time() - figures.time)} ago")
        console.print(panel(figures))

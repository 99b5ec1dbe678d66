"""A table that stays readable on narrow terminals: columns are left out, none is cut but one of long texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

LEAST_TEXT = 16  # characters of the column of long texts
BETWEEN = 3  # characters between two columns


@dataclass(frozen=True)
class NarrowableTable:
    """Rows of texts under the names of their columns. `text` is the column whose texts may be cut, `dropped` those that
    are left out in turn where the others have no room. Other columns are numbers, but for the first and one without a
    name."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: str
    dropped: Sequence[str]

    def kept(self, width: int) -> list[str]:
        """The columns that are shown in so many characters."""
        kept = list(self.columns)
        for name in self.dropped:
            if self._room(kept, width) >= min(self._width(self.text), LEAST_TEXT):
                break
            kept.remove(name)
        return kept

    def _room(self, kept: Sequence[str], width: int) -> int:
        """The characters that are left for the long texts."""
        return width - sum(self._width(name) for name in kept if name != self.text) - BETWEEN * len(kept)

    def _cells(self, name: str) -> list[str]:
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def _width(self, name: str) -> int:
        return max(map(len, (name, *self._cells(name))))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table in the width of the terminal."""
        kept, table = self.kept(options.max_width), Table(box=box.SIMPLE, pad_edge=False)
        room = max(min(self._width(self.text), self._room(kept, options.max_width)), 1)
        for number, name in enumerate(kept):
            words = number == 0 or name in (self.text, "")
            wide = room if name == self.text else self._width(name)
            table.add_column(name, justify="left" if words else "right", no_wrap=True, width=wide)
        for cells in zip(*map(self._cells, kept), strict=True):
            table.add_row(*(Text(cell, overflow="ellipsis") for cell in cells))
        yield table

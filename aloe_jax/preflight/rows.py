"""A row of the preflight's table, and how it is printed."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

OK, FAILED, WARNING, WAITING, NOTHING = "ok", "failed", "warning", "...", "-"
_NAME, _MARK = 16, 9  # widths of the first columns


@dataclass(frozen=True)
class Row:
    """What was looked at, what was found, and a sentence per failure with the command that fixes it. With the mark
    NOTHING there is nothing to check on this host, and `found` says why."""

    name: str
    found: str = ""
    failures: tuple[str, ...] = ()
    mark: str = OK

    def text(self, width: int = 0) -> str:
        """The lines of the row: one of what was found, wrapped to `width` unless that is 0, or one per failure.

        A failure is never wrapped, so that its command can be copied from a terminal, which breaks the line itself.
        """
        mark = FAILED if self.failures and self.mark == OK else self.mark
        begin = f"{self.name:<{_NAME}}{mark:<{_MARK}}"
        if self.failures:
            return "\n".join(begin + failure for failure in self.failures)
        if not width:
            return begin + self.found
        indent = " " * len(begin)
        return textwrap.fill(
            begin + self.found, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
        )


Show = Callable[[Row], None]


def terminal_width(is_terminal: bool) -> int:
    """The width to wrap rows to: that of the terminal; 0, no wrapping, for a pipe or a file."""
    return shutil.get_terminal_size().columns if is_terminal else 0

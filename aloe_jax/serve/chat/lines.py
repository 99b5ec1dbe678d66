"""Where the lines of `aloe chat` come from: a terminal, with editing and history, or any text stream."""

from __future__ import annotations

import contextlib
import sys
from typing import Protocol, TextIO

PROMPT = "> "


class Lines(Protocol):
    """A source of lines."""

    interactive: bool  # whether a person reads what is written, between prompts

    def next(self) -> str | None:
        """The next line without surrounding space; None at the end."""
        ...


class PipedLines:
    """The lines of a stream; no prompt is written."""

    interactive = False

    def __init__(self, source: TextIO) -> None:
        self._source = source

    def next(self) -> str | None:
        line = self._source.readline()
        return line.strip() if line else None


class TerminalLines:
    """Lines that are typed behind a prompt, edited and recalled with readline where Python has it. Ctrl-C drops a line;
    twice in a row, or Ctrl-D, is the end."""

    interactive = True

    def __init__(self) -> None:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401, `input` uses it once it is imported

    def next(self) -> str | None:
        dropped = False
        while True:
            try:
                return input(PROMPT).strip()
            except EOFError:
                print()
                return None
            except KeyboardInterrupt:
                print()
                if dropped:
                    return None
                dropped = True
                print("Ctrl-C again, Ctrl-D or /quit ends.")


def standard_lines() -> Lines:
    """The lines of standard input: of a terminal where both ends are one."""
    return TerminalLines() if sys.stdin.isatty() and sys.stdout.isatty() else PipedLines(sys.stdin)

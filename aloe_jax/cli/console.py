"""The console of commands whose output may go into a pipe."""

from __future__ import annotations

from typing import NoReturn

from rich.console import Console


class PipedConsole(Console):
    """A console that raises BrokenPipeError when its reader exits, as plain `print` does, where rich exits with 1."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise BrokenPipeError."""
        raise BrokenPipeError

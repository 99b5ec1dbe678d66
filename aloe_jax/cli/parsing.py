"""What the arguments of all commands share: argparse with our errors, help texts in columns, paths."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

from aloe_jax.errors import InputError

Command = Callable[[argparse.Namespace], None]
INDENT = 24  # column of the help texts, as in argparse


class HelpFormatter(argparse.HelpFormatter):
    """Wraps each line of an epilog on its own, with its help text in one column, so that lists stay lists."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        wrap = lambda line: textwrap.fill(line, width, subsequent_indent=" " * INDENT * line.startswith("  "))  # noqa: E731
        return "\n".join(map(wrap, text.splitlines()))


class Parser(argparse.ArgumentParser):
    """argparse that raises InputError."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def path_of(text: str) -> str:
    """A path of the command line, `~` expanded."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; name a file or a folder")
    return os.path.expanduser(text)


class PrintAndExit(argparse.Action):
    """An option without a value that prints `text()` and ends the command, whatever else is missing."""

    def __init__(self, option_strings: Sequence[str], dest: str, text: Callable[[], str], help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)
        self.text = text

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print the text on stdout and exit with 0."""
        print(self.text())
        parser.exit()


class Add(Protocol):
    """Adds a command to the parser."""

    def __call__(
        self, name: str, function: Command, help_text: str, takes_config: bool = False
    ) -> argparse.ArgumentParser: ...

"""What a long script says: lines with the seconds since its start, printed and, if asked for, kept in a file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def saying(out: Path | None, folder: str) -> Iterator[Callable[[str], None]]:
    """A function that prints a line and appends it to the file `out`; the path `folder` in it becomes `...`."""
    began = time.monotonic()
    with open(out, "w") if out else contextlib.nullcontext() as file:

        def say(text: str) -> None:
            line = f"[{time.monotonic() - began:5.0f} s] {text.replace(folder, '...')}"
            print(line, flush=True)
            if file is not None:
                print(line, file=file, flush=True)

        yield say


def went_on(say: Callable[[str], None], printed: str) -> None:
    """Say what a command said about the one before it."""
    for line in printed.splitlines():
        if any(word in line for word in ("taken over", "continuing", "interrupted")):
            say(f"  the next command: {line}")

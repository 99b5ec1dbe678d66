"""A file that blocks whoever opens it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Replace a file by a pipe: a process that opens it blocks, and so does not get past that point."""
    kept = path.with_name(f"{path.name}.kept")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.rename(kept)
    os.mkfifo(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # a process that is interrupted there removes it
        if kept.exists():
            kept.rename(path)

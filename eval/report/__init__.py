"""One self-contained HTML page about a run: results with intervals, dialogues, training curves, counts, config."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from eval.report.inspect_log import write_logs
from eval.report.page import render
from eval.report.reading import NAME, read_run

__all__ = ["INDEX", "LOGS", "NAME", "watch", "write_report"]
INDEX, LOGS = "index.html", "inspect"
LOOK_EVERY = 5.0  # seconds between two looks at the files of a run that is going on


def write_report(
    workdir: epath.PathLike,
    out: epath.PathLike | None = None,
    *,
    stages: Sequence[str],
    conversations: int = 3,
) -> epath.Path:
    """Write the report of a run directory to `out` (default `workdir/report/index.html`) and return its path. The logs
    of the benchmark for `inspect view` are in the folder `inspect` beside it.

    `stages` are the names of the pipeline's stages, in order; the page lists those that have not started.
    `conversations` is how many training trees to show. Raises InputError if the run directory does not exist or a file
    in it is broken, ResumableError if there is no room to write.
    """
    run = read_run(workdir, stages, conversations)
    page = render(run)
    target = epath.Path(out) if out is not None else epath.Path(workdir) / NAME / INDEX
    files.write_text(target, page)
    write_logs(run.results, epath.Path(workdir), target.parent / LOGS)
    return target


def watch(
    workdir: epath.PathLike,
    out: epath.PathLike | None,
    tell: Callable[[str], None],
    *,
    stages: Sequence[str],
    looks: int | None = None,
    pause: float = LOOK_EVERY,
) -> None:
    """Write the report again whenever files of the run have changed, until KeyboardInterrupt or `looks` looks. `tell`
    is told the path after each writing. A file that is being written may be broken for a moment: `tell` is told the
    sentence, and the next look tries again. Raises InputError if the first report cannot be written."""
    seen, look = None, 0
    while looks is None or look < looks:
        if look:
            time.sleep(pause)
        look += 1
        now = _state(workdir)
        if now == seen:
            continue
        try:
            tell(str(write_report(workdir, out, stages=stages)))
            seen = now
        except InputError as error:
            if seen is None:
                raise
            tell(f"{error}; trying again")


def _state(workdir: epath.PathLike) -> list[tuple[str, int, float]]:
    """Name, size and time of the files of a run but for the report's, and `progress.json`, which it does not read."""
    root = epath.Path(workdir)
    found = [path for pattern in ("config.json", "*/*.json*", "benchmark/*/*.json*") for path in root.glob(pattern)]
    stats = []
    for path in found:
        with contextlib.suppress(FileNotFoundError):  # replaced in the meantime
            stat = path.stat()
            stats.append((str(path), stat.length, float(stat.mtime)))
    return sorted(each for each in stats if epath.Path(each[0]).parent.name != NAME)

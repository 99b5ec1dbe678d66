"""One self-contained HTML page about a run: results with intervals, training curves, conversations, counts, config."""

from __future__ import annotations

from collections.abc import Sequence

from etils import epath

from aloe_jax import files
from eval.report.page import render
from eval.report.reading import NAME, read_run

__all__ = ["INDEX", "NAME", "write_report"]
INDEX = "index.html"


def write_report(
    workdir: epath.PathLike,
    out: epath.PathLike | None = None,
    *,
    stages: Sequence[str],
    conversations: int = 3,
) -> epath.Path:
    """Write the report of a run directory to `out` (default `workdir/report/index.html`) and return its path.

    `stages` are the names of the pipeline's stages, in order; the page lists those that have not started.
    `conversations` is how many training trees to show. Raises InputError if the run directory does not exist or a file
    in it is broken, ResumableError if there is no room to write.
    """
    page = render(read_run(workdir, stages, conversations))
    target = epath.Path(out) if out is not None else epath.Path(workdir) / NAME / INDEX
    files.write_text(target, page)
    return target

"""One self-contained HTML page about a run: results with intervals, training curves, conversations, counts, config."""

from __future__ import annotations

from etils import epath

from aloe_jax import files
from eval.report.page import render
from eval.report.reading import read_run

__all__ = ["write_report"]


def write_report(workdir: epath.PathLike, out: epath.PathLike | None = None, conversations: int = 3) -> epath.Path:
    """Write the report of a run directory to `out` (default `workdir/report/index.html`) and return its path.

    Whatever the run has not made yet is named on the page as missing. `conversations` is how many training trees to
    show. Raises InputError if the run directory does not exist or a file in it is broken, ResumableError if there is no
    room to write.
    """
    page = render(read_run(workdir, conversations))
    target = epath.Path(out) if out is not None else epath.Path(workdir) / "report" / "index.html"
    files.write_text(target, page)
    return target

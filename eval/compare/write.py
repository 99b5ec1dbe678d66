"""The files of a comparison."""

from __future__ import annotations

import os

from etils import epath

from aloe_jax import files
from eval.compare.comparison import Comparison
from eval.compare.figures import write_figures
from eval.compare.files import as_json, write_csv
from eval.compare.page import render

PAGE, JSON = "index.html", "compare.json"


def write_comparison(comparison: Comparison, out: str | os.PathLike[str]) -> list[epath.Path]:
    """Write the page, `compare.json`, CSV files and figures into the folder `out` and return their paths."""
    folder = epath.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / PAGE, render(comparison))
    files.write_json(folder / JSON, as_json(comparison))
    return [folder / PAGE, folder / JSON, *write_csv(comparison, folder), *write_figures(comparison, folder)]

"""Where a folder that `aloe view` shows has results of the benchmark. Found by names alone, so that the page is served
without reading them."""

from __future__ import annotations

from pathlib import Path

from data_gen.run_files import TREES

SCORES = "scores.jsonl"


def results_under(root: Path) -> list[Path]:
    """The folders with dialogues and their scores: `root` itself if it is one, else those in its `benchmark`."""
    if _is_result(root):
        return [root]
    benchmark = root / "benchmark"
    return sorted(filter(_is_result, benchmark.iterdir())) if benchmark.is_dir() else []


def _is_result(folder: Path) -> bool:
    return (folder / TREES).is_file() and (folder / SCORES).is_file()

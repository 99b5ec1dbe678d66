"""The notebook of docs/python.md: its cells run in order, in a process of their own."""

import ast
import json
import os
import subprocess
import sys

import pytest

from helpers.aloe_command import ROOT

NOTEBOOK = ROOT / "docs/python.ipynb"


def cells():
    return [
        "".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"
    ]


def test_the_notebook_is_stored_without_results():
    """So that what a reader sees is what the code gives; and every cell is valid Python."""
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert [ast.parse(cell) for cell in cells()]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """From any folder, with what its assertions say, and without a line of a library."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(cells())],
        cwd=tmp_path,
        env=environment | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "loss by step: [0.693" in done.stdout
    assert "did you mean 'epochs'?" in done.stdout
    assert "alignment level by turn: (2.0, 2.5, 3.0)" in done.stdout

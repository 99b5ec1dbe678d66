"""`aloe launch` in this process, in a folder of its own."""

import pytest

from helpers.aloe_in_process import aloe_in_process

ARGUMENTS = ("--topology=v5e:4x4", "--workdir=gs://bucket/runs/a", "--plan=no")


@pytest.fixture
def launch(tmp_path, monkeypatch, capsys):
    """The command with the usual arguments; later ones replace them."""
    monkeypatch.chdir(tmp_path)
    with aloe_in_process(capsys) as aloe:
        yield lambda *more, config="llama3_8b:preference": aloe("launch", f"--config={config}", *ARGUMENTS, *more)

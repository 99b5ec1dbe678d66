"""A synthetic run, as the report, the comparison and corrected scores read it."""

import shutil

import pytest

from helpers.synthetic_run import write_run


@pytest.fixture(scope="module")  # some tests write their report into it
def finished(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture
def run(finished, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(finished, tmp_path / "run")

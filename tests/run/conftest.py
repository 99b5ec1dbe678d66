"""One small run of the whole pipeline, made once and shared; tests work in copies of it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

import tiny
from aloe_command import Aloe, run_arguments


@dataclass(frozen=True)
class Finished:
    """A run that nothing interrupted, and what it wrote to stderr."""

    workdir: Path
    stderr: str


@pytest.fixture(scope="session")
def aloe(tmp_path_factory):
    return Aloe(tmp_path_factory.mktemp("aloe"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return tiny.write_folder(tmp_path_factory.mktemp("model") / "tiny-llama")


@pytest.fixture(scope="session")
def finished(aloe, tiny_model, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    result = aloe.call(run_arguments(tiny_model, workdir))
    assert result.returncode == 0, result.stderr
    return Finished(workdir, result.stderr)

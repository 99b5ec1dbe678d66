"""One small run of the whole pipeline, made once for all workers; tests use copies of it."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from helpers import tiny
from helpers.aloe_command import Aloe, run_arguments


@dataclass(frozen=True)
class Finished:
    """An uninterrupted run, and its stderr."""

    workdir: Path
    stderr: str


@pytest.fixture(scope="session")
def aloe_process(tmp_path_factory):
    return Aloe(tmp_path_factory.mktemp("aloe"))


@pytest.fixture(scope="session")
def tiny_model(shared_folder):
    folder = shared_folder / "model/tiny-llama"
    with FileLock(shared_folder / "tiny_model.lock"):
        return folder if folder.exists() else tiny.write_folder(folder)


@pytest.fixture(scope="session")
def finished(aloe_process, tiny_model, shared_folder):
    workdir, stderr = shared_folder / "finished/run", shared_folder / "finished/stderr"
    with FileLock(shared_folder / "finished.lock"):
        if not stderr.exists():
            result = aloe_process.call(run_arguments(tiny_model, workdir))
            assert result.returncode == 0, result.stderr
            stderr.write_text(result.stderr)
    return Finished(workdir, stderr.read_text())

"""`aloe plan` of the tiny config file, in this process and with any compiler."""

import pytest

from aloe_jax.cli import main as cli
from aloe_jax.plan import training
from helpers.tiny_plan import CONFIG


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    (folder / "tiny.py").write_text(CONFIG)
    return folder


@pytest.fixture
def here(folder, tmp_path, monkeypatch, capsys):
    """`aloe plan` in this process, with `compiler(training, ...)` as the compiler: exit code, stdout, stderr lines."""
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path))

    def call(compiler, *arguments):
        monkeypatch.setattr(training, "compile_step", lambda *given: compiler(*given))
        code = cli.main(["plan", f"--config={folder / 'tiny.py'}", "--topology=v5e:2x2", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return call

"""The `aloe` command in the process of the test, and checks of its results."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aloe_jax.cli import main as cli

Result = tuple[int, str, str]  # exit code, stdout, stderr


@contextlib.contextmanager
def aloe_in_process(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Result]]:
    """A function from arguments to the result of the command. Signal handlers are restored at the end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def call(*arguments: object) -> Result:
        sys.modules.pop("config_config", None)  # a second config file would be run in the namespace of the first
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


def refused(result: Result, *parts: object, code: int = 2) -> None:
    """Check that a call printed one sentence with these parts, and nothing else."""
    assert result[0] == code, result
    assert result[1] == ""
    assert result[2].startswith("aloe: ")
    assert result[2].count("\n") == 1, result[2]
    for part in parts:
        assert str(part) in result[2]


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file of a folder with its bytes."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}

"""A side of a comparison in a process of its own, which answers each line of its standard input with one line of JSON.

The sides wait while one of them works, so steps alternate, each side can have an interpreter with other packages, and
peak memory is that of one side. The answers have a file descriptor of their own, since libraries print on the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent


class Worker:
    """Runs `script` of this folder with the arguments ANSWERS, a file descriptor, and `arguments`. Its first answer,
    given once it is ready, is `ready`. Ends the process with a sentence if the worker ends early."""

    def __init__(self, name: str, python: str, script: str, *arguments: str) -> None:
        self.name = name
        reading, writing = os.pipe()
        command = [python, str(HERE / script), str(writing), *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=sys.stderr, pass_fds=(writing,), text=True
        )
        os.close(writing)
        self._answers = os.fdopen(reading)
        self.ready = self._answer()

    def ask(self, question: object) -> Any:
        """The answer to one line of input, both as JSON."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        line = self._answers.readline()
        if not line:
            raise SystemExit(f"the {self.name} side ended with exit code {self._process.wait()}; see its message above")
        return json.loads(line)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin
        self._process.stdin.close()  # the worker ends at the end of its input
        self._process.wait()
        self._answers.close()


def resident(name: str) -> int:
    """Bytes of this process by their name in /proc/self/status: `VmRSS`, or `VmHWM`, its largest value so far."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def missing_modules(python: str, modules: tuple[str, ...]) -> list[str]:
    """Those of `modules` that an interpreter lacks."""
    code = f"import importlib.util as u; print(*[m for m in {modules} if u.find_spec(m) is None])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def serve(descriptor: int, ready: object, answer: Callable[[Any], object]) -> None:
    """The worker's side: `ready`, then the answer to each line of standard input."""
    with os.fdopen(descriptor, "w", buffering=1) as answers:
        print(json.dumps(ready), file=answers)
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line))), file=answers)

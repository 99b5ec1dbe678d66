"""One case of a target: a call on mutated input, and the verdict about what came of it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aloe_jax.cli import main as cli

DEADLINE = 20.0  # seconds; far more than any case takes on a busy machine
CHECKS = 3  # the most commands that a check runs
ROOM = 4 << 30  # bytes of address space beyond what the process has
MOST_GROWTH = 1 << 30  # bytes of resident memory that a case may take
LONGEST = 2_000  # characters of an error sentence
_PROGRESS = re.compile(r"[a-z]+: (started|done in|\d+/\d+ |finished before)")


class Result(NamedTuple):
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Case:
    """`call` runs in the folder of the case. `told` is the command in words. `writes` are the names that a success may
    write and `changes` those that any result may change, in both cases with everything below them. `check` returns
    what is wrong with a success, None if nothing is."""

    call: Callable[[], Result]
    told: str
    mutation: str
    writes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    check: Callable[[Result], str | None] = lambda result: None
    refuses: bool = False  # whether anything but exit 2 is wrong


Target = Callable[[random.Random, Path], Case]


class Verdict(NamedTuple):
    """`outcome` is ok, refused or resumable, or the kind of the problem; `problem` is None for the first three."""

    outcome: str
    problem: str | None
    case: Case


class Hang(BaseException):
    """The deadline of a case has passed."""


def command(*arguments: str) -> Callable[[], Result]:
    """The call of an `aloe` command in this process."""
    return lambda: aloe(arguments)


def aloe(arguments: Sequence[str]) -> Result:
    """The result of an `aloe` command in this process; raises what it lets through."""
    sys.modules.pop("config_config", None)
    return captured(lambda: cli.main(list(arguments)))


def function(call: Callable[[], object]) -> Callable[[], Result]:
    """A function of the product as if it was a command: its expected errors become exit codes."""

    def run() -> int:
        try:
            call()
        except Exception as error:
            expected = cli._expected(error, False)
            if expected is None:
                raise
            print(f"aloe: {cli.one_line(str(expected))}", file=sys.stderr)
            return expected.exit_code
        return 0

    return lambda: captured(run)


def captured(run: Callable[[], int]) -> Result:
    """The result of `run`, with its output."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True) for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            code = run()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
    out, err = (stream.buffer.getvalue().decode() for stream in streams)
    return Result(code, out, err)


def rng_of(name: str, seed: int, number: int) -> random.Random:
    """The source of all that is random in a case."""
    return random.Random(f"{name}/{seed}/{number}")


def judge(name: str, target: Target, seed: int, number: int, folder: Path) -> Verdict:
    """Make a case in the empty `folder`, run it there and judge what came of it."""
    before_folder = os.getcwd()
    os.chdir(folder)
    try:
        case = target(rng_of(name, seed, number), folder)
        before = _files(folder)
        kind, problem, result = _run(case)
        if problem is None:
            kind, problem = _judged(case, result, before, _files(folder))
        return Verdict(kind, problem, case)
    finally:
        os.chdir(before_folder)


def _run(case: Case) -> tuple[str, str | None, Result]:
    """Kind and text of a problem with the call itself, and its result."""
    result, began = Result(-1, "", ""), time.process_time()
    resident = _memory("VmRSS")
    try:
        with _limits(DEADLINE):
            result = case.call()
    except Hang:
        return "hang", f"no end within {DEADLINE:g} seconds\n{traceback.format_exc()[-3000:]}", result
    except MemoryError:
        return "memory", traceback.format_exc()[-3000:], result
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "traceback", traceback.format_exc()[-6000:], result
    if (seconds := time.process_time() - began) > DEADLINE:
        return "hang", f"{seconds:.0f} seconds of work", result
    if (grown := _memory("VmHWM") - resident) > MOST_GROWTH:
        return "memory", f"{grown >> 20} MiB more than before", result
    return "", None, result


def _judged(case: Case, result: Result, before: dict[str, str], after: dict[str, str]) -> tuple[str, str | None]:
    """Kind and text of a problem with a result; the kind alone if there is none."""
    kept = {path: mark for path, mark in before.items() if not _below(path, case.changes)}
    changed = [path for path, mark in kept.items() if after.get(path) != mark]
    if changed:
        return "changed input", f"changed: {', '.join(changed[:5])}; {result}"
    new = [path for path in after if path not in before and not _below(path, case.changes)]
    litter = [path for path in new if result.code or not _below(path, case.writes)]
    if litter:
        return "litter", f"left behind with exit {result.code}: {', '.join(litter[:5])}; {result.err[:500]}"
    if result.code not in (0, 2, 75):
        return "exit code", f"exit {result.code}: {result.err[-2000:]}"
    if result.code:
        lines = [line for line in result.err.splitlines() if not _PROGRESS.match(line)]
        if len(lines) != 1 or not lines[0].startswith("aloe: "):
            return "many lines", result.err[:3000]
        if len(lines[0]) > LONGEST:
            return "long line", f"{len(lines[0])} characters: {lines[0][:300]}"
        if re.search(r"[\x00-\x08\x0b-\x1f]", lines[0]):
            return "control characters", repr(lines[0][:600])
        return ("refused" if result.code == 2 else "resumable"), None
    if "Traceback" in result.err:
        return "traceback", result.err[-3000:]
    if case.refuses:
        return "wrong value", f"exit 0, expected a refusal; {result.out[-500:]}"
    try:
        with _limits(CHECKS * DEADLINE):
            wrong = case.check(result)
    except Hang:
        return "hang", f"no end of the check within {CHECKS * DEADLINE:g} seconds\n{traceback.format_exc()[-3000:]}"
    except Exception:
        wrong = f"the check of the result failed:\n{traceback.format_exc()[-3000:]}"
    return ("wrong value", wrong) if wrong else ("ok", None)


def _below(path: str, names: Sequence[str]) -> bool:
    return any(path == name or path.startswith(f"{name}/") for name in names)


def _files(folder: Path) -> dict[str, str]:
    """A mark of the content of every file, link and folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"link {os.readlink(path)}"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    return found


def _memory(what: str) -> int:
    """Resident memory of this process in bytes, now (VmRSS) or at its highest since it was set back (VmHWM)."""
    with contextlib.suppress(OSError):
        if what == "VmRSS":
            Path("/proc/self/clear_refs").write_text("5")
        found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) << 10 if found else 0
    return 0


@contextlib.contextmanager
def _limits(seconds: float) -> Iterator[None]:
    """A deadline and a bound of the memory; what the block sets of signals is set back."""
    before = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    }
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)

    def strike(number: int, frame: object) -> None:
        raise Hang

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    signal.signal(signal.SIGALRM, strike)
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, hard))
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        for number, handler in before.items():
            signal.signal(number, handler)


def remove(folder: Path) -> None:
    """Remove the folder of a case, whatever its rights are."""
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)

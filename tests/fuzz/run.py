"""Fuzzing for as long as wanted: good input, mutated; whatever is no right result, no sentence with exit 2 and no 75 is
written down with the command that repeats it.

    uv run python tests/fuzz/run.py --minutes=60 --seed=0 [--target=NAME,NAME] [--out=DIR]

One worker runs the cases; the parent replaces it when it dies or does not answer any more. Ctrl-C and SIGTERM end it
with the counts so far.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from fuzz.case import CHECKS, DEADLINE, judge, remove  # noqa: E402
from fuzz.targets import TARGETS  # noqa: E402

HERE = Path(__file__)
GOOD = ("ok", "refused", "resumable")
RENEW = 2_000  # cases after which a worker is replaced, since compiled programs stay in memory
GRACE = 30.0  # seconds after the deadlines until a worker counts as hanging
SHOW_EVERY = 30.0  # seconds


def work(pipe: Connection, scratch: str) -> None:
    """Run the cases that come through the pipe, each in a new folder below `scratch`."""
    devices = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devices, 2)  # libraries write their own messages there
    tempfile.tempdir = scratch  # what targets make once is removed with the cases
    while (asked := pipe.recv()) is not None:
        name, seed, number = asked
        folder = Path(scratch) / f"{name}-{seed}-{number}"
        remove(folder)
        folder.mkdir()
        try:
            verdict = judge(name, TARGETS[name], seed, number, folder)
            answer = (verdict.outcome, verdict.problem, verdict.case.told, verdict.case.mutation)
        except Exception as error:  # of the fuzzer itself
            import traceback

            answer = ("fuzzer", f"{error!r}\n{traceback.format_exc()[-3000:]}", "", "")
        if answer[1] is None:
            remove(folder)
        pipe.send(answer)


class Worker:
    """The process that runs the cases."""

    def __init__(self, scratch: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, str(scratch)), daemon=True)
        self.process.start()
        other.close()
        self.count = 0

    def judge(self, name: str, seed: int, number: int) -> tuple[str, str | None, str, str]:
        """Outcome, problem, command and mutation of a case."""
        wait = (1 + CHECKS) * DEADLINE + GRACE + (0 if self.count else 120)
        self.count += 1
        try:
            self.pipe.send((name, seed, number))
            if self.pipe.poll(wait):
                return self.pipe.recv()
            self.end()
            return "hang", f"no end within {wait:g} seconds, and no exception could end it", "", ""
        except (EOFError, OSError):
            self.process.join(5)
            return "died", f"the process ended with {self.process.exitcode}", "", ""

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """The first SIGINT or SIGTERM is a KeyboardInterrupt in the block. Further ones are ignored: `uv run` passes on
    what the terminal has sent already, and what is cleaned up then must come to its end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def end(number: int, frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fuzz(
    names: list[str], seed: int, seconds: float, first: int, last: int | None, out: Path
) -> dict[str, Counter[str]]:
    """Counts by target and outcome. Case after case of every target in turn until the time is over or `last` is done;
    failing inputs are kept in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".running-", dir=out))
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    seen: Counter[str] = Counter()
    began = shown = time.monotonic()
    worker, number = None, first
    try:
        worker = Worker(scratch)
        while time.monotonic() - began < seconds and (last is None or number <= last):
            for name in names:
                outcome, problem, told, mutation = worker.judge(name, seed, number)
                counts[name][outcome] += 1
                if problem is not None:
                    keep(out, scratch, name, seed, number, outcome, problem, told, mutation, seen)
                if not worker.process.is_alive() or worker.count >= RENEW:
                    worker.end()
                    worker = Worker(scratch)
                if time.monotonic() - shown > SHOW_EVERY:
                    shown = time.monotonic()
                    total = sum((sum(each.values()) for each in counts.values()), 0)
                    bad = sum(each[key] for each in counts.values() for key in each if key not in GOOD)
                    print(f"{(shown - began) / 60:.1f} min, {total} cases, {bad} failing", flush=True)
            number += 1
    except KeyboardInterrupt:
        print("interrupted")
    finally:
        if worker is not None:
            worker.end()
        shutil.rmtree(scratch, ignore_errors=True)
    return counts


def keep(
    out: Path, scratch: Path, name: str, seed: int, number: int, outcome: str, problem: str, told: str, mutation: str,
    seen: Counter[str],
) -> None:  # fmt: skip
    """Keep a failing input, unless three of the same target and problem were kept already."""
    last = problem.strip().splitlines()[-1][:80] if outcome == "traceback" else problem[:60]
    kind = f"{name} {outcome} {last}"
    seen[kind] += 1
    if seen[kind] > 3:
        return
    folder, made = out / f"{name}-{seed}-{number}", scratch / f"{name}-{seed}-{number}"
    remove(folder)
    if made.exists():
        made.rename(folder)
    folder.mkdir(parents=True, exist_ok=True)
    repeat = f"uv run python tests/fuzz/run.py --target={name} --seed={seed} --case={number}"
    (folder / "REPORT.txt").write_text(f"{repeat}\n{told}\n{mutation}\n{outcome}\n\n{problem}\n", errors="replace")
    print(f"{name} case {number}: {outcome}: {last}\n    {mutation}\n    {folder}", flush=True)


def main() -> int:
    """The exit code: 1 if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", default=",".join(TARGETS), help="names with commas between them (default: all)")
    parser.add_argument("--case", type=int, help="run only the case with this number")
    parser.add_argument("--cases", type=int, help="run so many cases per target")
    parser.add_argument("--out", type=Path, default=Path("fuzz-failures"), help="folder for failing inputs")
    options = parser.parse_args()
    names = options.target.split(",")
    if unknown := set(names) - set(TARGETS):
        parser.error(f"--target names {', '.join(sorted(unknown))}; expected some of {', '.join(TARGETS)}")
    first, last = 0, None if options.cases is None else options.cases - 1
    if options.case is not None:
        first = last = options.case
    with ended_by_signals():
        counts = fuzz(names, options.seed, 60 * options.minutes, first, last, options.out.resolve())
    for name, found in counts.items():
        print(f"{name:10}", "  ".join(f"{outcome} {count}" for outcome, count in sorted(found.items())))
    print(json.dumps({name: dict(found) for name, found in counts.items()}))
    return int(any(outcome not in GOOD for found in counts.values() for outcome in found))


if __name__ == "__main__":
    sys.exit(main())

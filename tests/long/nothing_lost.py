"""A run that is disturbed in every stage: Ctrl-C, closed terminal, killed shell, full disk. Run by hand:

    JAX_PLATFORMS=cpu PYTHONPATH=tests uv run python tests/long/nothing_lost.py --out=nothing_lost.log

The commands are typed into real shells on real terminals. The same command is typed again after each disturbance, goes
on and is disturbed in the next stage; while it works, a second run in the same folder is refused. At the end every file
must be that of a run that nothing happened to. The full disk is a tmpfs that is filled under the run, for which one has
to be root. A line per disturbance says where the run was, how it ended, what was kept and what the next command says.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aloe_jax.run.lock import holder
from helpers import tiny
from helpers.aloe_command import ALOE, STAGES, Aloe, lines, run_arguments
from helpers.held_file import held
from helpers.run_files import EQUAL, assert_equal_runs
from helpers.shell_terminal import ShellTerminal
from helpers.waiting import until

LONGEST = 3600  # seconds for a command
DISK = 32 << 20  # bytes of the disk that gets full
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # what moves the cursor and colours
SAID = re.compile(r"aloe: (?:stopped|cannot write).*")
SILENT = ("closed terminal", "killed shell")
GOES_ON = re.compile(r"\w+: (?:was interrupted, [a-z ]+|continuing (?:from|with) [^\r\n]+)")


@dataclass(frozen=True)
class Point:
    """A place in the middle of a stage: when `file` has so many `lines`, or once it blocks at the pipe `hold`, or as
    soon as it has begun."""

    file: str = ""
    lines: int = 0
    hold: str = ""


POINTS = {
    "personas": Point(hold="personas/.personas.jsonl.partial"),
    "conversations": Point(file="conversations/trees.jsonl", lines=2),
    "dataset": Point(),
    "sft": Point(file="sft/metrics.jsonl", lines=3),
    "preference": Point(file="preference/metrics.jsonl", lines=3),
    "benchmark": Point(file="benchmark/sft/trees.jsonl", lines=1),
    "export": Point(),
    "report": Point(hold="report/.index.html.partial"),
}
APPENDED = ("conversations/trees.jsonl", "conversations/calls.jsonl", "benchmark/sft/trees.jsonl")


def ended(terminal: ShellTerminal) -> bool:
    """Whether the shell has told the exit code."""
    return "\ncode " in terminal.screen


def called(aloe: Aloe, arguments: list[str], code: int = 0) -> str:
    """What the command shows when it is typed and nothing happens to it."""
    with ShellTerminal([sys.executable, "-c", ALOE, *arguments], aloe.folder, aloe.environment, 1000) as terminal:
        assert until(lambda: ended(terminal), LONGEST), terminal.screen
        assert f"\ncode {code}" in terminal.screen, terminal.screen
        return terminal.screen


def fill(terminal: ShellTerminal, workdir: Path) -> None:
    """Fill the disk, and free it again when the run has ended."""
    ballast = workdir.parent / "ballast"
    with open(ballast, "wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
            file.flush()
    until(lambda: ended(terminal), LONGEST)
    ballast.unlink()


DISTURBANCES: dict[str, Callable[[ShellTerminal, Path], object]] = {
    "Ctrl-C": lambda terminal, workdir: terminal.type("\x03"),
    "closed terminal": lambda terminal, workdir: terminal.close(),
    "killed shell": lambda terminal, workdir: terminal.kill_shell(),
    "full disk": fill,
}


def working(workdir: Path, stage: str) -> bool:
    """Whether the stage has begun and has not finished."""
    try:
        return bool(json.loads((workdir / stage / "manifest.json").read_text())["status"] == "running")
    except (OSError, ValueError):
        return False


def disturbed(
    aloe: Aloe, arguments: list[str], workdir: Path, stage: str, event: str, say: Callable[[str], None]
) -> None:
    """Type the command, disturb it in the middle of a stage, and say what came of it. AssertionError if something was
    lost. A stage that is too quick for it finds the disk full from the start."""
    point, command = POINTS[stage], [sys.executable, "-c", ALOE, *arguments]
    early = bool(point.hold) and event == "full disk"
    blocked = held(workdir / point.hold) if point.hold and not early else contextlib.nullcontext()
    with blocked, ShellTerminal(command, aloe.folder, aloe.environment) as terminal:

        def reached() -> bool:
            return early or (
                working(workdir, stage) and len(lines(workdir / point.file) if point.lines else ()) >= point.lines
            )

        assert until(reached, LONGEST, every=0.002), terminal.screen
        if point.hold and not early:  # which does not go on meanwhile
            assert f"another `aloe run` works in '{workdir}' (process " in called(aloe, arguments, code=2)
            say(f"second run in {stage}: refused")
        before = {name: lines(workdir / name) for name in APPENDED}
        DISTURBANCES[event](terminal, workdir)
        assert until(lambda: holder(workdir) is None, LONGEST), terminal.screen
        said = until(lambda: SAID.findall(terminal.screen), 0 if event in SILENT else LONGEST)
        screen = terminal.screen
    assert early or working(workdir, stage), f"the stage {stage} ended before it was disturbed"
    next_says(screen, say)
    for name, kept in before.items():
        assert lines(workdir / name)[: len(kept)] == kept, name
    say(f"{event} in {stage}: {said[-1].strip() if said else 'no terminal to say anything'}; kept: {kept_of(workdir)}")


def next_says(shown: str, say: Callable[[str], None]) -> None:
    """Say where a command said that it goes on after the disturbance before it."""
    for line in dict.fromkeys(GOES_ON.findall(ESCAPES.sub("", shown))):
        say(f"  the next command: {line}")


def kept_of(workdir: Path) -> str:
    """What the files have of work that is not repeated."""
    found = {name: len(lines(workdir / name)) for name in APPENDED if (workdir / name).exists()}
    for stage in ("sft", "preference"):
        steps = sorted(int(path.name) for path in (workdir / stage).glob("checkpoints/*") if path.name.isdigit())
        found |= {f"checkpoint of {stage}": step for step in steps[-1:]}
    return ", ".join(f"{name} {count}" for name, count in found.items()) or "nothing yet"


@contextlib.contextmanager
def disk(folder: Path, small: bool) -> Iterator[Path]:
    """A folder, which is a small disk of its own if that is wanted."""
    folder.mkdir(parents=True)
    if small:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        if small:
            subprocess.run(["umount", "-l", folder], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", default=",".join(DISTURBANCES), help="some of: " + ", ".join(DISTURBANCES))
    parser.add_argument("--stages", default=",".join(STAGES), help="the stages to disturb")
    parser.add_argument("--out", type=Path, help="file for the lines that are printed")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as opened:
        out = opened.enter_context(open(options.out, "w")) if options.out else None

        def say(text: str) -> None:
            for file in filter(None, (sys.stdout, out)):
                print(f"[{time.monotonic() - began:5.0f} s] {text.replace(made, '...')}", file=file, flush=True)

        folder = Path(made)
        aloe, model = Aloe(folder), tiny.write_folder(folder / "model")
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # libtpu ignores it, and so would the commands started from here
        whole = folder / "whole"
        called(aloe, run_arguments(model, whole))
        say("a run without a disturbance: done")
        for event in options.events.split(","):
            with disk(folder / event.replace(" ", "_"), event == "full disk") as place:
                workdir = place / "run"
                arguments = run_arguments(model, workdir)
                for stage in options.stages.split(","):
                    disturbed(aloe, arguments, workdir, stage, event, say)
                next_says(called(aloe, arguments), say)
                assert_equal_runs(workdir, whole)
                say(f"{event}: all {len(EQUAL)} files and both trainings are those of the run without a disturbance")
            shutil.rmtree(place)


if __name__ == "__main__":
    main()

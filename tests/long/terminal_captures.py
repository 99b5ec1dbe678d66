"""What `aloe run` and `aloe status` look like on terminals of 60, 80 and 120 columns. Run by hand, with tmux installed:

    JAX_PLATFORMS=cpu PYTHONPATH=tests uv run python tests/long/terminal_captures.py --out=captures

runs the stages of the demo's debug size once per width and writes the screen whenever it says something new: a file per
width, with the screens of every stage in order, and those of `aloe status` from another shell. No screen may be wider
than its terminal, and every stage must have been seen with its name, its bar or what it does, and a time.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from helpers import tiny
from helpers.aloe_command import ALOE, ROOT, STAGES, Aloe, run_arguments

LOOK_EVERY, STATUS_EVERY, LONGEST = 0.1, 15.0, 7200  # seconds
VARIABLES = ("PYTHONPATH", "JAX_PLATFORMS", "XLA_FLAGS")  # of the tests, also on that terminal
CHANGING = re.compile(r"[\d⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏━─.,]+")  # what differs from one moment to the next
LIVE = re.compile(r"^[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] (\w+) (.*)$", re.MULTILINE)


class Tmux:
    """A terminal of so many columns in a tmux server of its own."""

    def __init__(self, columns: int, folder: Path) -> None:
        self._server = ["tmux", "-L", f"aloe-{columns}", "-f", "/dev/null"]
        self.call("new-session", "-d", "-s", "run", "-x", str(columns), "-y", "40", "-c", str(folder), "bash --norc")

    def call(self, *arguments: str) -> str:
        done = subprocess.run([*self._server, *arguments], check=True, capture_output=True, text=True)
        return done.stdout

    def type(self, line: str) -> None:
        self.call("send-keys", "-t", "run", "-l", line)
        self.call("send-keys", "-t", "run", "Enter")

    def screen(self) -> str:
        """The rows of the screen with something on them."""
        return "\n".join(row for row in self.call("capture-pane", "-p", "-t", "run").splitlines() if row.strip())


def capture(columns: int, model: str, folder: Path, out: Path) -> set[str]:
    """Run the stages on a terminal of that width and write its screens; returns the stages whose live line was seen."""
    aloe, workdir, seen, stages, began = Aloe(folder), folder / f"run_{columns}", set(), set(), time.monotonic()
    typed = folder / f"typed_{columns}.sh"
    if model:
        config = f"--config={ROOT / 'configs/demo.py'}:debug"
        arguments = ["run", config, f"--workdir={workdir}", f"--config.model.source={model}"]
    else:
        arguments = run_arguments(tiny.write_folder(folder / f"model_{columns}"), workdir)
    typed.write_text(f"clear; {shlex.join([sys.executable, '-c', ALOE, *arguments])}; echo code $?\n")
    terminal, other = Tmux(columns, folder), Status(aloe, workdir, columns)
    try:
        terminal.type("; ".join(f"export {name}={shlex.quote(aloe.environment[name])}" for name in VARIABLES))
        terminal.type(f"source {typed}")
        with open(out / f"{columns}.txt", "w") as file:
            while "\ncode " not in (screen := terminal.screen()):
                assert time.monotonic() - began < LONGEST, screen
                assert max(map(len, screen.splitlines()), default=0) <= columns, screen
                stages |= {name for name, _ in LIVE.findall(screen)}
                if (said := CHANGING.sub("", screen)) not in seen:
                    seen.add(said)
                    print(f"=== {time.monotonic() - began:.0f} s\n{screen}\n", file=file, flush=True)
                if told := other.said():
                    print(f"=== aloe status\n{told}", file=file, flush=True)
                time.sleep(LOOK_EVERY)
            print(f"=== {time.monotonic() - began:.0f} s\n{screen}\n", file=file)
            assert "\ncode 0" in screen, screen
    finally:
        terminal.call("kill-server")
    return stages


class Status:
    """`aloe status` in another shell of that width, again and again."""

    def __init__(self, aloe: Aloe, workdir: Path, columns: int) -> None:
        self._command = [sys.executable, "-c", ALOE, "status", str(workdir)]
        self._environment = aloe.environment | {"COLUMNS": str(columns)}
        self._config, self._asked = workdir / "config.json", 0.0
        self._process: subprocess.Popen[str] | None = None

    def said(self) -> str:
        """What it says, once it has said it; empty before."""
        if self._process is None and self._config.exists() and time.monotonic() - self._asked > STATUS_EVERY:
            self._asked = time.monotonic()
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=subprocess.PIPE, text=True)
        if self._process is None or self._process.poll() is None:
            return ""
        (said, _), self._process = self._process.communicate(), None
        return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the screens to")
    parser.add_argument("--columns", default="60,80,120", help="widths of the terminals")
    parser.add_argument("--model", default="", help="model source (default: a tiny one, with a small run of its own)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for columns in map(int, options.columns.split(",")):
            stages = capture(columns, options.model, Path(folder), options.out)
            missing = [stage for stage in STAGES if stage not in stages]
            print(f"{columns} columns: live lines of {len(stages)} stages, too quick to be seen: {missing or 'none'}")


if __name__ == "__main__":
    main()

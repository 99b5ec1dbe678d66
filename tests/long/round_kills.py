"""On-policy rounds that are killed at random moments and go on with the same command. Run by hand:

    JAX_PLATFORMS=cpu PYTHONPATH=tests uv run python tests/long/round_kills.py --out=round_kills.log

First a run that nothing happens to. Then the same command is started again and again; half of the calls get SIGKILL and
half SIGTERM, at a moment drawn at random: in the time before the first file of this call, or so many files of the
rounds later. Where a run ends before all kills are done, another one begins. In the end each must have the same rounds,
the same metrics but for times, and the same parameters to the bit. A stored batch may be written once: its file is
watched, and no call may replace it, or make a batch of a round that is complete. A line per kill says where the run was
and what it had stored.

Each call is a process of its own, forked from one that has imported everything and done nothing else, since imports
take longer than such rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import jax
import numpy as np
from etils import epath

from aloe_jax.cli.main import entry
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.models import decoder
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.train.checkpoints import restore_params
from helpers import tiny
from helpers.aloe_command import ROOT, lines
from helpers.long_log import saying
from helpers.run_files import rounds, steps
from helpers.waiting import until
from helpers.xla_flags import QUICK

LONGEST = 3600  # seconds for a command
LOOK_EVERY = 0.02  # seconds between two looks at the files
FILES_LATER = 4  # files of the rounds that a call makes at most before it is killed
STARTED = "online: mesh"  # is printed before the first round
ROUNDS, TREES, BATCH = 4, 6, 2
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
IMPORTED = ["__main__", "aloe_jax.cli.commands", "data_gen.online.training", "data_gen.personas.stage"]
PROCESSES = multiprocessing.get_context("forkserver")


def arguments(model: Path, workdir: Path) -> list[str]:
    """Four rounds of three batches of two trees."""
    online = {
        "start": "base", "reference": "base", "rounds": ROUNDS, "trees": TREES, "max_tokens": 8, "learning_rate": 1e-3,
        "warmup": 0.0, "rows": 2, "keep_trees": 0, "async_checkpoint": True, "rollout.turns": 2, "rollout.batch": BATCH,
        "rollout.siblings": 2, "rollout.futures": 1, "rollout.share": 1.0, "alarm.flat": 0, "alarm.repetition": 0,
        "alarm.truncated": 0,
    }  # fmt: skip
    settings = {
        "model.source": model, "seed": 2, "serve.slots": 6, "serve.context": 512, "personas.profiles": 6,
        "personas.personalities": 4, "dataset.max_path": 512, "dataset.row.tokens": 512, "dataset.row.targets": 256,
        **{f"online.{name}": value for name, value in online.items()},
    }  # fmt: skip
    config = f"--config={ROOT / 'configs/demo.py'}:debug"
    given = [f"--config.{name}={value}" for name, value in settings.items()]
    return ["run", config, f"--workdir={workdir}", "--stages=personas,online", *given]


def command(given: list[str], errors: Path) -> None:
    """The `aloe` command as this process, with its stderr in a file."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.argv = ["aloe", *given]
    entry()


@dataclass
class Watch:
    """The files with trees that a run's rounds have had, each with what tells one writing of it from another."""

    folder: Path
    seen: dict[str, set[tuple[int, int]]] = field(default_factory=dict)

    def look(self) -> None:
        """Note what is there now. AssertionError for a file that was written a second time, and for a batch of a round
        that is complete."""
        complete = {Path(name).parent.name for name in self.seen if name.endswith("trees.jsonl")}
        for path in self.folder.glob("*/[bt]*.jsonl"):
            try:
                found = path.stat()
            except FileNotFoundError:  # a batch, since its round is complete
                continue
            name = str(path.relative_to(self.folder))
            assert name in self.seen or path.parent.name not in complete, f"{name} after its round was complete"
            self.seen.setdefault(name, set()).add((found.st_ino, found.st_mtime_ns))
            assert len(self.seen[name]) == 1, f"{name} was written twice"


@dataclass
class Trial:
    """What all runs have in common: the stderr of their calls, the model, the draws, and where to say what happens."""

    errors: Path
    model: Path
    draws: random.Random
    say: Callable[[str], None]
    first: float = 0.0  # seconds to the first file of a call, and from one to the next
    gap: float = 0.0

    def started(self, workdir: Path) -> BaseProcess:
        """The command, as a process."""
        self.errors.write_text("")
        process = PROCESSES.Process(target=command, args=(arguments(self.model, workdir), self.errors))
        process.start()
        return process

    def called(self, watch: Watch, workdir: Path, number: int | None) -> int:
        """One call, which gets the signal `number` at a random moment (None: it gets none); its exit code."""
        before, process = len(watch.seen), self.started(workdir)
        later = self.draws.randrange(FILES_LATER)
        began, pause = time.monotonic(), self.draws.random() * (self.gap if later else self.first)

        def reached() -> bool:
            watch.look()
            return not process.is_alive() or (number is not None and self._reached(watch, before + later))

        try:
            assert until(reached, LONGEST, every=LOOK_EVERY), self.errors.read_text()
            if number is not None:
                until(lambda: bool(watch.look() or not process.is_alive()), pause, every=LOOK_EVERY)
                if process.is_alive():
                    os.kill(process.pid, number)
            process.join(LONGEST)
            code = process.exitcode
            assert code in (0, 75, -signal.SIGKILL), self.errors.read_text()
            watch.look()
        finally:
            process.kill()
            process.join()
        if number is not None:
            here = sorted(str(path.relative_to(watch.folder)) for path in watch.folder.glob("*/[bt]*.jsonl"))
            done = len(lines(workdir / "online/metrics.jsonl"))
            took = time.monotonic() - began
            self.say(
                f"{signal.Signals(number).name} after {took:.1f} s: exit {code}, {done} updates, "
                f"{len(watch.seen) - before} new files; there are {', '.join(here) or 'none'}"
            )
        return code

    def _reached(self, watch: Watch, files: int) -> bool:
        return STARTED in self.errors.read_text() and len(watch.seen) >= files


def whole(trial: Trial, workdir: Path) -> None:
    """A run that nothing happens to, which also tells how long its parts take."""
    watch, began, times = Watch(workdir / "online/rounds"), time.monotonic(), list[float]()
    process = trial.started(workdir)

    def over() -> bool:
        before, started = len(watch.seen), not times and STARTED in trial.errors.read_text()
        watch.look()
        times.extend([time.monotonic()] * (len(watch.seen) - before + started))
        return not process.is_alive()

    assert until(over, LONGEST, every=LOOK_EVERY)
    assert process.exitcode == 0, trial.errors.read_text()
    trial.first = (times[1] - times[0]) / 2  # what is compiled in that time is read from a cache later
    trial.gap = (times[-1] - times[1]) / (len(times) - 2)
    trial.say(f"whole: {len(watch.seen)} files with trees in {times[-1] - began:.0f} s")


def parameters(model: Path, workdir: Path) -> list[np.ndarray]:
    """The parameters of the last checkpoint."""
    config, _ = read_chat_model(epath.Path(model))
    places = decoder.shardings(config, make_mesh(devices=jax.devices()[:1]))
    found = restore_params(epath.Path(workdir / "online/checkpoints"), config, places)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(found)]


def assert_equal(trial: Trial, workdir: Path, other: Path) -> None:
    """Hold rounds, metrics and parameters to be those of the run that nothing happened to."""
    found, expected = rounds(workdir), rounds(other)
    assert found == expected
    assert steps(workdir, "online") == steps(other, "online")
    pairs = list(zip(parameters(trial.model, workdir), parameters(trial.model, other), strict=True))
    assert all(mine.tobytes() == theirs.tobytes() for mine, theirs in pairs)
    trial.say(f"equal: {len(found)} files of rounds, {ROUNDS} lines of metrics, {len(pairs)} tensors of parameters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many there are")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="file for the lines that are printed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, saying(options.out, made) as say:
        folder = Path(made)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
        os.environ |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "XLA_FLAGS": QUICK}  # all programs are small
        PROCESSES.set_forkserver_preload(IMPORTED)
        trial = Trial(folder / "stderr", tiny.write_folder(folder / "model"), random.Random(options.seed), say)
        numbers = [SIGNALS[place % 2] for place in range(options.kills)]
        trial.draws.shuffle(numbers)
        whole(trial, folder / "whole")
        run = 0
        while numbers:
            run += 1
            workdir = folder / f"killed-{run}"
            watch = Watch(workdir / "online/rounds")
            while trial.called(watch, workdir, numbers[-1] if numbers else None) != 0:
                numbers.pop()
            say(f"run {run}: {len(watch.seen)} files with trees, each written once")
            assert_equal(trial, workdir, folder / "whole")
        say(f"all {options.kills} kills are done")


if __name__ == "__main__":
    main()

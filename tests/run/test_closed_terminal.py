"""A terminal that is closed under a command: what was done is kept, and no failing write ends the work."""

import errno
import os
import pty
import signal
import sys

import pytest

from aloe_jax.cli import signals
from aloe_jax.cli.streams import CLOSED, UNWRITABLE, lasting
from aloe_jax.run.lock import holder
from helpers.aloe_command import ALOE, DEADLINE, STAGES, copy_stages, lines, run_arguments
from helpers.run_files import steps
from helpers.shell_terminal import ShellTerminal
from helpers.waiting import until


def closed_terminal():
    """A stream to a terminal whose other end is closed."""
    end, terminal = pty.openpty()
    stream = open(terminal, "w")  # noqa: SIM115
    os.close(end)
    return stream


def test_a_closed_terminal_is_written_to_without_an_error():
    stream = closed_terminal()
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        os.write(stream.fileno(), b"lost")
    kept = lasting(stream, CLOSED)
    print("lost too", file=kept, flush=True)
    assert os.isatty(stream.fileno()) is False


@pytest.mark.parametrize(("dropped", "raises"), [(CLOSED, True), (UNWRITABLE, False)])
def test_whose_reader_may_exit(dropped, raises):
    """Of results that is the end, as with `aloe config | head`; of what is displayed beside them it is none."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        kept = lasting(stream, dropped)
        if raises:
            with pytest.raises(BrokenPipeError):
                print("lost", file=kept, flush=True)
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # for what is left in the buffer
        else:
            print("lost", file=kept, flush=True)


def test_a_disk_that_is_full_ends_no_display():
    with open("/dev/full", "w") as stream:
        print("lost", file=lasting(stream, UNWRITABLE), flush=True)


@pytest.fixture
def handlers():
    """The handlers of all signals are set back at the end."""
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_hang_up_interrupts_once(handlers):
    """The second one arrives while the first one is dealt with."""
    signals.raise_interrupts()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)


def test_a_hang_up_that_is_ignored_stays_so(handlers):
    """As under `nohup`."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals.exit_at_once()
    signals.raise_interrupts()
    os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


@pytest.mark.slow
def test_a_training_whose_terminal_is_closed_or_whose_shell_is_killed_goes_on(
    aloe_process, tiny_model, finished, tmp_path
):
    """First the terminal is closed under it, then the shell is killed in which the same command was typed again. Both
    times it saves a checkpoint outside the interval of steps and lets go of the run; the third call ends like a run
    that nothing happened to."""
    workdir = copy_stages(finished.workdir, tmp_path / "run", *STAGES[:3])
    arguments = run_arguments(tiny_model, workdir, "--stages=sft", "--config.sft.checkpoint_every=100")
    command, done = [sys.executable, "-c", ALOE, *arguments], 0
    for happens in (ShellTerminal.close, ShellTerminal.kill_shell):
        with ShellTerminal(command, tmp_path, aloe_process.environment) as terminal:
            reached = lambda done=done: len(lines(workdir / "sft/metrics.jsonl")) >= done + 2  # noqa: E731
            assert until(reached, DEADLINE), terminal.screen
            happens(terminal)
            assert until(lambda: holder(workdir) is None, DEADLINE), terminal.screen
        if done:
            assert f"sft: continuing from step {done} of 12 (checkpoint of " in terminal.screen
        done = len(steps(workdir, "sft"))
        assert [int(path.name) for path in (workdir / "sft/checkpoints").iterdir()] == [done]
        assert done < 12
    result = aloe_process.call(arguments)
    assert result.returncode == 0, result.stderr
    assert f"sft: continuing from step {done} of 12 (checkpoint of " in result.stderr
    assert steps(workdir, "sft") == steps(finished.workdir, "sft")

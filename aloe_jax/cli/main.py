"""The `aloe` command. Exit codes: 0 success, 2 bad input (one sentence, nothing changed), 75 stopped in a state that
the same command resumes, 1 anything else."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from aloe_jax.cli import signals
from aloe_jax.cli.devices import leave_libtpu_alone
from aloe_jax.cli.parser import make_parser
from aloe_jax.cli.spaced import joined
from aloe_jax.cli.streams import CLOSED, UNWRITABLE, lasting
from aloe_jax.errors import AloeError, InputError, ResumableError

LONGEST = 1_200  # characters of a sentence that ends a command
# Time for the reason to arrive from another process, after an error of a collective and after any other one.
LOST_SECONDS, UNKNOWN_SECONDS = 5.0, 0.5
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    code, sentence, options = 0, "", argparse.Namespace(distributed="")
    leave_libtpu_alone()
    try:
        options, rest = make_parser().parse_known_args(joined(sys.argv[1:] if argv is None else argv), options)
        wrong = [argument for argument in rest if not (options.takes_config and _is_config(argument))]
        if wrong:
            raise InputError(f"unrecognised argument '{wrong[0]}'; see `aloe --help`")
        options.config_arguments = rest
        options.command(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code, sentence = ResumableError.exit_code, signals.STOPPED
    except BrokenPipeError:  # the reader of our output exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        expected = _expected(error, bool(options.distributed))
        if expected is not None:
            code, sentence = expected.exit_code, str(expected)
        elif not options.distributed:
            raise
        else:
            traceback.print_exc()
            _leave(1, f"{type(error).__name__}: {error}")
    if not code:
        return 0
    print(f"aloe: {one_line(sentence)}", file=sys.stderr)
    if options.distributed:
        _leave(code, sentence)
    return code


def _is_config(argument: str) -> bool:
    return argument == "--config" or argument.startswith(("--config=", "--config."))


def _leave(code: int, why: str) -> NoReturn:
    """End one of several processes after a failure; the others are told the reason."""
    from aloe_jax.parallel import hosts

    hosts.leave(code, one_line(why))


def one_line(sentence: str) -> str:
    """A sentence on one line of at most `LONGEST` characters: it quotes values of files, which may be long and hold
    line breaks and the control characters of terminals. Its middle is left out, as its ends say what to do where."""
    shown = _CONTROL.sub(lambda found: repr(found[0])[1:-1], sentence.strip())
    if len(shown) <= LONGEST:
        return shown
    return f"{shown[: LONGEST // 2]} [...] {shown[-LONGEST // 2 :]}"


def _expected(error: BaseException, distributed: bool) -> AloeError | None:
    """The failure that a user can fix, if `error` is one or a group that contains one; None for a defect of ours. Only
    a `distributed` run has other processes that can go away."""
    from aloe_jax.errors import disk_full, failed_write

    if isinstance(error, AloeError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, (_expected(one, distributed) for one in error.exceptions)), None)
    if distributed and (gone := _failure_elsewhere(error)) is not None:
        return gone
    if disk_full(error):
        # Of a copy, the second file is the one that is written.
        where = getattr(error, "filename2", None) or getattr(error, "filename", None)
        return failed_write(where or "the output", error)
    if isinstance(error, (IsADirectoryError, NotADirectoryError, FileExistsError, PermissionError)) and error.filename:
        return InputError(f"cannot use '{error.filename}': {error.strerror}; check the path and its permissions")
    return None


def _failure_elsewhere(error: BaseException) -> AloeError | None:
    """The failure of another process of the run, if `error` follows from it: a collective with a lost partner raises
    one of several types before the connection says who was lost. None if the cause is in this process."""
    from aloe_jax.parallel import hosts

    partner = re.search("Gloo .* failed|coordination service|heartbeat", str(error)) is not None
    found = hosts.failure_elsewhere(LOST_SECONDS if partner else UNKNOWN_SECONDS)
    if found is None and partner:
        reason = str(error).splitlines()[0]
        return ResumableError(
            f"another process of this run went away ({reason}); the same command on all hosts continues"
        )
    return found


def entry() -> NoReturn:
    """The console script: run a command and exit with its code.

    A stopped command exits at once, since threads of libraries would run into each other at an orderly shutdown.
    """
    signals.exit_at_once()
    # The reader of results may exit, which ends the command. What shows its progress may not.
    sys.stdout, sys.stderr = lasting(sys.stdout, CLOSED), lasting(sys.stderr, UNWRITABLE)
    code = main()
    if code == ResumableError.exit_code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    entry()

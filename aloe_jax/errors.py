"""Failures that the user can fix, each kind with its exit code.

Raise these with one sentence that names the field or file, the value found, the expected one, and the setting or
command that fixes it. The command line prints that sentence without a traceback.
"""


class AloeError(Exception):
    """An expected failure; `exit_code` is the exit code of the `aloe` command for it."""

    exit_code = 1


class InputError(AloeError):
    """The configuration, a file or an argument is wrong; nothing was changed."""

    exit_code = 2


class ResumableError(AloeError):
    """The work stopped half-way in a state that the same command resumes (EX_TEMPFAIL of sysexits.h)."""

    exit_code = 75

"""What can go wrong in a way the user can mend, and the exit code each kind leaves with.

Raise these with one sentence that names the field or file, the value found, what was expected and the setting or
command that mends it. The command line prints that sentence without a traceback.
"""


class AloeError(Exception):
    """An expected failure; `exit_code` is what the `aloe` command returns for it."""

    exit_code = 1


class InputError(AloeError):
    """The configuration, a file or an argument is wrong; nothing was changed."""

    exit_code = 2


class ResumableError(AloeError):
    """The work stopped half-way in a state that the same command resumes (EX_TEMPFAIL of sysexits.h)."""

    exit_code = 75

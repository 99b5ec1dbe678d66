"""Failures that the user can fix, each kind with its exit code.

Raise these with one sentence that names the field or file, the value found, the expected one, and the setting or
command that fixes it. The command line prints that sentence without a traceback.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etils import epath

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Libraries with writers of their own (tensorstore, ArrayRecord) put it into the message of another exception.
_FULL_MESSAGE = re.compile("No space left on device|Disk quota exceeded|File too large")


class AloeError(Exception):
    """An expected failure; `exit_code` is the exit code of the `aloe` command for it."""

    exit_code = 1


class InputError(AloeError):
    """The configuration, a file or an argument is wrong; nothing was changed."""

    exit_code = 2


class ResumableError(AloeError):
    """The work stopped half-way in a state that the same command resumes (EX_TEMPFAIL of sysexits.h)."""

    exit_code = 75


def disk_full(error: BaseException) -> bool:
    """Whether a write failed because the disk, the quota or the maximum file size is exhausted."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return bool(_FULL_MESSAGE.search(str(error)))


def failed_write(path: epath.PathLike, error: BaseException) -> ResumableError:
    """The error for a write that the system refused, with the system's own reason."""
    found = _FULL_MESSAGE.search(str(error))
    reason = (error.strerror if isinstance(error, OSError) else None) or (found.group() if found else str(error))
    remedy = "free some" if disk_full(error) else "mend it"
    return ResumableError(f"cannot write '{path}': {reason}; {remedy}, then run the same command again")

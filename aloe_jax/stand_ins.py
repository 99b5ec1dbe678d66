"""What may lie in a file's place after a download that went wrong: a pointer of Git LFS, or a web page."""

from __future__ import annotations

from etils import epath

from aloe_jax.errors import InputError

HEAD = 64  # bytes that tell


def refuse_stand_in(path: epath.PathLike, head: bytes) -> None:
    """Raise InputError if a file that begins with `head` only stands for the one that was meant."""
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:HEAD].lower()
    if begin.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{path} is a Git LFS pointer and not the file itself; run `git lfs install` and `git lfs pull` in its "
            "repository, or download the file"
        )
    if begin.startswith((b"<!doctype html", b"<html")):
        raise InputError(
            f"{path} is a web page and not the file itself; download it again (the address of a file, not of its page, "
            "and logged in where that is needed)"
        )

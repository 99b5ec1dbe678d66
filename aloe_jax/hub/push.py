"""`aloe push`: a model or dataset folder to the hub."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from aloe_jax.errors import InputError, ResumableError
from aloe_jax.hub import byte_ranges
from aloe_jax.hub.pushed_files import Pushed, pushed_files
from aloe_jax.hub.source import HUB_ID

LISTED = 10  # files that are left out, by name
REMEDY = "run `hf auth login`, or set HF_TOKEN to one that may write"


def push_folder(folder: Path, repository: str | None, public: bool, message: str | None, dry_run: bool) -> None:
    """Print what of a folder is uploaded and, unless `dry_run`, upload it and print its address. Raises InputError as
    `pushed_files` and `push` do, the latter also ResumableError."""
    found = pushed_files(folder)
    print("\n".join(listing(found)), flush=True)
    if dry_run:
        return
    if not repository:
        raise InputError("--repo is missing; name the repository to upload to (owner/name), or give --dry-run")
    print(push(found, repository, public, message or f"Upload {found.kind} with aloe_jax"))


def listing(found: Pushed) -> list[str]:
    """A line per file with its size, one with their sum, and one with what is left out."""
    lines = [f"{_size(size):>10}  {name}" for name, size in found.sizes.items()]
    count = len(found.sizes)
    lines.append(
        f"{_size(sum(found.sizes.values())):>10}  in {count} file{'' if count == 1 else 's'} of a {found.kind}"
    )
    if found.left:
        more = len(found.left) - LISTED
        names = ", ".join(found.left[:LISTED]) + (f" and {more:,} more" if more > 0 else "")
        lines.append(f"left out, as no part of the {found.kind}: {names}")
    return lines


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, {"B": "kB", "kB": "MB", "MB": "GB", "GB": "TB"}[unit]
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def push(found: Pushed, repository: str, public: bool, message: str) -> str:
    """Upload the files to the hub's `repository` (owner/name), in one commit; returns its address.

    A repository that does not exist is created, private unless `public`. Raises InputError for another name, without a
    token and for what the hub refuses, and ResumableError for a failed connection: large files that have arrived are
    not sent again.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import disable_progress_bars

    if not HUB_ID.fullmatch(repository):
        raise InputError(f"--repo: '{repository}' is no name of a repository; expected owner/name")
    token = get_token()
    if not token:
        raise InputError(f"there is no token for the hub; {REMEDY}")
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(token=token, library_name="aloe_jax")
    files = [CommitOperationAdd(name, str(found.folder / name)) for name in found.sizes]
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            api.create_repo(repository, repo_type=found.kind, private=not public, exist_ok=True)
            made = api.create_commit(repository, files, commit_message=message, repo_type=found.kind)
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        reason = _without(token, byte_ranges.reason(error))
        if status >= 500 or status in (0, 408, 429):
            raise ResumableError(f"the hub failed ({reason}); the same command goes on") from None
        remedy = REMEDY if status in (401, 403, 404) else "correct that, and run the command again"
        raise InputError(f"the hub refuses '{repository}' ({reason}); {remedy}") from None
    except ValueError as error:  # metadata that the hub refuses
        raise InputError(f"the hub refuses '{repository}' ({_without(token, ' '.join(str(error).split()))})") from None
    except Exception as error:  # of an HTTP library that depends on the hub's version
        reason = _without(token, byte_ranges.reason(error))
        raise ResumableError(f"'{repository}' was not uploaded ({reason}); the same command goes on") from None
    for warning in said:
        if issubclass(warning.category, UserWarning):  # on the card; others concern libraries
            print(_without(token, " ".join(str(warning.message).split())), file=sys.stderr)
    return str(made.commit_url)


def _without(token: str, text: str) -> str:
    """A text in which the token does not appear."""
    return text.replace(token, "***")

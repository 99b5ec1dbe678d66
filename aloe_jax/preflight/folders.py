"""The run directory and the cache of compiled programs: can this host write, read and delete there, and as whom?"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from aloe_jax.bucket.places import in_bucket
from aloe_jax.errors import InputError
from aloe_jax.preflight.host import Host

PROBE_SECONDS = 60  # a bucket that is not there may not answer at all (jax-ml/jax, issue 22364)
_EMULATOR = "STORAGE_EMULATOR_HOST"  # gcsfs talks to that address without an account


def probed_workdir(host: Host) -> Iterator[str]:
    """A file can be written, read and deleted in the run directory, which is a folder or in a bucket."""
    try:
        in_bucket(host.workdir)
    except InputError as error:
        yield f"--workdir: {error}"
    else:
        yield from _probed("--workdir", host.workdir)


def probed_cache(host: Host) -> Iterator[str]:
    """The same for JAX's compilation cache."""
    yield from _probed("--cache-dir" if host.cache_dir else "JAX_COMPILATION_CACHE_DIR", host.compilation_cache)


def used_as(folder: str) -> str:
    """What was done there, for the table."""
    if not folder:
        return ""
    return f"{folder}: written, read, deleted as {account() if _in_store(folder) else _user()}"


def _probed(name: str, folder: str) -> Iterator[str]:
    if folder and (reason := _within(PROBE_SECONDS, folder)):
        yield f"{name}: '{folder}' cannot be used ({reason}); {_remedy(folder)}"


def _within(seconds: float, folder: str) -> str:
    """The reason for which a file cannot be written, read and deleted in that time; empty if it can."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(_try(folder)), daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else f"no answer within {seconds:g} seconds"


def _try(folder: str) -> str:
    from etils import epath

    content = secrets.token_bytes(16)
    try:
        if _in_store(folder):
            for client in map(logging.getLogger, ("gcsfs", "google.auth")):
                client.setLevel(logging.CRITICAL)  # they would print tracebacks in addition to our sentence
            place = epath.Path(folder)
        else:
            # A run directory that is not there stays away: it is made by the run, after all checks.
            wanted = Path(folder).absolute()
            place = epath.Path(next(part for part in (wanted, *wanted.parents) if part.exists()))
        file = place / f".preflight-{socket.gethostname()}-{secrets.token_hex(4)}"
        file.write_bytes(content)
        try:
            same = file.read_bytes() == content
        finally:
            file.unlink()
    except Exception as error:  # libraries of object stores raise types of their own
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return "" if same else "what is read differs from what was written"


def _remedy(folder: str) -> str:
    if not _in_store(folder):
        return f"`mkdir -p {folder} && sudo chown $USER {folder}`, or give another folder"
    if importlib.util.find_spec("gcsfs") is None:
        return "`pip install gcsfs`, which reads and writes buckets"
    bucket = "/".join(folder.split("/")[:3])
    who = account()
    member = f"{'serviceAccount' if who.endswith('gserviceaccount.com') else 'user'}:{who}" if "@" in who else "MEMBER"
    return (
        f"`gcloud storage buckets describe {bucket}` says whether it exists, and `gcloud storage buckets "
        f"add-iam-policy-binding {bucket} --member={member} --role=roles/storage.objectUser` lets {who} use it"
    )


def account() -> str:
    """The account that Google Cloud sees behind this host's calls, as far as it can be told."""
    if os.environ.get(_EMULATOR):
        return f"nobody ({_EMULATOR})"
    try:
        import google.auth
        from google.auth.compute_engine import Credentials
        from google.auth.transport.requests import Request

        credentials, _ = google.auth.default()
        if isinstance(credentials, Credentials):  # the name of a VM's account is known after the first token
            credentials.refresh(Request())
        named = getattr(credentials, "service_account_email", "") or getattr(credentials, "account", "")
    except Exception:  # not installed, or no credentials
        named = ""
    return str(named) or "this host's account (`gcloud auth list` shows it)"


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return str(os.getuid())


def _in_store(folder: str) -> bool:
    return "://" in folder

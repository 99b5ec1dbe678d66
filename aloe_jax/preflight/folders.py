"""The run directory and the cache of compiled programs: can this host write, read and delete there?"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

from aloe_jax.preflight.host import Host

PROBE_SECONDS = 60  # a bucket that is not there may not answer at all


def probed_folders(host: Host) -> Iterator[str]:
    """A file can be written, read and deleted in the run directory and in JAX's compilation cache."""
    cache = host.cache_dir or host.environment.get("JAX_COMPILATION_CACHE_DIR", "")
    for name, folder in (("--workdir", host.workdir), ("compilation cache", cache)):
        if folder and (reason := _probe(folder)):
            yield f"{name}: '{folder}' cannot be used ({reason}); {_remedy(folder)}"


def _probe(folder: str) -> str:
    """The reason for which a file cannot be written, read and deleted in that time; empty if it can."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(_try(folder)), daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return found[0] if found else f"no answer within {PROBE_SECONDS} seconds"


def _try(folder: str) -> str:
    from etils import epath

    content = os.urandom(16)
    try:
        place = epath.Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        file = place / f".preflight-{socket.gethostname()}-{os.getpid()}"
        file.write_bytes(content)
        try:
            same = file.read_bytes() == content
        finally:
            file.unlink()
    except Exception as error:  # libraries of object stores raise types of their own
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return "" if same else "what is read differs from what was written"


def _remedy(folder: str) -> str:
    if not folder.startswith("gs://"):
        return f"`mkdir -p {folder} && sudo chown $USER {folder}`, or give another folder"
    bucket = "/".join(folder.split("/")[:3])
    return (
        f"give {_account()} access: `gcloud storage buckets add-iam-policy-binding {bucket} --member=MEMBER "
        "--role=roles/storage.objectAdmin`, with gcsfs installed (`pip install 'aloe_jax[gcs]'`)"
    )


def _account() -> str:
    """The account that calls of Google Cloud are made with, as far as it can be told."""
    try:
        import google.auth

        credentials, _ = google.auth.default()
        return str(getattr(credentials, "service_account_email", "") or "your account")
    except Exception:  # not installed, or no credentials
        return "this host's account (`gcloud auth list` shows it)"

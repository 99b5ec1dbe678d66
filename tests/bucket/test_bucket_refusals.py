"""What is said when a bucket refuses: the words of the server, which name the account and the permission."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aloe_jax.bucket.store import Store
from aloe_jax.errors import InputError

# The form of an answer of Google Cloud Storage: bespokelabsai/curator, issue 665.
DENIED = "tpu@p.iam.gserviceaccount.com does not have storage.objects.create access to the Google Cloud Storage object."
MISSING = "The specified bucket does not exist."


class _Refusing(BaseHTTPRequestHandler):
    """Answers each request as the service answers about a bucket of that name."""

    def do_GET(self):
        self._answer(404, MISSING)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(*((404, MISSING) if "/missing/" in self.path else (403, DENIED)))

    def _answer(self, code, message):
        errors = [{"message": message, "domain": "global", "reason": "none"}]
        content = json.dumps({"error": {"code": code, "message": message, "errors": errors}}, indent=2).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *arguments):
        """Prints nothing."""


@pytest.fixture
def refusing(monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{service.server_port}")
        yield
        service.shutdown()


@pytest.mark.parametrize(
    ("call", "bucket", "reason"),
    [
        (lambda store: store.write("name", b"1", 0), "missing", f"(404 {MISSING}); check the bucket"),
        (lambda store: store.write("name", b"1", 0), "closed", f"(403 {DENIED}); check the bucket"),
        (lambda store: store.objects(), "missing", f"(404 {MISSING}); check the bucket"),
    ],
)
def test_the_reason_is_the_servers(refusing, call, bucket, reason):
    with pytest.raises(InputError) as refused:
        call(Store(f"gs://{bucket}/run"))
    assert str(refused.value).startswith(f"'gs://{bucket}/run' cannot be used {reason}")

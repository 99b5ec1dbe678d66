"""A hub on this machine that takes uploads: the endpoints that the real client calls for them, with LFS storage."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from helpers.served import serving

LARGE = (".safetensors", ".parquet")  # files that go into LFS storage, as the hub decides by name and size


class UploadHub(ThreadingHTTPServer):
    """`repositories` maps (kind, owner/name) to its files and whether it is private; `requests` are (method, path).
    Requests without `token` are refused, and those of the owner `other`. `broken`: storage fails with 500."""

    daemon_threads = True

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.token, self.broken = token, False
        self.repositories: dict[tuple[str, str], dict[str, bytes]] = {}
        self.private: dict[tuple[str, str], bool] = {}
        self.stored: dict[str, bytes] = {}  # large files by hash
        self.requests: list[tuple[str, str]] = []
        self.messages: list[str] = []  # of commits

    def handle_error(self, *connection: Any) -> None:
        """A client may disconnect after its response."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: UploadHub

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, content: Any = None, code: str = "") -> None:
        data = json.dumps(content if content is not None else {}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
        self.end_headers()
        self.wfile.write(data)

    def do_PUT(self) -> None:
        """A large file, at the address that the batch request gave."""
        body, hub = self._body(), self.server
        hub.requests.append(("PUT", self.path))
        if hub.broken:
            self._answer(500)
            return
        assert self.path == f"/storage/{hashlib.sha256(body).hexdigest()}"
        hub.stored[self.path.rpartition("/")[2]] = body
        self._answer(200)

    def do_POST(self) -> None:
        body, hub = self._body(), self.server
        path = self.path.partition("?")[0]
        hub.requests.append(("POST", path))
        if self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._answer(401, {"error": "Invalid credentials"})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            content = json.loads(body)["content"]
            wrong = "license: unknown-licence" in content
            self._answer(400 if wrong else 200, {"errors": [{"message": '"license" must be one of'}] if wrong else []})
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self._batch(json.loads(body))
        elif found := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)/(preupload|commit)/main", path):
            key = found[1], found[2]
            if key not in hub.repositories:
                self._answer(404, code="RepoNotFound")
            elif found[3] == "preupload":
                names = [each["path"] for each in json.loads(body)["files"]]
                modes = [{"path": n, "uploadMode": "lfs" if n.endswith(LARGE) else "regular"} for n in names]
                self._answer(200, {"files": [mode | {"shouldIgnore": False, "oid": None} for mode in modes]})
            else:
                self._commit(key, body)
        else:
            self._answer(404)

    def _create(self, asked: dict[str, Any]) -> None:
        key, hub = (asked.get("type", "model"), f"{asked['organization']}/{asked['name']}"), self.server
        if asked["organization"] == "other":
            self._answer(403, {"error": "You don't have the rights to create a model under the namespace"})
            return
        url = f"{hub.url}/{key[1]}"
        if key in hub.repositories:
            self._answer(409, {"error": "You already created this model repo", "url": url})
            return
        hub.repositories[key] = {}
        hub.private[key] = asked.get("visibility") == "private" or bool(asked.get("private"))
        self._answer(200, {"url": url})

    def _batch(self, asked: dict[str, Any]) -> None:
        found = []
        for each in asked["objects"]:
            entry = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.server.stored:
                entry["actions"] = {"upload": {"href": f"{self.server.url}/storage/{each['oid']}"}}
            found.append(entry)
        self._answer(200, {"transfer": "basic", "objects": found})

    def _commit(self, key: tuple[str, str], body: bytes) -> None:
        repository = self.server.repositories[key]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.server.messages.append(value["summary"])
            elif line["key"] == "lfsFile":
                repository[value["path"]] = self.server.stored[value["oid"]]
            else:
                repository[value["path"]] = base64.b64decode(value["content"])
        url = f"{self.server.url}/{key[1]}/commit/{'1' * 40}"
        self._answer(200, {"success": True, "commitOid": "1" * 40, "commitUrl": url})

    def log_message(self, *arguments: Any) -> None:
        """Log nothing."""


def upload_hub(token: str) -> contextlib.AbstractContextManager[UploadHub]:
    """The hub while a block runs; clients find it by HF_ENDPOINT."""
    return serving(UploadHub(token))

"""Google Cloud Storage and the model hub on this machine: the few requests that their clients send to read a model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from helpers.served import serving

COMMIT = "0" * 40


class _Handler(BaseHTTPRequestHandler):
    """Responds with the result of its server's `answer(path, query)`: a file, an object for JSON, or an HTTP status."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        found = self.server.answer(unquote(parts.path), query)
        if isinstance(found, Path):
            self._send_file(found)
        elif isinstance(found, int):
            self._send(found, b"", {"X-Error-Code": {401: "GatedRepo", 404: "RepoNotFound"}.get(found, "")})
        else:
            self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send_file(self, path: Path) -> None:
        data = path.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked:
            data = data[int(asked[1]) : int(asked[2] or len(data)) + 1]
            self.server.ranges.append((path.name, len(data)))
        self._send(206 if asked else 200, data, headers)

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.ranges: list[tuple[str, int]] = []  # (file, bytes) of every request for a part of a file
        self.url: str = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *connection: Any) -> None:
        """A client may disconnect after its response; any other error fails the test on the client's side."""


def _serving(answer: Any) -> contextlib.AbstractContextManager[_Server]:
    return serving(_Server(answer))


def cloud_storage(root: Path) -> contextlib.AbstractContextManager[_Server]:
    """A store (JSON API) whose buckets are the folders in `root`; clients find it by STORAGE_EMULATOR_HOST. The bucket
    `forbidden` answers 403."""

    def entry(bucket: str, path: Path) -> dict[str, Any]:
        name = path.relative_to(root / bucket).as_posix()
        size, date = path.stat().st_size, "2024-01-01T00:00:00.000Z"
        return {"kind": "storage#object", "bucket": bucket, "name": name, "size": str(size), "updated": date}

    def answer(path: str, query: dict[str, str]) -> Any:
        found = re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o(?:/(.*))?", path)
        if found is None or not (root / found[1]).is_dir():
            return 403 if "/forbidden/" in path else 404
        bucket, name = found.groups()
        if name is not None:
            file = root / bucket / name
            return 404 if not file.is_file() else file if "alt" in query else entry(bucket, file)
        prefix, items, folders = query.get("prefix", ""), [], set()
        for file in sorted(file for file in (root / bucket).rglob("*") if file.is_file()):
            rest = entry(bucket, file)["name"]
            if not rest.startswith(prefix):
                continue
            head, cut, _ = rest.removeprefix(prefix).partition(query.get("delimiter") or "\n")
            if cut:
                folders.add(prefix + head + cut)
            else:
                items.append(entry(bucket, file))
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(folders)}

    return _serving(answer)


def model_hub(root: Path) -> contextlib.AbstractContextManager[_Server]:
    """A hub whose models are the folders OWNER/NAME in `root`; clients find it by HF_ENDPOINT. Models of the owner
    `gated` are refused."""

    def answer(path: str, query: dict[str, str]) -> Any:
        found = re.fullmatch(r"(?:/api/models)?/([^/]+/[^/]+)(?:/(revision|tree|resolve)/[^/]+)?(?:/(.*))?", path)
        if found is None or not (root / found[1]).is_dir():
            return 401 if found and found[1].startswith("gated/") else 404
        name, kind, file = found.groups()
        files = sorted(path for path in (root / name).rglob("*") if path.is_file())
        names = [path.relative_to(root / name).as_posix() for path in files]
        if kind == "resolve":
            return root / name / file if file in names else 404
        if kind == "tree":
            sizes = zip(names, files, strict=True)
            return [{"type": "file", "path": at, "size": path.stat().st_size, "oid": "0" * 40} for at, path in sizes]
        return {"id": name, "sha": COMMIT, "siblings": [{"rfilename": at} for at in names]}

    return _serving(answer)

"""The viewer's server: whose requests it refuses, what it never does, how it starts and ends."""

import json
import os
import signal
import threading
import urllib.request

import pytest

from aloe_jax.errors import InputError
from eval.viewer import view
from helpers.viewer_client import ORIGIN, post


class TestGuard:
    @pytest.mark.parametrize("path", ["/", "/api/index", "/api/tree?line=1", "/api/labels", "/nothing"])
    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"]
    )
    def test_foreign_names_are_refused(self, client, path, host):
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 403
        assert "trees" not in answer.text

    @pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000"])
    def test_names_of_this_machine_are_answered(self, client, host):
        assert client.get("/api/index", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        "origin", ["http://evil.example", "null", "http://127.0.0.1:9000", "https://127.0.0.1:8000"]
    )
    def test_other_origins_are_refused(self, small, origin):
        root, client = small
        assert client.get("/api/index", headers={"Origin": origin}).status_code == 403
        assert post(client, headers={"Origin": origin}).status_code == 403
        assert not (root / "labels.jsonl").exists()

    def test_post_needs_an_origin_and_json(self, small):
        root, client = small
        assert post(client, headers={}).status_code == 403
        body = json.dumps({"conversation": "t", "first": "a", "second": "b", "label": "tie", "labeller": "x"})
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
            answer = client.post("/api/labels", content=body, headers={**ORIGIN, "Content-Type": kind})
            assert answer.status_code == 415
        assert not (root / "labels.jsonl").exists()

    @pytest.mark.parametrize("path", ["/", "/api/index", "/nothing", "/api/tree?line=x"])
    def test_every_response_forbids_what_it_does_not_need(self, client, path):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers

    def test_page_loads_nothing_from_elsewhere(self, client):
        page = client.get("/").text
        assert "http://www.w3.org/2000/svg" in page  # a name, not an address that is loaded
        assert page.count("://") == 1
        assert " src=" not in page
        assert "innerHTML" not in page

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
    def test_other_methods(self, client, method):
        assert client.request(method, "/api/labels", json={}, headers=ORIGIN).status_code == 405

    def test_nothing_but_labels_is_written_and_nothing_outside_is_read(self, client, run):
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        for path in ("/api/../../etc/passwd", "/..%2f..%2fetc/passwd", "/personas/personas.jsonl"):
            assert client.get(path).status_code == 404
        client.get("/api/index")
        client.get("/api/agreement")
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


class TestView:
    def test_serves_until_a_signal(self, run):
        found = []

        def announce(sentence):
            def ask():
                address = sentence.split(" at ")[1].split(";")[0]
                with urllib.request.urlopen(f"{address}/api/index", timeout=10) as answer:
                    found.append(len(json.load(answer)["trees"]))
                os.kill(os.getpid(), signal.SIGINT)

            threading.Thread(target=ask).start()

        view(run, announce=announce)
        assert found == [6]

    def test_other_machines_are_not_served(self, run):
        with pytest.raises(InputError, match=r"0\.0\.0\.0.*ssh -L"):
            view(run, host="0.0.0.0")

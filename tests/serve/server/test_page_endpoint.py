"""The page as it is sent, and the conversations that the server takes from it."""

import base64
import hashlib
import html
import http.client
import json
import re

import pytest

from aloe_jax.serve.server.server import Server
from aloe_jax.serve.server.settings import ServerSettings
from aloe_jax.serve.trees_file import TreesFile
from aloe_jax.tree.probe import QUESTION, schema
from aloe_jax.tree.schema import dump, read_trees
from helpers.tree_samples import aloe_tree


def asked(server, method="GET", path="/", body=None, **headers):
    """Status, headers and body of the response."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, dict(response.headers), response.read().decode()


def posted(server, body, **headers):
    """Status and JSON of a conversation that is sent as the page does."""
    origin = f"http://127.0.0.1:{server.port}"
    headers = {"Origin": origin, "Content-Type": "application/json", **headers}
    status, _, text = asked(server, "POST", "/trees", body if isinstance(body, str) else dump(body), **headers)
    return status, json.loads(text)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trees.jsonl"


@pytest.fixture
def server(engine, chat_format, path):
    with Server(engine, chat_format, "tiny", trees=TreesFile(path)) as started:
        yield started


def test_the_browser_runs_the_pages_own_script_and_loads_nothing(server):
    status, headers, html = asked(server)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    (policy,) = [value for name, value in headers.items() if name.lower() == "content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\()", html)
    assert "localStorage" not in html


def test_the_page_has_the_catalogue_as_text_alone(engine, chat_format):
    settings = ServerSettings(catalogue={"a.b": 'The user says "</body>" & likes it.'})
    with Server(engine, chat_format, "tiny", settings=settings) as server:
        _, _, page = asked(server)
    (found,) = re.findall(r'data-probe="([^"]*)"', page)
    probe = json.loads(html.unescape(found))
    assert probe == {"question": QUESTION, "schema": schema(("a.b",), 1), "texts": settings.catalogue}
    assert page.count("</body>") == 1


def test_other_answers_stay_no_page(server):
    _, headers, _ = asked(server, path="/health")
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_the_page_needs_no_key_and_says_that_the_rest_does(engine, chat_format, monkeypatch, path):
    monkeypatch.setenv("ALOE_API_KEY", "sesame")
    with Server(engine, chat_format, "tiny", trees=TreesFile(path)) as server:
        status, headers, html = asked(server)
        assert (status, 'data-key="yes" data-save="yes"' in html) == (200, True)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert posted(server, aloe_tree(1))[0] == 401
        assert not path.exists()
        assert posted(server, aloe_tree(1), Authorization="Bearer sesame")[0] == 200


def test_conversations_are_kept_and_kept_again(server, path):
    assert posted(server, aloe_tree(1, name="a")) == (
        200,
        {"file": "trees.jsonl", "conversations": 1, "replaced": False},
    )
    assert posted(server, aloe_tree(2, name="b"))[1]["conversations"] == 2
    assert posted(server, aloe_tree(3, name="a"))[1] == {"file": "trees.jsonl", "conversations": 2, "replaced": True}
    assert list(read_trees(path)) == [aloe_tree(3, name="a"), aloe_tree(2, name="b")]


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("{", "broken JSON"),
        ("[]", "Input should be an object"),
        (dump(aloe_tree(1)).replace('"text"', '"words"'), "text"),
        (dump(aloe_tree(1)).replace('"user1"', '"nobody"', 1), "unknown parent"),
        ("[" * 100_000, "nested too deeply"),
        ('{"schema_version": 1, "id": "c", "nodes": []}', "at least 1 item"),
    ],
)
def test_what_is_no_conversation_is_refused_by_name(server, path, body, part):
    status, answer = posted(server, body)
    assert status == 400
    assert part in answer["error"]["message"]
    assert not path.exists()


def test_other_pages_and_a_server_without_the_file_save_nothing(server, path, engine, chat_format):
    assert posted(server, aloe_tree(1), Origin="http://evil.example")[0] == 403
    assert not path.exists()
    with Server(engine, chat_format, "tiny") as other:
        status, answer = posted(other, aloe_tree(1))
        assert (status, "--save-trees=FILE" in answer["error"]["message"]) == (403, True)
        assert 'data-key="no" data-save="no"' in asked(other)[2]

"""Ledgers, stored answers, trees and status files that were damaged: one sentence each, and nothing is written."""

import asyncio
import io
import json

import pytest
from rich.console import Console

from aloe_jax.errors import InputError
from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.interface import ChatClient, Response
from aloe_jax.tree.schema import Message
from data_gen.calls.call_cache import CallCache
from data_gen.calls.status import show_panel
from data_gen.calls.store import PREFERENCES, REJECTS, Store
from data_gen.calls.tally import Tally
from data_gen.game.scheduler import identities, put_in_order

HELLO = [Message(role="user", content="hello")]


class _Says(ChatClient):
    model = "tiny"

    async def respond(self, request, affinity=""):
        return Response([Answer("hi")], None)


def _ask(store):
    return asyncio.run(CallCache(_Says(), store, "judge", "t").chat(HELLO, seed=1))


@pytest.mark.parametrize(
    "answers", ["7", "[7]", '[{"text": 7}]', "[{}]", "{", "null", '[{"text": "hi", "logprobs": ["x"]}]', "[" * 100_000]
)
def test_stored_answers_that_cannot_be_read(tmp_path, answers):
    with Store(tmp_path) as store:
        assert _ask(store)[0].text == "hi"
    path = tmp_path / "calls.jsonl"
    head, _ = path.read_text().split('"answers":')
    path.write_text(f'{head}"answers":{answers}}}\n')
    with Store(tmp_path) as store, pytest.raises(InputError, match=r"calls\.jsonl.* damaged; restore the file"):
        _ask(store)


@pytest.mark.parametrize(
    ("ledger", "record"),
    [
        (REJECTS, '{"key": "a"}'),
        (REJECTS, '{"key": 7, "reason": "empty"}'),
        (PREFERENCES, '{"key": "a", "orders": [0.5]}'),
        (PREFERENCES, '{"key": "a", "orders": [0.5, "x"]}'),
        (PREFERENCES, '{"key": "a", "orders": {}}'),
        ("events", '{"key": 7}'),
        ("nodes", '{"key": ' + "[" * 100_000),
    ],
)
def test_a_record_without_what_it_says(tmp_path, ledger, record):
    (tmp_path / f"{ledger}.jsonl").write_text(record + "\n")
    with pytest.raises(InputError, match=rf"{ledger}\.jsonl line 1: damaged; restore"), Store(tmp_path):
        pass
    if ledger != "nodes":
        with pytest.raises(InputError, match="line 1: damaged"):
            Tally.of(tmp_path)


@pytest.mark.parametrize("line", [b"{", b"[]", b"{}", b'{"id": 7}', b"\xff", b"[" * 100_000, b'{"id": "one"}'])
def test_accepted_trees_with_a_damaged_line(tmp_path, line):
    path = tmp_path / "trees.jsonl"
    path.write_bytes(b'{"id": "one"}\n' + line + b"\n")
    before = path.read_bytes()
    for read in (identities, put_in_order):
        with pytest.raises(InputError, match=r"trees\.jsonl line 2: no conversation with an id of its own"):
            read(path)
    assert path.read_bytes() == before


def test_a_status_file_that_is_no_utf_8(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "conversations").mkdir()
    (tmp_path / "conversations/status.json").write_text(json.dumps({"time": 1}), encoding="utf-16")
    with pytest.raises(InputError, match=r"status\.json: not UTF-8"):
        show_panel(tmp_path, Console(file=io.StringIO()))

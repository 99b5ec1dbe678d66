"""The record store: what is in it stays, whatever stops the writer."""

import asyncio
import json
import os

import pytest

from aloe_jax.errors import InputError, ResumableError
from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.client import Client
from aloe_jax.serve.client.interface import Response, call_id
from aloe_jax.serve.protocol.usage import Usage
from aloe_jax.tree.schema import Message
from data_gen.calls.call_cache import CallCache
from data_gen.calls.store import EVENTS, NODES, Store, records
from helpers.scripted_server import GOOD, HELLO, Script

NAMES = [f"{number:064x}" for number in range(5)]


def test_calls_are_found_again(tmp_path):
    with Store(tmp_path) as store:
        for name in NAMES:
            store.add_call(name, {"answers": [name[-1], "ünï\n"]})
        assert store.call(NAMES[3])["answers"] == ["3", "ünï\n"]
        assert store.call("f" * 64) is None
    with Store(tmp_path) as store:
        assert store.calls == 5
        assert store.call(NAMES[4])["answers"] == ["4", "ünï\n"]


@pytest.mark.parametrize("cut", [1, 20, 70, 95])
def test_a_torn_last_line_is_cut_off_and_written_again(tmp_path, cut):
    with Store(tmp_path) as store:
        for name in NAMES[:2]:
            store.add_call(name, {"answers": ["something"]})
    path = tmp_path / "calls.jsonl"
    whole = path.read_bytes()
    os.truncate(path, len(whole) - cut if cut < len(whole) // 2 else len(whole) // 2 + 1)
    with Store(tmp_path) as store:
        assert store.calls == 1
        assert store.call(NAMES[0]) is not None
        assert store.call(NAMES[1]) is None
        store.add_call(NAMES[1], {"answers": ["something"]})
    assert path.read_bytes() == whole


def test_a_record_of_a_key_is_written_once(tmp_path):
    with Store(tmp_path) as store:
        assert store.add(NODES, "c1 u1", {"text": "a"})
        assert not store.add(NODES, "c1 u1", {"text": "a"})
        assert store.has(NODES, "c1 u1")
        assert not store.has(EVENTS, "c1 u1")
    with Store(tmp_path) as store:
        assert not store.add(NODES, "c1 u1", {"text": "a"})
    assert list(records(tmp_path, NODES)) == [{"key": "c1 u1", "text": "a"}]


def test_a_reader_beside_the_writer_sees_whole_lines(tmp_path):
    with Store(tmp_path) as store:
        store.add(NODES, "one", {})
        with open(tmp_path / "nodes.jsonl", "ab") as file:
            file.write(b'{"key": "tw')
        assert [record["key"] for record in records(tmp_path, NODES)] == ["one"]


@pytest.mark.parametrize("name", ["calls", "nodes"])
def test_damage_before_the_last_line_is_told_and_left_alone(tmp_path, name):
    with Store(tmp_path) as store:
        store.add_call(NAMES[0], {})
        store.add(NODES, "one", {})
    path = tmp_path / f"{name}.jsonl"
    path.write_bytes(b"garbage\n" + path.read_bytes())
    before = path.read_bytes()
    with pytest.raises(InputError, match=rf"{name}\.jsonl line 1: damaged"), Store(tmp_path):
        pass
    assert path.read_bytes() == before


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    with Store(tmp_path) as store:
        file = store._ledgers["calls"]._file

        class Full:
            def __getattr__(self, name):
                return getattr(file, name)

            def write(self, data):
                raise OSError(28, "No space left on device")

        store._ledgers["calls"]._file = Full()
        with pytest.raises(ResumableError, match="No space left"):
            store.add_call(NAMES[0], {})
        store._ledgers["calls"]._file = file


class Counting:
    """A client that counts what it is asked; an answer has everything that an answer can have."""

    def __init__(self):
        self.asked = 0

    def request(self, messages, **how):
        return {"messages": [message.content for message in messages], **how}

    async def respond(self, request, affinity=""):
        self.asked += 1
        await asyncio.sleep(0.01)
        answer = Answer(
            "hé",
            token_ids=(7,),
            logprobs=(-0.1234567890123,),
            tokenizer="hash",
            call=call_id(request),
            tokens=("a",),
            top=((("b", -1.5),),),
        )
        return Response([answer], Usage(prompt_tokens=3, completion_tokens=1))


def test_a_stored_answer_equals_the_first_one_and_costs_nothing(tmp_path):
    client = Counting()
    hello = [Message(role="user", content="hello")]

    async def ask(store, **how):
        return await CallCache(client, store, "judge", "hash").chat(hello, **how)

    with Store(tmp_path) as store:
        [first] = asyncio.run(ask(store, seed=1))
    with Store(tmp_path) as store:
        [again] = asyncio.run(ask(store, seed=1))
        asyncio.run(ask(store, seed=2))
    assert first == again
    assert isinstance(again, Answer)
    assert again.top == ((("b", -1.5),),)
    assert client.asked == 2
    stored = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert [(each["role"], each["template"], each["tokens"]) for each in stored] == [("judge", "hash", [3, 1])] * 2


def test_equal_calls_at_the_same_time_are_one(tmp_path):
    client = Counting()

    async def run(store):
        recorded = CallCache(client, store, "judge", "hash")
        hello = [Message(role="user", content="hello")]
        return await asyncio.gather(*(recorded.chat(hello, seed=1) for _ in range(5)))

    with Store(tmp_path) as store:
        answers = asyncio.run(run(store))
    assert client.asked == 1
    assert all(each == answers[0] for each in answers)


def test_a_call_whose_maker_is_cancelled_is_made_for_the_one_that_waits(tmp_path):
    """A conversation that is given up cancels its calls; another one may wait for an equal one."""

    async def run():
        async with Script(GOOD).serving() as url, Client(url, "tiny") as client:
            with Store(tmp_path) as store:
                recorded = CallCache(client, store, "judge", "hash")
                first = asyncio.create_task(recorded.chat(HELLO, seed=1))
                await asyncio.sleep(0)
                second = asyncio.create_task(recorded.chat(HELLO, seed=1))
                await asyncio.sleep(0)
                first.cancel()
                [answer] = await second
                return answer.text, store.calls

    assert asyncio.run(run()) == ("hi", 1)

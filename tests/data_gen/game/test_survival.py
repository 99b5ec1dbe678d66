"""Growing conversations with servers that misbehave and with kills: the same trees come out, and no call that was
answered is made again."""

import asyncio
import dataclasses
import json
import os
import random
import subprocess
import sys
import time

import pytest

from aloe_jax.errors import InputError
from aloe_jax.serve.client import client as client_module
from aloe_jax.tree.schema import read_trees
from data_gen.calls.store import Store, records
from data_gen.game.settings import CONDITIONS, MixSettings
from helpers.aloe_command import HELPERS, ROOT
from helpers.fake_server import FAULTS, FakeServer, key_of, serving
from helpers.grow_process import SHAPE, grow_all

KEY = "sk-open-sesame-17"
KILLS = 20
TREES = 12  # more answers than twenty kills of thirty at most leave


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(client_module, "FIRST_PAUSE", 0.002)


def grown(folder, *servers, trees=TREES, **settings):
    """The trees.jsonl that comes out, as text."""

    async def run():
        async with serving(*servers) as urls:
            return await grow_all(urls, folder, trees, **settings)

    assert asyncio.run(run()) == trees
    return (folder / "trees.jsonl").read_text()


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("healthy")
    return folder, grown(folder, FakeServer())


def test_a_healthy_server_gives_whole_trees_and_rejects(healthy):
    folder, _ = healthy
    trees = list(read_trees(folder / "trees.jsonl"))
    assert len(trees) == TREES
    assert all(len(tree.path) == 2 * SHAPE.conversations.turns for tree in trees)
    assert sum(len(tree.preferences) for tree in trees) > 20
    assert {record["reason"] for record in records(folder, "rejects")} >= {"role_flip", "refusal"}
    assert not [node for tree in trees for node in tree.nodes if "AI language model" in node.text]
    nodes = {(record["conversation"], record["id"]) for record in records(folder, "nodes")}
    assert {(tree.id, node.id) for tree in trees for node in tree.nodes} <= nodes
    calls = {json.loads(line)["id"] for line in (folder / "calls.jsonl").read_text().splitlines()}
    assert {call for tree in trees for node in tree.nodes for call in node.calls} <= calls


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_survived(healthy, tmp_path, fault):
    server = FakeServer(faults=(fault,), share=0.25)
    assert grown(tmp_path, server, trees=4, timeout=5.0).splitlines() == healthy[1].splitlines()[:4]
    assert server.struck[fault] > 10


def test_all_faults_on_two_servers_of_which_one_dies_and_returns(healthy, tmp_path):
    class Mortal(FakeServer):
        async def complete(self, request):
            self.down = 100 <= self.asked.total() < 130  # by its own count, so whatever the time
            self.asked["tried"] += self.down
            return await super().complete(request)

    servers = Mortal(faults=FAULTS, share=0.2), FakeServer(faults=FAULTS, share=0.2, seed=1)
    assert grown(tmp_path, *servers, timeout=5.0) == healthy[1]
    assert sum(server.struck.total() for server in servers) > 50


def test_a_slow_server_is_survived(healthy, tmp_path):
    assert grown(tmp_path, FakeServer(latency=0.01)) == healthy[1]


def test_finished_work_asks_nothing_again(healthy, tmp_path):
    folder, text = healthy
    server = FakeServer()
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "trees.jsonl").unlink()
    assert grown(tmp_path, server) == text  # out of stored answers
    asked = [name for name in server.paid if name]
    stored = {key_of(json.loads(line)["request"]) for line in (folder / "calls.jsonl").read_text().splitlines()}
    assert not stored & set(asked)
    for name in ("nodes", "preferences", "rejects"):
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (folder / f"{name}.jsonl").read_bytes()


def test_every_kind_is_grown_again_from_what_was_stored(tmp_path):
    """A run that was cut off after half of its answers gives the trees of one that was not, and sends no request
    twice."""
    mix = MixSettings(**dict.fromkeys(CONDITIONS, 1))
    shape = dataclasses.replace(SHAPE, conversations=dataclasses.replace(SHAPE.conversations, mix=mix))
    whole = tmp_path / "whole"
    text = grown(whole, FakeServer(), trees=2, shape=shape)
    assert {node.condition for tree in read_trees(whole / "trees.jsonl") for node in tree.replies()} == set(CONDITIONS)
    calls = (whole / "calls.jsonl").read_text().splitlines(keepends=True)
    folder, server = tmp_path / "cut", FakeServer()
    folder.mkdir()
    (folder / "calls.jsonl").write_text("".join(calls[: len(calls) // 2]))
    stored = stored_keys(folder)
    assert grown(folder, server, trees=2, shape=shape) == text
    assert not stored & set(server.paid)


@pytest.mark.slow
def test_killed_twenty_times_at_random_moments(healthy, tmp_path):
    """kill -9, then the same command: equal trees, and no call whose answer was stored is made again."""
    log, folder, rng = tmp_path / "asked", tmp_path / "run", random.Random(0)
    log.touch()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    server = subprocess.Popen(
        [sys.executable, HELPERS / "fake_server.py", "--latency=0.02", f"--log={log}"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        command = [sys.executable, HELPERS / "grow_process.py", url, folder, str(TREES)]
        kills = again = 0
        while True:
            stored, seen = stored_keys(folder), log.read_text().splitlines()
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            if kills < KILLS:
                target = len(seen) + rng.randint(1, 30)  # answers after which it is killed
                while process.poll() is None and log.read_bytes().count(b"\n") < target:
                    time.sleep(0.0005)
                kills += process.poll() is None
                process.kill()
            code = process.wait()
            fresh = log.read_text().splitlines()[len(seen) :]
            assert not stored & set(fresh)
            again += len(set(seen) & set(fresh) - {""})
            if code == 0:
                break
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    assert kills == KILLS, "it finished before it could be killed often enough"
    assert again <= 16 * kills  # at most what was under way at a kill
    assert (folder / "trees.jsonl").read_text() == healthy[1]


def stored_keys(folder):
    path = folder / "calls.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return {key_of(json.loads(line)["request"]) for line in lines if line.endswith(b"\n")}


def test_a_judge_that_goes_by_the_place_gives_margin_0_and_no_label(tmp_path):
    grown(tmp_path, FakeServer(bias=True), trees=2)
    compared = list(records(tmp_path, "preferences"))
    assert len(compared) > 5
    for record in compared:
        assert record["orders"] == pytest.approx([1.0, 0.0], abs=1e-6)
        assert 2 * sum(record["orders"]) / 2 - 1 == pytest.approx(0.0, abs=1e-6)
    assert [tree.preferences for tree in read_trees(tmp_path / "trees.jsonl")] == [(), ()]


def test_the_key_is_in_no_file_and_no_message(tmp_path, monkeypatch, capfd, caplog):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("ALOE_API_KEY", KEY)
    server = FakeServer(key=KEY, faults=("500", "429", "torn JSON"), share=0.2)
    grown(tmp_path / "good", server, trees=1)
    assert f"Bearer {KEY}" in server.headers
    with pytest.raises(InputError) as caught:
        grown(tmp_path / "bad", FakeServer(key="another"), trees=1)
    texts = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    out, err = capfd.readouterr()
    assert not [text for text in (*texts, caplog.text, out, err, str(caught.value)) if KEY in text]


def test_one_writer_at_a_time(tmp_path):
    with Store(tmp_path), pytest.raises(InputError, match="another process writes"), Store(tmp_path):
        pass


def test_shards_cut_the_candidates(tmp_path):
    """Two machines: together they accept as many as one, no conversation twice."""
    names = []
    for number in range(2):
        folder = tmp_path / str(number)

        async def run(folder=folder, number=number):
            async with serving(FakeServer()) as url:
                return await grow_all(url, folder, 5, shard=(number, 2))

        assert asyncio.run(run()) == (3, 2)[number]
        names += [tree.id for tree in read_trees(folder / "trees.jsonl")]
    assert len(set(names)) == 5

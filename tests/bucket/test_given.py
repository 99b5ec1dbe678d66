"""Files in a bucket that a setting names, and records of ours there that are damaged."""

import glob
import os
import re

import pytest

from aloe_jax import files
from aloe_jax.bucket.given import matching
from aloe_jax.bucket.lease import LEASE, acquire, read_lease
from aloe_jax.bucket.snapshot import SNAPSHOT, read_snapshot
from aloe_jax.bucket.store import Store
from aloe_jax.data.mixture import read_source, sources_of
from aloe_jax.data.settings import DatasetSettings, SourceSettings
from aloe_jax.errors import InputError
from helpers.bucket_servers import BUCKET

CHAT = '{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "Yes."}]}\n'
NAMES = ("a.jsonl", "b.jsonl", "b.jsonl.old", ".c.jsonl", "sub/d.jsonl", "sub/e.txt", "sub/deep/f.jsonl")


@pytest.fixture(scope="module")
def given():
    store = Store(f"gs://{BUCKET}/given")
    for name in NAMES:
        store.write(name, (CHAT % name).encode())
    return store.url


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("b.jsonl", ["b.jsonl"]),
        ("*.jsonl", ["a.jsonl", "b.jsonl"]),
        ("?.jsonl", ["a.jsonl", "b.jsonl"]),
        ("[!a]*.jsonl", ["b.jsonl"]),
        (".*.jsonl", [".c.jsonl"]),
        ("*/*.jsonl", ["sub/d.jsonl"]),
        ("sub/*", ["sub/d.jsonl", "sub/e.txt"]),
        ("*/deep/*", ["sub/deep/f.jsonl"]),
        ("sub", []),
        ("none*", []),
    ],
)
def test_patterns_match_as_on_this_machine(given, tmp_path, pattern, names):
    """With glob as the plain twin, in a folder with the same files. A folder is no file."""
    assert [url.removeprefix(f"{given}/") for url in matching(f"{given}/{pattern}")] == names
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    here = [os.path.relpath(path, tmp_path) for path in glob.glob(f"{tmp_path}/{pattern}") if os.path.isfile(path)]
    assert sorted(here) == names


def sources(path):
    return sources_of(DatasetSettings(sources={"trees": SourceSettings(), "chat": SourceSettings(path)}))


def test_a_source_in_a_bucket_is_the_same_source(given, tmp_path):
    """Its conversations, in the order of its files, and its hash, by which a run knows its data again."""
    for name in NAMES[:2]:
        (tmp_path / name).write_text(CHAT % name)
    there, here = (sources(f"{place}/*.jsonl")[1] for place in (given, tmp_path))
    assert [tree.nodes[0].text for tree in read_source(there, own=tmp_path / "nowhere")] == ["a.jsonl", "b.jsonl"]
    assert there.hash() == here.hash()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("gs://{bucket}/none/*.jsonl", "no file matches 'gs://{bucket}/none/*.jsonl'; write the files of a folder as"),
        ("gs://no-such-bucket/a.jsonl", "'gs://no-such-bucket' cannot be used (404 "),
        ("gs://{bucket}", "'gs://{bucket}' is no folder in a bucket; expected gs://BUCKET/DIR"),
        ("gs://*/a.jsonl", "'gs://*/a.jsonl' must name one bucket; write * and ? after gs://BUCKET/ alone"),
        ("s3://{bucket}/a.jsonl", "'s3://{bucket}/a.jsonl' is in an object store that runs do not know; use a folder"),
    ],
)
def test_what_is_no_source_names_its_setting(path, reason):
    with pytest.raises(InputError) as refused:
        sources(path.format(bucket=BUCKET))
    assert str(refused.value).startswith("config.dataset.sources.chat.path: " + reason.format(bucket=BUCKET))


def test_a_store_that_refuses_is_told():
    """Of a setting that names one file, such as a pool; there is no client for this store."""
    with pytest.raises(InputError, match=r"file 's3://b/a' cannot be read \(.*s3fs.*\); check the path and your"):
        files.existing("s3://b/a")


@pytest.mark.parametrize("content", [b"{", b'{"id": 1}', b"\xff\xfe"])
def test_damaged_records_say_what_to_do(store, content):
    for name in (LEASE, SNAPSHOT):
        store.write(name, content)
    url = re.escape(store.url)
    with pytest.raises(InputError, match=rf"^{url}/{LEASE}: .*; if no `aloe run` works there, delete this object"):
        read_lease(store)
    with pytest.raises(InputError, match=rf"^{url}/{SNAPSHOT}: .*; put back an earlier version of this object"):
        read_snapshot(store)
    store.delete([LEASE])  # as the sentence says
    acquire(store, "a test", "", 60.0, [].append, pytest.fail).release()

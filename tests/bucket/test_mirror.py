"""A folder and its mirror in a bucket: what is uploaded when, and what comes back."""

from __future__ import annotations

import io
import itertools
import os
import random
import threading

import pytest

from aloe_jax.bucket import tree
from aloe_jax.bucket.lease import acquire
from aloe_jax.bucket.mirror import Mirror
from aloe_jax.bucket.places import MARKER, local_copy, stored_at, url_of
from aloe_jax.bucket.reading import light, readable, refresh
from aloe_jax.bucket.settings import BucketSettings
from aloe_jax.bucket.snapshot import PARTS, Part, kept_parts, read_snapshot, size_of
from aloe_jax.bucket.store import Store
from aloe_jax.errors import InputError
from helpers.waiting import until

NEVER = 3600.0  # seconds after which the lease of a test expires


def contents(root):
    """Every file that belongs into the bucket, by relative path."""
    return {name: (root / name).read_bytes() for name in tree.look_at(root)}


def write(path, text):
    """Replace a file, as `files.write_text` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


def append(path, text):
    with open(path, "a") as file:
        file.write(text)


def parts(store, name):
    return read_snapshot(store)[0].files[name]


def test_a_run_that_was_copied_into_the_bucket_is_refused(store, open_mirror, tmp_path):
    """Orbax takes its checkpoints there for unfinished ones (google/orbax, issue 394), and other stages began anew over
    its files. Other objects, such as the empty one that stands for a folder in a browser, are in nobody's way."""
    for name in ("", "notes.txt", "config.json.bak"):
        store.write(name, b"")
    open_mirror(tmp_path / "a").close()
    other = Store(f"{store.url}-copied")
    other.write("config.json", b"{}")
    lease = acquire(other, "a test", "", NEVER, [].append, pytest.fail)
    with pytest.raises(InputError, match="holds a run that was copied there"):
        Mirror(other, lease, tmp_path / "b", BucketSettings()).restore()
    lease.release()
    assert not (tmp_path / "b").exists()


def test_what_comes_back_is_what_was_there(open_mirror, tmp_path):
    """Whatever happened between uploads: files made, appended, replaced, removed, in folders, empty, with bytes of all
    values; locks, partial files and half-written data sets stay behind."""
    root, draw = tmp_path / "a", random.Random(0)
    mirror = open_mirror(root)
    for round_ in range(6):
        for number in range(6):
            path = root / f"stage{number % 2}" / f"f{number}.{'jsonl' if number < 4 else 'bin'}"
            action = draw.choice(["append", "replace", "remove", "leave"])
            if action == "append" and path.exists() and path.suffix == ".jsonl":
                append(path, f"{round_} {'x' * draw.randrange(3000)}\n")
            elif action == "remove" and path.exists():
                path.unlink()
            elif action == "replace" or round_ == 0:
                write(path, "".join(f"{chr(draw.randrange(0x20, 0x3FF))}\n" for _ in range(draw.randrange(50))))
        mirror.commit(whole=bool(round_ % 2), joined="stage1" if round_ == 3 else "")
    (root / "empty.txt").write_text("")
    (root / ".lock").write_text("here")
    (root / "d.incompleteAB").mkdir()
    (root / "d.incompleteAB/half").write_text("half")
    mirror.close()
    there = contents(root)
    assert "empty.txt" in there
    open_mirror(tmp_path / "b").close()
    assert contents(tmp_path / "b") == there
    assert not (tmp_path / "b/.lock").exists()
    assert not (tmp_path / "b/d.incompleteAB").exists()


def test_a_ledger_grows_by_parts(open_mirror, store, tmp_path):
    """One line of 100 bytes after the other: each is uploaded about once per doubling, and all is there."""
    root = tmp_path / "a"
    mirror = open_mirror(root)
    for number in range(20):
        append(root / "a.jsonl", f"{number:99d}\n")
        mirror.commit()
        assert size_of(parts(store, "a.jsonl")) == 100 * (number + 1)
    sizes = [part.size for part in parts(store, "a.jsonl")]
    assert all(first >= 2 * second for first, second in itertools.pairwise(sizes))
    assert len(sizes) <= 5  # 2,000 bytes in lines of 100: 2^4 < 20 < 2^5
    mirror.close()
    assert set(store.objects(PARTS)) == read_snapshot(store)[0].names


@pytest.mark.parametrize(
    ("sizes", "end", "kept"),
    [((), 10, 0), ((10,), 11, 1), ((10,), 15, 1), ((10,), 16, 0), ((100, 10), 111, 2), ((100, 10), 120, 1)],
)
def test_parts_that_stay(sizes, end, kept):
    """A part stays if it is at least twice as long as what follows it: 10 before 5, and not before 6; 100 before 20."""
    assert len(kept_parts([Part(name=str(size), size=size) for size in sizes], end)) == kept


def test_a_torn_line_is_not_uploaded(open_mirror, store, tmp_path):
    mirror = open_mirror(tmp_path / "a")
    (tmp_path / "a/a.jsonl").write_text("one\ntw")
    mirror.commit()
    assert size_of(parts(store, "a.jsonl")) == len("one\n")
    append(tmp_path / "a/a.jsonl", "o\n")
    mirror.commit()
    open_mirror(tmp_path / "b").close()
    assert (tmp_path / "b/a.jsonl").read_text() == "one\ntwo\n"


def test_a_replaced_ledger_is_never_taken_for_one_that_grew(open_mirror, tmp_path):
    """Replaced many times between two uploads, longer each time: file systems give a number of an inode again."""
    path = tmp_path / "a/a.jsonl"
    mirror = open_mirror(tmp_path / "a")
    for number in range(20):
        write(path, "".join(f"{number} {line}\n" for line in range(number + 1)))
        write(path, "".join(f"{number} {line}\n" for line in range(number + 2)))
        if number % 3 == 0:
            mirror.commit()
    mirror.close()
    open_mirror(tmp_path / "b").close()
    assert contents(tmp_path / "b") == contents(tmp_path / "a")


def test_manifests_and_large_files_wait_for_the_end_of_the_stage(open_mirror, store, tmp_path):
    """A finished manifest promises the files beside it, so it never comes before them."""
    root = tmp_path / "a"
    mirror = open_mirror(root)
    write(root / "dataset/manifest.json", "running")
    mirror.commit(whole=True)
    (root / "dataset/rows.array_record").write_bytes(bytes(tree.SMALL + 1))
    write(root / "dataset/manifest.json", "finished")
    write(root / "dataset/small.json", "{}")
    mirror.commit()
    assert set(read_snapshot(store)[0].files) == {"dataset/manifest.json", "dataset/small.json"}
    assert parts(store, "dataset/manifest.json")[0].size == len("running")
    mirror.finish("dataset")
    assert size_of(parts(store, "dataset/rows.array_record")) == tree.SMALL + 1
    assert parts(store, "dataset/manifest.json")[0].size == len("finished")


def test_a_finished_stage_has_its_files_under_their_own_paths(open_mirror, store, tmp_path):
    root = tmp_path / "a"
    mirror = open_mirror(root)
    for number in range(3):
        append(root / "log.jsonl", f"{number}\n")
        (root / "export").mkdir(exist_ok=True)
        append(root / "export/a.jsonl", f"{'x' * (1000 >> 3 * number)}\n")
        mirror.commit()
    write(root / "export/old", "1")
    assert len(parts(store, "export/a.jsonl")) == 3
    mirror.finish("export")
    assert store.read("export/a.jsonl")[0] == (root / "export/a.jsonl").read_bytes()
    assert store.read("export/old")[0] == b"1"
    (root / "export/old").unlink()
    write(root / "export/new", "2")
    mirror.finish("export")
    assert store.read("export/old") is None
    assert store.read("export/new")[0] == b"2"
    mirror.close()


def test_the_writer_itself_goes_on_with_what_it_had_not_uploaded(open_mirror, tmp_path):
    """A file that was damaged meanwhile is uploaded as it is now; where another process wrote last, its state is
    taken."""
    root = tmp_path / "a"
    first = open_mirror(root)
    write(root / "a.jsonl", "1\n")
    write(root / "b.json", "b")
    first.commit()
    append(root / "a.jsonl", "2\n")  # ... and the process is killed
    write(root / "b.json", "c")
    second = open_mirror(root)
    assert (root / "a.jsonl").read_text() == "1\n2\n"
    second.close()
    other = open_mirror(tmp_path / "b")
    assert contents(tmp_path / "b") == {"a.jsonl": b"1\n2\n", "b.json": b"c"}
    append(tmp_path / "b/a.jsonl", "3\n")
    other.close()
    append(root / "a.jsonl", "never uploaded\n")
    open_mirror(root).close()
    assert contents(root) == {"a.jsonl": b"1\n2\n3\n", "b.json": b"c"}


def test_what_is_appended_is_uploaded_after_a_while_or_when_it_is_much(open_mirror, store, tmp_path):
    for name, settings in (("soon", {"upload_seconds": 0.2}), ("much", {"upload_bytes": 3})):
        mirror = open_mirror(tmp_path / name, **settings)
        append(tmp_path / name / f"{name}.jsonl", "1\n2\n")
        assert until(lambda name=name: f"{name}.jsonl" in read_snapshot(store)[0].files)
        mirror.close()


def test_readers_get_the_last_upload(open_mirror, store, tmp_path, monkeypatch):
    """Whole, by folder or by file, without a lease; what is not wanted is left, what is gone is removed."""
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "a"
    mirror = open_mirror(root)
    for name in ("config.json", "sft/manifest.json", "benchmark/sft/scores.jsonl", "export/model.safetensors"):
        write(root / name, name + "\n")
    mirror.finish("sft")
    read = local_copy(store.url, "read")
    assert readable(f"{store.url}/benchmark/sft") == str(read / "benchmark/sft")
    assert set(contents(read)) == {"config.json", "sft/manifest.json", "benchmark/sft/scores.jsonl"}
    (root / "benchmark/sft/scores.jsonl").unlink()
    append(root / "config.json", "more")
    mirror.commit()
    assert readable(f"{store.url}/", light) == str(read)
    assert contents(read) == {name: each for name, each in contents(root).items() if name != "export/model.safetensors"}
    assert stored_at(read / "sft/checkpoints").as_posix() == f"{store.url}/sft/checkpoints"
    assert readable("runs/here") == "runs/here"
    with pytest.raises(InputError, match=r"'gs://runs/none/at/all' is no run directory"):
        readable("gs://runs/none/at/all")


def test_a_reader_meets_a_snapshot_that_is_being_replaced(open_mirror, store, tmp_path):
    """The objects of the snapshot before stay for one more upload."""
    mirror = open_mirror(tmp_path / "a")
    write(tmp_path / "a/a.json", "0")
    mirror.commit()
    seen = read_snapshot(store)[0].names
    write(tmp_path / "a/a.json", "1")
    mirror.commit()
    assert seen <= set(store.objects(PARTS))
    write(tmp_path / "a/a.json", "2")
    mirror.commit()
    assert not seen & set(store.objects(PARTS))
    refresh(store, tmp_path / "b", lambda name: True)
    assert contents(tmp_path / "b") == {"a.json": b"2"}


def test_without_the_packages_for_buckets(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"'gs://runs/a' is in Google .* run `pip install 'aloe_jax\[gcs\]'`"):
        Store("gs://runs/a")


def test_places(tmp_path):
    assert stored_at(tmp_path / "sft/checkpoints") == tmp_path / "sft/checkpoints"
    assert os.fspath(stored_at("gs://runs/a/sft")) == "gs://runs/a/sft"
    (tmp_path / MARKER).write_text("gs://runs/a")
    assert os.fspath(stored_at(tmp_path / "sft/checkpoints")) == "gs://runs/a/sft/checkpoints"
    assert local_copy("gs://runs/a", "run") == local_copy("gs://runs/a", "run") != local_copy("gs://runs/b", "run")
    for wrong in ("gs://", "gs://runs", "gs://runs/"):
        with pytest.raises(InputError, match="expected gs://BUCKET/DIR"):
            url_of(wrong)


def test_files_that_are_replaced_all_the_time(open_mirror, store, tmp_path):
    """As the progress of a run is: what is uploaded is one of the versions, whole."""
    root, ended = tmp_path / "a", threading.Event()
    mirror = open_mirror(root)

    def replace():
        number = 0
        while not ended.is_set():
            number += 1
            ended.wait(0.002)
            write(root / "progress.json", f"{number} " * (number % 50 + 1))

    write(root / "progress.json", "0 ")
    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(5):
            mirror.commit()
            (part,) = parts(store, "progress.json")
            out = io.BytesIO()
            store.download(part.name, out)
            (version,) = set(out.getvalue().split())
            assert len(out.getvalue().split()) == int(version) % 50 + 1
    finally:
        ended.set()
        thread.join()
    mirror.close()

"""Folders are created atomically; the cache converts a model once; incomplete tokenizers are refused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from aloe_jax.errors import InputError, ResumableError
from aloe_jax.hub import folders
from helpers import hub_files


def _fill(out, overwrite=False, text="new"):
    with folders.new_folder(out, overwrite) as partial:
        (partial / "a.txt").write_text(text)


def test_folder_appears_whole(tmp_path):
    _fill(tmp_path / "deep" / "out")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    assert (tmp_path / "deep" / "out" / "a.txt").read_text() == "new"


def _fail_half_way(out, overwrite=False):
    with folders.new_folder(out, overwrite) as partial:
        (partial / "a.txt").write_text("x")
        raise ValueError("half way")


def test_failure_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="half way"):
        _fail_half_way(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_content_is_kept_unless_overwriting(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    _fill(out, text="old")  # an empty folder counts as none
    with pytest.raises(InputError, match="is not empty"):
        _fill(out)
    with pytest.raises(ValueError, match="half way"):
        _fail_half_way(out, overwrite=True)
    assert (out / "a.txt").read_text() == "old"
    (out / "b.txt").write_text("stale")
    _fill(out, overwrite=True)
    assert [path.name for path in out.iterdir()] == ["a.txt"]
    assert (out / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_file_in_the_way(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(InputError, match="is a file; give a new folder"):
        _fill(tmp_path / "out", overwrite=True)


def test_refused_write_is_resumable(tmp_path):
    with (
        pytest.raises(ResumableError, match="No space left on device"),
        folders.new_folder(tmp_path / "out"),
        open("/dev/full", "w") as full,
    ):
        full.write("x")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    abandoned = tmp_path / f".out.{socket.gethostname()}-{ended.pid}.partial"
    running = tmp_path / f".out.{socket.gethostname()}-{os.getppid()}.partial"
    other_host = tmp_path / f".out.elsewhere-{ended.pid}.partial"
    same_id = tmp_path / f".out.{socket.gethostname()}-{os.getpid()}.partial"
    for path in (abandoned, running, other_host, same_id):
        path.mkdir()
    _fill(tmp_path / "out")
    assert not abandoned.exists()
    assert running.exists()
    assert other_host.exists()


def test_cache_makes_once_and_knows_content(tmp_path, monkeypatch):
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))
    source, made = tmp_path / "m.gguf", []

    def make(out):
        made.append(out)
        (out / "a.txt").write_text(source.read_text())

    source.write_text("one")
    first = folders.cached(source, make)
    assert folders.cached(source, make) == first
    assert len(made) == 1
    source.write_text("two")
    second = folders.cached(source, make)
    assert second != first
    assert (second / "a.txt").read_text() == "two"
    assert first.parent == tmp_path / "cache" / "models"


def test_two_processes_fill_the_cache_at_once(tmp_path, monkeypatch):
    """The other process finishes while this one converts: its folder is kept."""
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "m.gguf"
    source.write_text("x")

    def make(out):
        (out / "a.txt").write_text("late")
        target = out.parent / out.name.removeprefix(".").rpartition(f".{socket.gethostname()}-")[0]
        target.mkdir()
        (target / "a.txt").write_text("early")

    folder = folders.cached(source, make)
    assert (folder / "a.txt").read_text() == "early"
    assert list(folder.parent.iterdir()) == [folder]


def test_failed_conversion_is_not_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "m.gguf"
    source.write_text("x")

    def make(out):
        raise InputError("broken")

    with pytest.raises(InputError, match="broken"):
        folders.cached(source, make)
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_tokenizer_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match=r"tokenizer.json is missing"):
        folders.checked_tokenizer(tmp_path)
    hub_files.write_tokenizer_files(tmp_path, 96)
    folders.checked_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template; use an instruct model, or choose"):
        folders.checked_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": hub_files.TEMPLATE}))
    folders.checked_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": "code.T"}}))
    with pytest.raises(InputError, match=r"source's own code \(auto_map\), which is never run"):
        folders.checked_tokenizer(tmp_path)

"""Counts that a GGUF file states are held against its size and its tensors before anything is allocated."""

from __future__ import annotations

import os
import struct
import time

import gguf
import pytest

from aloe_jax.errors import InputError
from aloe_jax.hub.gguf.convert import convert_gguf
from aloe_jax.hub.gguf.file import GGUFFile
from helpers import hub_files

ARRAY, STRING, UINT8, UINT64 = 9, 8, 0, 10


def text(value):
    return struct.pack("<Q", len(value)) + value


def header(tensors, entries, *parts, version=3):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + b"".join(parts)


def array(kind, count, *items):
    return text(b"a.b") + struct.pack("<IIQ", ARRAY, kind, count) + b"".join(items)


BROKEN = {
    "array of 2^63": header(0, 1, array(UINT8, 2**63)),
    "array of 2^63 texts": header(0, 1, array(STRING, 2**63)),
    "array of 2^40 numbers": header(0, 1, array(UINT64, 2**40), bytes(100)),
    "array of arrays": header(0, 1, array(ARRAY, 2**62), bytes(100)),
    "deep arrays": header(0, 1, array(ARRAY, 1, struct.pack("<IQ", ARRAY, 1) * 1000)),
    "key of 2^63": header(0, 1, struct.pack("<Q", 2**63)),
    "text of 2^63": header(0, 1, text(b"a.b"), struct.pack("<IQ", STRING, 2**63)),
    "2^63 entries": header(0, 2**63),
    "2^63 tensors": header(2**63, 0),
    "2^32 tensors in a hundred bytes": header(2**32, 0, bytes(100)),
    "name of 2^63": header(1, 0, struct.pack("<Q", 2**63), bytes(50)),
    "2^32 - 1 sizes": header(1, 0, text(b"t"), struct.pack("<I", 2**32 - 1), bytes(50)),
    "unknown type": header(0, 1, text(b"a.b"), struct.pack("<I", 77)),
    "version": header(0, 0, version=9),
    "another byte order": header(0, 0, version=3 << 24),
    "empty": b"",
    "magic alone": b"GGUF",
    "other magic": b"GGML" + bytes(60),
}


@pytest.mark.parametrize("name", BROKEN)
def test_headers_that_state_too_much(tmp_path, name):
    path = tmp_path / "m.gguf"
    path.write_bytes(BROKEN[name])
    began = time.thread_time()
    with pytest.raises(InputError, match=r"m.gguf is not a complete GGUF file \(.*\); download it again") as caught:
        GGUFFile(path)
    assert time.thread_time() - began < 1
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("llama.block_count", 2**31, r"'llama.block_count' is 2147483648, the file has 21 tensors"),
        ("llama.block_count", 22, r"'llama.block_count' is 22, the file has 21 tensors"),
        ("llama.block_count", 3, r"tensor 'model.layers.2.* is missing"),
        ("llama.block_count", True, r"'llama.block_count' is True; expected a positive integer"),
        ("llama.block_count", "2", r"'llama.block_count' is '2'; expected a positive integer"),
        ("llama.embedding_length", 2**20, r"has shape .*; config.json asks for"),
        ("llama.feed_forward_length", 2**31, "expected at most 2,147,483,647"),
        ("llama.attention.layer_norm_rms_epsilon", float("nan"), r"is nan; expected a number"),
        ("llama.rope.freq_base", float("inf"), r"is inf; expected a number"),
    ],
)
def test_values_that_do_not_fit_the_file(tmp_path, key, value, sentence):
    path = hub_files.write_gguf(tmp_path / "m.gguf", hub_files.TINY, {}, **{key: value})
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError, match=sentence):
        convert_gguf(path, out)
    assert not any(out.iterdir())


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "m.gguf")
    with pytest.raises(InputError, match="is not an ordinary file"):
        GGUFFile(tmp_path / "m.gguf")


def test_every_type_of_value_is_walked(tmp_path):
    """Of `gguf`'s own writer, with arrays of texts, numbers and flags."""
    values = {"general.test.flags": [True, False], "general.test.texts": ["a", "é"], "general.test.real": 0.5}
    values |= {"general.test.numbers": [1, 2, 3], "general.test.text": "x", "general.test.flag": True}
    path = hub_files.write_gguf(tmp_path / "m.gguf", hub_files.TINY, {}, **values)
    found = GGUFFile(path)
    assert {key: found.get(key) for key in values} == values
    assert len(gguf.GGUFReader(path).tensors) == 21

"""Cutting off a torn last line, compared with doing it in memory."""

import random

import pytest

from aloe_jax import files


def cut(data):
    """The file up to its last line end."""
    return data[: data.rfind(b"\n") + 1]


@pytest.mark.parametrize("block", [1, 3, 8, 1 << 16])
def test_what_is_left_are_whole_lines(tmp_path, monkeypatch, block):
    monkeypatch.setattr(files, "_BLOCK", block)
    rng, path = random.Random(block), tmp_path / "lines"
    for _ in range(200):
        data = bytes(rng.choice(b"ab\n") if rng.random() < 0.3 else 99 for _ in range(rng.randrange(30)))
        path.write_bytes(data)
        assert files.repair_lines(path) == len(data) - len(cut(data))
        assert path.read_bytes() == cut(data)


def test_a_missing_file_is_fine(tmp_path):
    assert files.repair_lines(tmp_path / "nothing") == 0
    assert not (tmp_path / "nothing").exists()

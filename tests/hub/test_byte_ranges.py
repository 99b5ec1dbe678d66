"""Blocks of arrays in files: the right values, and no unneeded byte is read."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_jax.errors import InputError
from aloe_jax.hub import byte_ranges


@st.composite
def _arrays_and_blocks(draw):
    """A shape and slices inside it, some of them empty."""
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    ends = [sorted(draw(st.tuples(st.integers(0, size), st.integers(0, size)))) for size in shape]
    return shape, tuple(slice(*end) for end in ends)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Four thousand 16-bit numbers, each its own index, behind three other bytes."""
    path = tmp_path_factory.mktemp("ranges") / "data"
    path.write_bytes(b"xyz" + np.arange(4000, dtype=np.uint16).tobytes())
    return path


def _read(file, shape, index):
    before = byte_ranges.bytes_read()
    block = byte_ranges.read_block(file, 3, shape, np.dtype(np.uint16), index)
    expected = np.arange(math.prod(shape), dtype=np.uint16).reshape(shape)[index]
    np.testing.assert_array_equal(block, expected)
    return byte_ranges.bytes_read() - before, expected.nbytes


@given(_arrays_and_blocks())
@settings(deadline=None)
def test_local_blocks_read_their_own_bytes_alone(file, case):
    read, needed = _read(byte_ranges.open_file(file), *case)
    assert read == needed


@given(_arrays_and_blocks(), st.integers(0, 40), st.integers(1, 60))
@settings(deadline=None)
def test_store_blocks_read_short_gaps_too(file, case, gap, request):
    """The same values for every gap and every maximum size of a request."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_ranges, "STORE_BYTES", request)
        patch.setattr(byte_ranges.StoreFile, "gap", gap)
        read, needed = _read(byte_ranges.open_file(f"file://{file}"), *case)
    assert needed <= read <= 2 * math.prod(case[0])


class _Asked:
    """A store's file that records the requested ranges."""

    path, size = "asked", 8000

    def __init__(self):
        self.ranges = []

    def read_into(self, offset, out):
        self.ranges.append((offset, len(out)))


@pytest.mark.parametrize(
    ("columns", "gap", "ranges"),
    [
        (slice(0, 100), 0, [(0, 600)]),  # whole rows are one range
        (slice(0, 20), 159, [(0, 40), (200, 40), (400, 40)]),
        (slice(0, 20), 160, [(0, 440)]),
        (slice(80, 100), 160, [(160, 440)]),
    ],
)
def test_ranges_that_are_asked_for(columns, gap, ranges):
    """Three rows of 100 two-byte numbers, 200 bytes per row; 20 columns take 40 bytes and leave 160 between them."""
    file = _Asked()
    file.gap = gap
    byte_ranges.read_block(file, 0, (3, 100), np.dtype(np.uint16), (slice(0, 3), columns))
    assert file.ranges == ranges


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none", f"file://{tmp_path}/none"):
        with pytest.raises(InputError, match=r"none' cannot be read \((No such file or directory|it does not exist)\)"):
            byte_ranges.open_file(path)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_file_that_shrinks_while_it_is_read(tmp_path, scheme):
    path = tmp_path / "data"
    path.write_bytes(bytes(100))
    file = byte_ranges.open_file(f"{scheme}{path}")
    path.write_bytes(bytes(50))
    with pytest.raises(InputError, match="ended while it was read"):
        byte_ranges.read_bytes(file, 40, 20)

"""Meshes of TPU slices, without the slices: the rows of each host, and the communication between slices."""

import importlib.util
import json
import subprocess
import sys
from itertools import chain

import pytest

from helpers.aloe_command import HELPERS

pytestmark = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")


@pytest.fixture(scope="module")
def found():
    """The lines of meshes_of_slices.py, in a process of its own, because libtpu can be loaded once."""
    script = HELPERS / "meshes_of_slices.py"
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_hosts_share_the_rows_of_a_slice(found):
    """Each row has one owner and each host as many as it has chips, though on every slice some host's rows are not
    contiguous."""
    for line in found[:-1]:
        rows = line["rows"]
        assert sorted(chain(*rows)) == list(range(len(rows) * len(rows[0]))), line["name"]
        assert {len(own) for own in rows} == {len(rows[0])}
        assert any(own[-1] - own[0] >= len(own) for own in rows), line["name"]


def test_every_size_of_tensor_has_a_mesh(found):
    """Whatever the shape of the slice: eight of sixteen chips in a square are no row of it."""
    assert all(line["tensor"] == [1, 2, 4, 8, 16] for line in found[:-1])


def test_copies_of_the_model_do_not_cross_slices(found):
    two = found[-1]
    assert two["shape"] == {"replica": 2, "fsdp": 2, "tensor": 2}
    assert two["slices"] == [[0], [1]]


def test_a_mesh_that_would_spread_a_copy_over_slices_is_refused(found):
    assert found[-1]["refused"] == ("config.mesh.replica: 1 copies of the model on 2 slices; set it to 2 or a multiple")

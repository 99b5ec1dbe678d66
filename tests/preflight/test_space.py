"""Free space against each minimum, on disks that `shutil.disk_usage` says are nearly full."""

import pytest

from aloe_jax.preflight import space
from aloe_jax.preflight.host import Host
from helpers.hosts_of_tests import changed, write

FREE = 10 * space.MIB


@pytest.fixture
def full(monkeypatch):
    """Every disk has 10 MiB left."""
    real = space.shutil.disk_usage
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: real(path)._replace(free=FREE))


def test_enough(tpu_host, tmp_path, monkeypatch):
    """At each minimum itself."""
    real, free = space.shutil.disk_usage, {"tmp": 2 * space.GIB, "shm": 16 * space.MIB, "x": 5 * space.GIB}
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: real(path)._replace(free=free[path.name]))
    host = changed(tpu_host, workdir=str(tmp_path / "x/run"))
    (tmp_path / "x").mkdir()
    for check in (space.temporary_space, space.shared_memory, space.run_space):
        assert list(check(host)) == []


def test_tmp(tpu_host, tmp_path, full):
    (found,) = space.temporary_space(tpu_host)
    assert found.startswith("/tmp has 10 MiB free, and needs 2.0 GiB; `du -xh /tmp")
    (found,) = space.temporary_space(Host(root=tmp_path / "without"))
    assert "and needs 64 MiB" in found


def test_shared_memory(tpu_host, tmp_path, full):
    (found,) = space.shared_memory(tpu_host)
    assert found.startswith("/dev/shm has 10 MiB free, and needs 16 MiB; `sudo mount -o remount,size=8G /dev/shm`")
    write(tmp_path / "dev/nvidia0")
    (found,) = space.shared_memory(tpu_host)
    assert "and needs 1.0 GiB" in found


def test_run_directory(tpu_host, tmp_path, full, monkeypatch):
    (found,) = space.run_space(changed(tpu_host, workdir=str(tmp_path / "not/yet"), space=96.0))
    assert found.startswith(f"{tmp_path / 'not/yet'} has 10 MiB free, and needs 96.0 GiB; `df -h`")
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))
    (found,) = space.run_space(changed(tpu_host, workdir="gs://bucket/run"))
    assert found.startswith(f"{tmp_path / 'cache'} has 10 MiB free, and needs 1.0 GiB; set ALOE_CACHE to a folder")
    assert list(space.run_space(tpu_host)) == []  # no --workdir

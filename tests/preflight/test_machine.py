"""Every check of one host, provoked with device files under a root of the test's own."""

import os
import subprocess
import sys

import pytest

from aloe_jax.preflight import environment, machine, versions
from aloe_jax.preflight.host import Host
from helpers.aloe_command import ROOT
from helpers.hosts_of_tests import HUGE, changed, write


def opens(host, process, command, file):
    folder = host.root / "proc" / str(process)
    write(folder / "comm", f"{command}\n")
    (folder / "fd").mkdir(exist_ok=True)
    (folder / "fd" / str(len(list((folder / "fd").iterdir())))).symlink_to(file)


def test_device_files(tpu_host, tmp_path):
    assert tpu_host.tpus() == ["/dev/vfio/0", "/dev/vfio/1"]
    write(tmp_path / "sys/bus/pci/devices/0000:00:05.0/vendor", "0x8086\n")
    assert tpu_host.tpus() == []  # another vendor's device
    write(tmp_path / "dev/accel0")
    assert tpu_host.tpus() == ["/dev/accel0"]


def test_an_old_python(tpu_host):
    (found,) = machine.python_version(changed(tpu_host, python=(3, 10)))
    assert found.startswith("Python 3.10 is too old")
    assert "`uv venv --python=3.12 && uv sync`" in found


def test_tpus_hidden_by_a_variable(tpu_host):
    (found,) = machine.hidden_tpus(changed(tpu_host, environment={"JAX_PLATFORMS": "cpu"}))
    assert found.startswith("JAX_PLATFORMS=cpu hides this host's TPUs (/dev/vfio/0, /dev/vfio/1)")
    assert "`unset JAX_PLATFORMS`" in found


def test_tpus_without_libtpu(tpu_host, monkeypatch):
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    (found,) = machine.hidden_tpus(tpu_host)
    assert "no libtpu" in found
    assert "`pip install 'aloe_jax[tpu]'`" in found


def test_a_held_lock_file(tpu_host, tmp_path):
    write(tmp_path / "tmp/libtpu_lockfile")
    assert list(machine.lock_file(tpu_host)) == []  # its own user's, and nobody holds it
    opens(tpu_host, 123, "python", "/tmp/libtpu_lockfile")
    (found,) = machine.lock_file(tpu_host)
    assert found.startswith("/tmp/libtpu_lockfile is held by process 123 (python)")
    assert "`kill 123`" in found


def test_a_lock_file_of_another_user(tpu_host, tmp_path):
    write(tmp_path / "tmp/libtpu_lockfile")
    (found,) = machine.lock_file(changed(tpu_host, user=os.getuid() + 1))
    assert "left by another user" in found
    assert "`sudo rm /tmp/libtpu_lockfile`" in found


def test_busy_devices(tpu_host):
    for file in ("/dev/vfio/0", "/dev/vfio/1", "/dev/null"):
        opens(tpu_host, 321, "train", file)
    opens(tpu_host, os.getpid(), "self", "/dev/vfio/0")
    (found,) = machine.busy_devices(tpu_host)
    assert found.startswith("/dev/vfio/0, /dev/vfio/1 is open in process 321 (train)")
    assert "`kill 321`" in found


def test_huge_pages_that_are_off(tpu_host, tmp_path):
    write(tmp_path / HUGE, "always [madvise] never\n")
    (found,) = machine.huge_pages(tpu_host)
    assert "huge pages are off (always [madvise] never)" in found
    assert f"echo always > /{HUGE}" in found


def test_the_limit_of_open_files_is_raised():
    """In processes of their own, since a hard limit that is lowered stays so."""
    program = (
        "import resource, sys; from aloe_jax.preflight import host, machine; N = resource.RLIMIT_NOFILE; "
        "resource.setrlimit(N, (256, int(sys.argv[1]))); print(*machine.open_files(host.Host())); "
        "print(resource.getrlimit(N)[0])"
    )
    for hard, failure in ((4096, ""), (1024, "this process may open 1024 files only")):
        done = subprocess.run(
            [sys.executable, "-c", program, str(hard)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        said, limit = done.stdout.splitlines()
        assert said.startswith(failure)
        assert bool(said) == bool(failure)
        assert limit == str(hard)


@pytest.mark.parametrize(
    ("variables", "processes", "expected"),
    [
        ({"MEGASCALE_COORDINATOR_ADDRESS": "a:1"}, 0, "`unset MEGASCALE_COORDINATOR_ADDRESS`"),
        ({"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "2"}, 0, "MEGASCALE_SLICE_ID=2 is not one of"),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "2"}, 0, "`unset TPU_WORKER_ID TPU_WORKER_HOSTNAMES`"),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}, 3, "names 2 hosts with all slices, and this run has 3"),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1", "MEGASCALE_NUM_SLICES": "2"}, 4, ""),
        ({"MEGASCALE_NUM_SLICES": "1", "MEGASCALE_COORDINATOR_ADDRESS": "a:1"}, 1, ""),
        ({"MEGASCALE_NUM_SLICES": "2"}, 3, "MEGASCALE_NUM_SLICES=2 does not divide the 3 processes of this run"),
    ],
)
def test_stale_variables(variables, processes, expected, tpu_host):
    found = " ".join(environment.stale_variables(changed(tpu_host, environment=variables, processes=processes)))
    assert expected in found
    assert bool(found) == bool(expected)


def test_what_is_installed_is_what_jax_asks_for():
    assert list(versions.pinned_packages(Host())) == []
    assert {"jax", "jaxlib", "python", "tokenizers", "pyarrow"} <= set(versions.installed())


def test_packages_that_jax_does_not_ask_for():
    asked = ["jaxlib<=0.10.2,>=0.10.1", 'libtpu==0.0.42.*; extra == "tpu"', 'jaxlib==0.10.1; extra == "ci"', "numpy>=9"]
    good = {"jax": "0.10.2", "jaxlib": "0.10.2", "libtpu": "0.0.42.1", "numpy": "2.0"}
    assert list(versions.pin_failures(good, asked)) == []
    (jaxlib, libtpu) = versions.pin_failures(good | {"jaxlib": "0.9.0", "libtpu": "0.0.30"}, asked)
    assert jaxlib.startswith("jaxlib 0.9.0 does not fit jax 0.10.2")
    assert "`pip install 'jax[tpu]==0.10.2'`" in jaxlib
    assert libtpu.startswith("libtpu 0.0.30 does not fit jax 0.10.2, which asks for ==0.0.42.*")

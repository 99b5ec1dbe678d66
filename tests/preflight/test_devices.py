"""What JAX's devices show. The sum runs on the devices of the test; kinds of TPUs are given by name."""

import subprocess
import sys

import jax
import pytest

from aloe_jax.errors import InputError
from aloe_jax.plan.topology import parse_topology
from aloe_jax.preflight import devices
from aloe_jax.preflight.host import Host
from helpers.aloe_command import ROOT

V5E = ["TPU v5 lite"] * 16


@pytest.fixture
def laptop(tmp_path):
    return Host(root=tmp_path, environment={})


def test_a_silent_cpu(tpu_host):
    (found,) = devices.backend_failures(tpu_host, "cpu")
    assert found.startswith("this host has TPUs (/dev/vfio/0, /dev/vfio/1) and JAX computes on cpu; `python -c")
    assert '`pip install -U "jax[tpu]"`' in found
    assert list(devices.backend_failures(tpu_host, "tpu")) == []


def test_a_silent_cpu_ends_the_rows(tpu_host):
    """With this process's JAX, whose backend is the CPU: nothing is summed."""
    (row,) = devices.device_rows(tpu_host, None, 60)
    assert row.failures[0].startswith("this host has TPUs")


@pytest.mark.parametrize(
    ("kinds", "remedy"),
    [
        (V5E[:4], "`aloe preflight --distributed` on all hosts of the slice sees all of it"),
        (["TPU v6 lite"] * 16, "give the slice that is there"),
        (V5E, ""),
    ],
)
def test_devices_against_the_topology(kinds, remedy, tpu_host):
    found = " ".join(devices.topology_failures(tpu_host, parse_topology("v5e:4x4"), kinds))
    assert bool(found) == bool(remedy)
    assert remedy in found
    if found:
        assert found.startswith(f"v5e:4x4 has 16 devices (TPU v5 lite), found {len(kinds)} x {kinds[0]}; ")


def test_an_image_without_tpus(laptop):
    (found,) = devices.topology_failures(laptop, parse_topology("v5e-4"), ["cpu"])
    assert found.startswith(
        "v5e:2x2 has 4 devices (TPU v5 lite), found 1 x cpu; this VM has no TPU device file: `gcloud"
    )


def test_the_collective(laptop):
    """The sum of a one from each device is their number."""
    found, collective = devices.device_rows(laptop, None, 60)
    assert found.found == f"{jax.device_count()} x cpu"
    assert collective.found.startswith(f"the sum over all {jax.device_count()} takes ")
    assert collective.found.endswith(" ms")
    assert not found.failures + collective.failures


def test_a_wrong_sum(laptop, monkeypatch):
    monkeypatch.setattr(devices, "timed_collective", lambda: (7.0, 0.1))
    _, row = devices.device_rows(laptop, None, 60)
    assert row.failures[0].startswith(f"the sum of a one from each of {jax.device_count()} devices is 7, so a chip")
    assert "`gcloud compute tpus tpu-vm delete" in row.failures[0]


def test_devices_that_do_not_start(tmp_path):
    """JAX is told to use an accelerator that is not there, and then one that never answers."""
    program = (
        "import pathlib, sys, time, jax; from aloe_jax.preflight import devices, host; "
        "here = host.Host(root=pathlib.Path(sys.argv[1])); jax.config.update('jax_platforms', 'cuda'); "
        "(row,) = devices.device_rows(here, None, 60); print(*row.failures, flush=True); "
        "jax.devices = lambda: time.sleep(60); print(*devices.device_rows(here, None, 0.1))"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == InputError.exit_code, done.stderr
    assert done.stdout.startswith("JAX cannot start its devices (there is none); `sudo lsof -w /dev/accel*` names")
    assert done.stderr.startswith("aloe: the devices did not answer within 0.1 seconds; `sudo lsof -w /dev/vfio/*")

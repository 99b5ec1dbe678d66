"""The processes of a run, as they are given and as JAX detects them."""

import pytest

from aloe_jax.errors import InputError
from aloe_jax.parallel import meeting
from aloe_jax.parallel.meeting import Group, HostSettings, group_of


def test_given():
    assert group_of("10.0.0.2:8476,4,1", HostSettings()) == Group("10.0.0.2", 8476, 4, 1)
    assert group_of("[::1]:8476,1,0", HostSettings()) == Group("::1", 8476, 1, 0)
    with pytest.raises(InputError, match="is not ADDRESS:PORT,PROCESSES,NUMBER"):
        group_of("10.0.0.2,4,1", HostSettings())


def test_detected(monkeypatch):
    """Slurm's variables, for the second of three processes. Fails if JAX has moved what this relies on."""
    for name, value in {"JOB_ID": 1, "STEP_NODELIST": "localhost", "NTASKS": 3, "PROCID": 1, "LOCALID": 1}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setenv("JAX_COORDINATOR_PORT", "4711")  # so that it is restored, too
    assert group_of("auto", HostSettings()) == Group("localhost", 4711, 3, 1)
    monkeypatch.delenv("JAX_COORDINATOR_PORT")
    assert group_of("auto", HostSettings(port=8476)) == Group("localhost", 8476, 3, 1)


def test_nothing_is_detected(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_PORT", "4711")
    assert group_of("auto", HostSettings()) is None


def test_the_first_host_has_no_address(monkeypatch):
    """As JAX finds it on Cloud TPU: a stale variable names a host that is gone."""
    from jax._src.clusters import cloud_tpu_cluster
    from jax._src.clusters.cloud_tpu_cluster import GkeTpuCluster

    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(GkeTpuCluster, "is_env_present", classmethod(lambda cls: True))
    monkeypatch.setenv("JAX_COORDINATOR_PORT", "4711")
    monkeypatch.setenv("MEGASCALE_COORDINATOR_ADDRESS", "gone.invalid:8080")
    with pytest.raises(InputError, match=r"JAX does not find the hosts of this run .*gone\.invalid.*`unset MEGASCALE_"):
        meeting._detected(0)

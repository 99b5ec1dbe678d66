"""Hosts with device files, as the checks of a preflight see them, under a folder of the test's own."""

from aloe_jax.preflight.host import Host

HUGE = "sys/kernel/mm/transparent_hugepage/enabled"


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def make_tpu_host(root):
    """A host with two TPU chips behind vfio, and nothing wrong."""
    for name in ("dev/vfio/0", "dev/vfio/1", "dev/vfio/vfio", "dev/shm/x", "tmp/x"):
        write(root / name)
    write(root / "sys/bus/pci/devices/0000:00:05.0/vendor", "0x1ae0\n")
    write(root / HUGE, "[always] madvise never")
    return Host(root=root, environment={})


def changed(host, **fields):
    return Host(**vars(host) | fields)

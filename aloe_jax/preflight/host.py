"""What the checks of one host look at, and the TPUs that its device files show."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# What the demo keeps: parameters and Adam's two moments in f32 are 3 x 4 bytes for each of SmolLM2's 134.5 million, so
# a checkpoint has 1.6 GB; each of two trainings keeps one, a third is being written, and the export has 0.5: 5.4 GB.
DEMO_GIB = 5.0
_GOOGLE = "0x1ae0"  # PCI vendor; /dev/vfio may hold other devices


@dataclass(frozen=True)
class Host:
    """This host as the checks see it.

    Attributes:
        workdir, cache_dir: folders to probe; empty: none.
        space: GiB that the run directory needs.
        processes: of the run; 0 if unknown.
        root: the folder in which /dev, /proc, /sys and /tmp are looked up.
        environment, python, user: of this process; user is its numeric id.
    """

    workdir: str = ""
    cache_dir: str = ""
    space: float = DEMO_GIB
    processes: int = 0
    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    python: tuple[int, int] = (sys.version_info[0], sys.version_info[1])
    user: int = field(default_factory=os.getuid)

    @property
    def compilation_cache(self) -> str:
        """The folder of compiled programs that was given, else that of JAX's variable; empty if there is neither."""
        return self.cache_dir or self.environment.get("JAX_COMPILATION_CACHE_DIR", "")

    def tpus(self) -> list[str]:
        """The device files of TPUs: /dev/accel0, or /dev/vfio/0 where a Google device is on the PCI bus."""
        dev = self.root / "dev"
        found = sorted(path.name for path in dev.glob("accel[0-9]*"))
        if not found and any(_GOOGLE in _text(path) for path in self.root.glob("sys/bus/pci/devices/*/vendor")):
            found = sorted(f"vfio/{path.name}" for path in dev.glob("vfio/[0-9]*"))
        return [f"/dev/{name}" for name in found]

    def has_gpu(self) -> bool:
        """Whether the device file of an NVIDIA or AMD GPU is there."""
        return any((self.root / "dev" / name).exists() for name in ("nvidia0", "kfd"))

    def holders(self, *names: str) -> Iterator[tuple[str, int, str]]:
        """Each open one of these files as (file, process id, command), of other processes that this user may see."""
        for folder in self.root.glob("proc/[0-9]*"):
            if int(folder.name) == os.getpid():
                continue
            try:
                opened = {os.readlink(link) for link in (folder / "fd").iterdir()}
            except OSError:  # it ended, or belongs to another user
                continue
            for name in sorted(opened.intersection(names)):
                yield name, int(folder.name), _text(folder / "comm") or "?"


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

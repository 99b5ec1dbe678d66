"""A run on a slice, whichever launcher starts it: its command line, its environment, its cost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aloe_jax.errors import InputError, ResumableError
from aloe_jax.launch.slices import Slice
from aloe_jax.plan.flags import FLAG, VARIABLE

RESUMES = ResumableError.exit_code  # the only exit code after which the same command is started again
MOUNT = PurePosixPath("/mnt/aloe")  # where --nfs is mounted on every host
BUCKET = "gs://"
# The bucket as run directory is the documented goal, so files can be written for it, but not started.
NO_BUCKET_YET = (
    "`aloe run` does not write run directories to gs:// yet; until then use --nfs=ADDRESS:/EXPORT and a --workdir "
    f"under {MOUNT}"
)
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")  # a Kubernetes label, with room for what JobSet adds to it
_ZONE = re.compile(r"[a-z]+-[a-z]+\d+-[a-z]")
_NFS = re.compile(r"([A-Za-z0-9.-]+):(/[A-Za-z0-9._/-]*)")


@dataclass(frozen=True)
class Job:
    """What runs where. `config` are the arguments that start with --config, `zone` and `nfs` may be empty."""

    name: str
    slice: Slice
    config: tuple[str, ...]
    workdir: str
    stages: tuple[str, ...] = ()
    spot: bool = False
    zone: str = ""
    nfs: str = ""  # ADDRESS:/EXPORT

    def __post_init__(self) -> None:
        """Raise InputError for what no host could run."""
        if not _NAME.fullmatch(self.name):
            raise InputError(
                f"--name: '{self.name}' must be at most 40 lower-case letters, digits and hyphens, the first a letter"
            )
        if self.nfs and not _NFS.fullmatch(self.nfs):
            raise InputError(f"--nfs: '{self.nfs}' must be ADDRESS:/EXPORT, as in 10.0.0.2:/aloe")
        if self.zone and not _ZONE.fullmatch(self.zone):
            raise InputError(f"--zone: '{self.zone}' must be a zone, as us-west4-a")
        if broken := [each for each in (*self.config, self.workdir) if re.search(r"[\x00-\x1f\x7f]", each)]:
            raise InputError(f"'{broken[0]!r}' contains a line break or control character; leave it out")
        self._check_workdir()
        for argument in self.config:
            if argument.startswith("--config="):
                _check_config_path(argument.removeprefix("--config=").partition(":")[0])

    def _check_workdir(self) -> None:
        if self.in_bucket:
            if not re.fullmatch(r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9](/[^/]+)+/?", self.workdir):
                raise InputError(
                    f"--workdir: '{self.workdir}' must name a folder of a bucket, as in gs://BUCKET/runs/a"
                )
        elif not self.nfs:
            raise InputError(
                f"--workdir: '{self.workdir}' is lost with the machine; give --nfs=ADDRESS:/EXPORT and a folder under "
                f"{MOUNT}, where it is mounted"
            )
        elif MOUNT not in PurePosixPath(self.workdir).parents or ".." in PurePosixPath(self.workdir).parts:
            raise InputError(f"--workdir: '{self.workdir}' must lie under {MOUNT}, where --nfs is mounted")

    @property
    def in_bucket(self) -> bool:
        """Whether the run directory is in an object store."""
        return self.workdir.startswith(BUCKET)

    @property
    def server(self) -> tuple[str, str]:
        """Address and exported path of the NFS server."""
        address, _, path = self.nfs.partition(":")
        return address, path

    @property
    def command(self) -> list[str]:
        """The command of every host, word by word."""
        words = ["aloe", "run", *self.config, f"--workdir={self.workdir}"]
        if self.stages:
            words.append(f"--stages={','.join(self.stages)}")
        if self.slice.hosts > 1:
            words.append("--distributed")
        return words

    @property
    def environment(self) -> dict[str, str]:
        """The variables of every host. Compiled programs lie beside the run directory, so that a restart, and other
        runs in the same folder, find them."""
        return {
            "JAX_PLATFORMS": "tpu,cpu",  # a host whose chips cannot be used fails, and does not go on with its CPU
            "JAX_COMPILATION_CACHE_DIR": f"{self.workdir.rstrip('/').rpartition('/')[0]}/compiled",
            VARIABLE: FLAG,
        }

    def cost(self, price: float | None) -> str:
        """A line on what the job costs while it holds the slice, at `price` US dollars per chip-hour if known."""
        chips = self.slice.topology.chips
        if price is None:
            return f"cost: {chips} chips until the job ends, at a price that is not known; give --price (per chip-hour)"
        return f"cost: {chips} chips at {price:g} USD per chip-hour: {chips * price:,.2f} USD per hour until it ends"


def _check_config_path(path: str) -> None:
    """Raise InputError for a config file that the hosts would not find; a shipped name they find anywhere."""
    if Path(path).is_absolute() or path.startswith("~") or ".." in Path(path).parts:
        raise InputError(
            f"--config: '{path}' does not exist on the hosts; give a path relative to this folder, which they get, or "
            "the name of a shipped config"
        )


def name_of(workdir: str) -> str:
    """A job's name from the last part of its run directory."""
    last = re.sub(r"[^a-z0-9]+", "-", workdir.rstrip("/").rpartition("/")[2].lower()).strip("-")
    return (last if last[:1].isalpha() else f"aloe-{last}".rstrip("-"))[:40].rstrip("-")


def header(job: Job, start: Sequence[str]) -> Iterator[str]:
    """The comment lines that a file begins with."""
    found = job.slice
    hosts = (
        f"{found.hosts} host{'s' * (found.hosts > 1)} of {found.chips_per_host} chip{'s' * (found.chips_per_host > 1)}"
    )
    yield f"# {found.topology.name}: {found.accelerator_type}, {hosts}, {found.machine_type}. Start it with:"
    yield from (f"#   {line}" for line in start)
    if job.in_bucket:
        yield f"# {NO_BUCKET_YET}."

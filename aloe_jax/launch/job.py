"""A run on machines, whichever launcher starts it: its command line, its environment, its cost."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aloe_jax.errors import InputError, ResumableError
from aloe_jax.launch.machines import Machines, counted
from aloe_jax.launch.settings import LaunchSettings
from aloe_jax.plan.flags import VARIABLE

RESUMES = ResumableError.exit_code  # the only exit code after which the same command is started again
RESTARTS = 20  # on GKE; a bound, as a full bucket too ends with the code to resume from
GROWTH = ("personas", "conversations")  # stages of a shard
SHARD = "SHARD"  # the variable with the number of the shard that a host grows
SERVER_PORT = 8000
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,26}[a-z0-9])?")  # `gcluster` takes 28 characters
_ZONE = re.compile(r"[a-z]+-[a-z]+\d+-[a-z]")
_WORKDIR = re.compile(r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9](/(?!\.+(/|$))[\w.=-]+)+/?", re.ASCII)


@dataclass(frozen=True)
class Servers:
    """Hosts with a vLLM server each, beside which a shard of the conversations is grown."""

    count: int
    model: str
    context: int  # tokens that prompt and reply may have together

    @property
    def shards(self) -> range:
        """The numbers of the shards."""
        return range(self.count)

    def arguments(self, tensor_parallel: int) -> list[str]:
        """The server's command, without the program that it is installed as."""
        return [
            "serve",
            self.model,
            f"--port={SERVER_PORT}",
            f"--tensor-parallel-size={tensor_parallel}",
            f"--max-model-len={self.context}",
        ]


@dataclass(frozen=True)
class Job:
    """What runs where. `config` are the arguments that start with --config; without `servers` it is one run on a
    slice."""

    name: str
    machines: Machines
    config: tuple[str, ...]
    workdir: str
    flags: str = ""  # of the compiler
    stages: tuple[str, ...] = ()
    spot: bool = False
    settings: LaunchSettings = field(default_factory=LaunchSettings)
    servers: Servers | None = None

    def __post_init__(self) -> None:
        """Raise InputError for what no host could run."""
        if not _NAME.fullmatch(self.name):
            raise InputError(
                f"--name: '{self.name}' must be at most 28 lower-case letters, digits and hyphens, the first a letter"
            )
        if self.settings.zone and not _ZONE.fullmatch(self.settings.zone):
            raise InputError(f"config.launch.zone: '{self.settings.zone}' must be a zone, as us-west4-a")
        if not _WORKDIR.fullmatch(self.workdir):
            raise InputError(
                f"--workdir: '{self.workdir}' must be a folder of a bucket, as gs://BUCKET/runs/a, of letters, digits "
                "and . _ = -; what else a host has is lost with it"
            )
        for argument in self.config:
            if not argument.isprintable():
                raise InputError(f"{argument!r} contains a line break or control character; leave it out")
        for file in self.config_files:
            _check_config_path(file)

    @property
    def config_files(self) -> tuple[str, ...]:
        """The config files, or names of shipped ones, that the command names."""
        given = [argument for argument in self.config if argument.startswith("--config=")]
        return tuple(argument.removeprefix("--config=").partition(":")[0] for argument in given)

    @property
    def folder(self) -> str:
        """The run directory, without its last slash."""
        return self.workdir.rstrip("/")

    @property
    def command(self) -> list[str]:
        """The command of every host, word by word, but for a shard's own words."""
        words = ["aloe", "run", *(word for word in self.config if not word.startswith("--config.launch."))]
        if self.servers:
            return [
                *words,
                f"--config.serve.base_url=http://127.0.0.1:{SERVER_PORT}/v1",
                f"--stages={','.join(GROWTH)}",
            ]
        words.append(f"--workdir={self.folder}")
        if self.stages:
            words.append(f"--stages={','.join(self.stages)}")
        if self.machines.hosts > 1:
            words.append("--distributed")  # which begins with the checks of `aloe preflight`
        return words

    def shard_words(self, number: str) -> list[str]:
        """What the command of the shard `number` adds to `command`."""
        assert self.servers
        return [f"--workdir={self.shard_folder(number)}", f"--shard={number}/{self.servers.count}"]

    def shard_folder(self, number: object) -> str:
        """The run directory of a shard, beside the run's own."""
        return f"{self.folder}-shards/{number}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of every host of a slice. Compiled programs lie beside the run directory, so that a restart,
        and other runs in the same folder, find them. A shard leaves the accelerators to its server."""
        if self.servers:
            return {"JAX_PLATFORMS": "cpu"}
        return {
            "JAX_PLATFORMS": "tpu,cpu",  # a host whose chips cannot be used fails, and does not go on with its CPU
            "JAX_COMPILATION_CACHE_DIR": f"{self.folder.rpartition('/')[0]}/compiled",
            VARIABLE: self.flags,  # which a run would set itself; here they can be seen and changed
        }

    @property
    def merge_line(self) -> str:
        """The command that makes one run of all shards."""
        assert self.servers
        return shlex.join(
            ["aloe", "merge", *map(self.shard_folder, self.servers.shards), f"--out={self.folder}"],
        )

    @property
    def cost(self) -> str:
        """A line on what the job costs while it holds the machines."""
        machines, price = self.machines, self.settings.price
        number = machines.total * (self.servers.count if self.servers else 1)
        held = f"cost: {counted(number, machines.unit)} until the job ends"
        if not price:
            return f"{held}, at a price that is not known: config.launch.price is not set"
        return f"{held}, at {price:g} USD per {machines.unit}-hour: {number * price:,.2f} USD per hour"

    def header(self, start: str) -> Iterator[str]:
        """The comment lines that a file begins with."""
        machines = self.machines
        each = f"{self.servers.count} times " if self.servers else ""
        kind = ", ".join(filter(None, (machines.accelerator, machines.in_words, machines.machine_type)))
        yield f"# {each}{machines.name}: {kind}. Start with:"
        yield f"#   {start}"


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
    return (last if last[:1].isalpha() else f"aloe-{last}".rstrip("-"))[:28].rstrip("-")

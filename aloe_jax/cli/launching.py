"""The command `aloe launch` and its arguments."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from aloe_jax.cli import signals
from aloe_jax.cli.arguments import STAGES, USUAL
from aloe_jax.cli.parsing import Add
from aloe_jax.errors import AloeError, InputError

if TYPE_CHECKING:
    from aloe_jax.launch.job import Job, Servers

KEPT, COMPILE, NO = "kept", "compile", "no"


def add_launching(add: Add) -> argparse.ArgumentParser:
    """Add the command."""
    command = add(
        "launch",
        launch,
        "Write the file with which SkyPilot or a GKE cluster (JobSet and Kueue) runs an experiment on a TPU slice.",
        takes_config=True,
    )
    command.add_argument("--on", required=True, choices=("skypilot", "jobset"), help="what is to start the run")
    command.add_argument(
        "--topology",
        required=True,
        help="chip and shape of the slice, v5e:4x4, or its accelerator type, v5e-16; with --servers of each server, or "
        "its GPUs, L4:1",
    )
    command.add_argument("--workdir", required=True, help="run directory, a folder of a bucket: gs://BUCKET/runs/a")
    command.add_argument("--stages", default="", help="comma-separated stages (default: config.stages, else all)")
    command.add_argument(
        "--servers",
        type=int,
        metavar="COUNT",
        help="grow the conversations alone, in so many shards, each beside a vLLM server of config.serve.model",
    )
    command.add_argument("--spot", action="store_true", help="machines that may be taken away; the run then resumes")
    command.add_argument("--name", help="name of the job (default: the last part of --workdir)")
    command.add_argument("--out", metavar="FILE", help="file to write (default: NAME.yaml in this folder)")
    command.add_argument("--overwrite", action="store_true", help="replace a file that exists with other contents")
    command.add_argument(
        "--plan",
        default=KEPT,
        choices=(KEPT, COMPILE, NO),
        help="does it fit? kept: what `aloe plan` found before (default); compile: find out now, in minutes; no: do "
        "not say",
    )
    command.add_argument("--run", action="store_true", help="also start it with `sky` or `kubectl`; needs --yes")
    command.add_argument("--yes", action="store_true", help="agree to the cost that --run causes")
    return command


def launch(options: argparse.Namespace) -> None:
    """Write a launcher's file and print how to start it."""
    from aloe_jax.cli.experiment import load_experiment
    from aloe_jax.launch.command import JOBSET, check, launch, prepare
    from aloe_jax.launch.job import Job, name_of
    from aloe_jax.launch.local_files import check_copied, in_words
    from aloe_jax.launch.machines import server_machine, tpus
    from aloe_jax.launch.settings import LaunchSettings
    from aloe_jax.plan.topology import parse_topology

    signals.raise_interrupts()

    stages = tuple(name.strip() for name in options.stages.split(",") if name.strip())
    if unknown := [name for name in stages if name not in STAGES]:
        raise InputError(f"--stages: '{unknown[0]}' is no stage; expected some of {', '.join(STAGES)}")
    on_gke, settings = options.on == JOBSET, load_experiment(options.config_arguments)
    servers = None if options.servers is None else _servers(options.servers, stages, settings)
    found = settings.get("launch")
    where = options.topology
    job = Job(
        name=options.name if options.name is not None else name_of(options.workdir),
        machines=server_machine(where, on_gke) if servers else tpus(parse_topology(where), on_gke),
        config=tuple(options.config_arguments),
        workdir=options.workdir,
        flags="" if servers else _compiler_flags(where, settings),
        stages=stages,
        spot=options.spot,
        settings=found if isinstance(found, LaunchSettings) else LaunchSettings(),
        servers=servers,
    )
    file, image = options.out or f"{job.name}.yaml", in_words(settings) if on_gke else ""
    if not on_gke:
        check_copied(settings, job.config_files)
    prepared = prepare(options.on, job, file)
    check(job, prepared, file, options.overwrite, options.run, options.yes)
    planned = [] if servers or options.plan == NO else list(_plan_lines(job, settings, options))
    launch(job, prepared, file, [*planned, *filter(None, [image])], options.run, print)


def _compiler_flags(topology: str, settings: Mapping[str, object]) -> str:
    """The flags that `aloe run` would set for `config.tuning` on the chips of that slice."""
    from aloe_jax.plan.flags import libtpu_flags
    from aloe_jax.plan.remat import decide_remat
    from aloe_jax.plan.topology import parse_topology

    chip = parse_topology(topology).chip.name
    return " ".join(libtpu_flags(chip, decide_remat(settings, chip).settings))


def _servers(count: int, stages: tuple[str, ...], settings: Mapping[str, object]) -> Servers:
    """The servers of a job that grows conversations. InputError where the shards could not grow one run's."""
    from aloe_jax.launch.job import Servers
    from aloe_jax.serve.settings import ServeSettings
    from data_gen.personas.settings import PersonaSettings

    if not 1 <= count <= 1000:
        raise InputError(f"--servers: {count} must be a number of servers, from 1 to 1000")
    if stages:
        raise InputError("--stages: with --servers only conversations are grown; leave one of the two out")
    served, personas = settings.get("serve"), settings.get("personas")
    if not isinstance(served, ServeSettings) or not served.model:
        raise InputError("config.serve.model is empty; with --servers it names the model, as Qwen/Qwen3-32B")
    if isinstance(personas, PersonaSettings) and personas.source == "generated":
        raise InputError(
            "config.personas.source is 'generated', and every shard would make its own; make them first with "
            "--stages=personas, then set it to 'files', with their personas.jsonl as both pools"
        )
    return Servers(count, served.model, served.context)


def _plan_lines(job: Job, settings: Mapping[str, object], options: argparse.Namespace) -> Iterator[str]:
    """A line on each stage of the job that can be planned. AloeError for one that does not fit."""
    from contextlib import nullcontext

    from aloe_jax.cli.experiment import planned_settings
    from aloe_jax.plan.cache import NotKeptError, kept_alone
    from aloe_jax.plan.plan import STAGES as PLANNED
    from aloe_jax.plan.plan import make_plan
    from aloe_jax.plan.remedy import remedy
    from aloe_jax.plan.report import price_line, verdict_line
    from aloe_jax.run.progress import Progress

    given = job.stages or settings.get("stages") or USUAL
    assert isinstance(given, tuple)
    for stage in (stage for stage in given if stage in PLANNED):
        try:
            with kept_alone() if options.plan == KEPT else nullcontext():
                plan = make_plan(planned_settings(settings), stage, job.machines.name, progress=Progress().line)
        except NotKeptError:
            yield f"plan: whether {stage} fits is not known yet; --plan=compile finds out, in minutes"
            continue
        except InputError as error:
            if options.plan == COMPILE:
                raise
            yield f"plan: whether {stage} fits is not known ({error})"
            continue
        if not plan.fits:
            raise AloeError(f"{stage} does not fit a chip of {job.machines.name}; {remedy(plan, False)}")
        yield verdict_line(plan)
        if job.settings.price:
            yield price_line(plan, job.settings.price)

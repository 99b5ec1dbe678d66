"""The command `aloe launch` and its arguments."""

from __future__ import annotations

import argparse

from aloe_jax.cli import signals
from aloe_jax.cli.arguments import STAGES
from aloe_jax.cli.parsing import Add
from aloe_jax.errors import AloeError, InputError


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
        "--topology", required=True, help="chip and shape of the slice, v5e:4x4, or its accelerator type, v5e-16"
    )
    command.add_argument(
        "--workdir",
        required=True,
        help="run directory as the hosts see it: a folder under /mnt/aloe, where --nfs is mounted. For a folder in "
        "gs:// the file is written, but `aloe run` cannot work there yet",
    )
    command.add_argument("--nfs", default="", metavar="ADDRESS:/EXPORT", help="NFS or Filestore share of all hosts")
    command.add_argument("--stages", default="", help="comma-separated stages (default: config.stages, else all)")
    command.add_argument("--name", help="name of the job (default: the last part of --workdir)")
    command.add_argument("--out", metavar="FILE", help="file to write (default: NAME.yaml in this folder)")
    command.add_argument("--overwrite", action="store_true", help="replace a file that exists with other contents")
    command.add_argument("--spot", action="store_true", help="machines that may be taken away; the run then resumes")
    command.add_argument("--zone", default="", help="zone, such as us-west4-a (default: the launcher's choice)")
    command.add_argument("--image", default="", help="container image with aloe (--on=jobset)")
    command.add_argument("--queue", default="", help="name of Kueue's LocalQueue (--on=jobset)")
    command.add_argument("--price", type=float, help="US dollars per chip-hour, to print the cost per hour")
    command.add_argument(
        "--plan", choices=("sft", "preference", "benchmark"), help="first compile this stage: does it fit? (minutes)"
    )
    command.add_argument("--run", action="store_true", help="also start it with `sky` or `kubectl`; needs --yes")
    command.add_argument("--yes", action="store_true", help="agree to the cost that --run causes")
    return command


def launch(options: argparse.Namespace) -> None:
    """Write a launcher's file and print how to start it."""
    from aloe_jax.cli.experiment import load_experiment
    from aloe_jax.launch.command import launch, prepare
    from aloe_jax.launch.job import Job, name_of
    from aloe_jax.launch.slices import slice_of
    from aloe_jax.plan.topology import parse_topology

    signals.raise_interrupts()

    stages = tuple(name.strip() for name in options.stages.split(",") if name.strip())
    if unknown := [name for name in stages if name not in STAGES]:
        raise InputError(f"--stages: '{unknown[0]}' is no stage; expected some of {', '.join(STAGES)}")
    if options.price is not None and not 0 <= options.price < float("inf"):
        raise InputError(f"--price: {options.price} must be US dollars per chip-hour, 0 or more")
    job = Job(
        name=options.name if options.name is not None else name_of(options.workdir),
        slice=slice_of(parse_topology(options.topology)),
        config=tuple(options.config_arguments),
        workdir=options.workdir,
        stages=stages,
        spot=options.spot,
        zone=options.zone,
        nfs=options.nfs,
    )
    settings = load_experiment(options.config_arguments)
    file = options.out or f"{job.name}.yaml"
    prepared = prepare(options.on, job, file, options.image, options.queue)
    if options.plan:
        _print_plan(settings, options)
    launch(
        job,
        prepared,
        file,
        price=options.price,
        overwrite=options.overwrite,
        run=options.run,
        yes=options.yes,
        say=print,
    )


def _print_plan(settings: dict[str, object], options: argparse.Namespace) -> None:
    """Print what `aloe plan` finds. AloeError if the stage does not fit."""
    from aloe_jax.cli.experiment import planned_settings
    from aloe_jax.plan.plan import make_plan
    from aloe_jax.plan.remedy import remedy
    from aloe_jax.plan.report import price_line, verdict_line
    from aloe_jax.run.progress import Progress

    plan = make_plan(planned_settings(settings), options.plan, options.topology, progress=Progress().line)
    if not plan.fits:
        raise AloeError(f"{options.plan} does not fit a chip of {options.topology}; {remedy(plan, False)}")
    print(verdict_line(plan))
    if options.price is not None:
        print(price_line(plan, options.price))

"""The command `aloe run`, and the stages that there are."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from typing import TYPE_CHECKING

from aloe_jax.cli import signals
from aloe_jax.cli.arguments import STAGES, TRAINING, USUAL
from aloe_jax.cli.devices import chip_name, has_tpus
from aloe_jax.cli.waiting import waiting
from aloe_jax.errors import InputError

if TYPE_CHECKING:
    from aloe_jax.run.stage import Stage


def run(options: argparse.Namespace) -> None:
    """Run the stages of an experiment."""
    with waiting("importing"):
        from etils import epath
        from rich.console import Console

        from aloe_jax.bucket.places import in_bucket
        from aloe_jax.bucket.reading import light, readable
        from aloe_jax.cli.console import PipedConsole
        from aloe_jax.cli.dry_run import show_outlook
        from aloe_jax.cli.experiment import load_experiment
        from aloe_jax.cli.preflight import meet
        from aloe_jax.parallel import hosts
        from aloe_jax.plan.flags import Added, add_flags, libtpu_flags
        from aloe_jax.plan.remat import decide_remat, interrupted_remat
        from aloe_jax.run.in_bucket import folder_of, working
        from aloe_jax.run.outlook import expected
        from aloe_jax.run.progress import Progress
        from aloe_jax.run.progress_file import PROGRESS
        from aloe_jax.run.stage import Run, run_stages
        from data_gen.game.scheduler import parse_shard

        given = load_experiment(options.config_arguments, options.workdir)
        shard, tpus = parse_shard(options.shard), has_tpus()
        chip = chip_name() if tpus else None
        decided = decide_remat(given, chip, interrupted_remat(options.workdir))
        settings = decided.settings
        # Before libtpu is loaded, which the first use of a device does; importing JAX does not.
        added = add_flags(libtpu_flags(chip, settings)) if tpus else Added(())
        if options.distributed:
            meet(options, settings)
        stages, workdir, primary = pipeline(), folder_of(options.workdir, settings.get("bucket")), hosts.is_primary()
        if options.dry_run and in_bucket(options.workdir):
            with contextlib.suppress(InputError):  # there is none yet
                workdir = epath.Path(readable(options.workdir, light))
        shown = workdir / PROGRESS if primary and not options.dry_run else None
        run = Run(workdir, settings, Progress(Console(stderr=True, quiet=not primary), shown), shard)
        selected = _names(options.stages) or list(run.section("stages", tuple)) or list(USUAL)
        if not TRAINING.isdisjoint(selected) and not options.dry_run:
            import aloe_jax.train.run_training  # noqa: F401  # loads Orbax and Grain while a signal ends the process

    signals.raise_interrupts()
    if options.dry_run:
        if primary:
            show_outlook(expected(stages, run, selected, options.fresh or options.fork), PipedConsole(highlight=False))
        return
    for said in filter(None, (decided.line, added.line())):
        run.progress.line(said)
    with working(options.workdir, run) as run:
        run_stages(stages, run, selected, options.fresh, options.fork)
    if "report" in selected:
        done = shlex.quote(options.workdir)
        page = f"{workdir if in_bucket(options.workdir) else done}/report/index.html"
        run.progress.line(f"\nNext:\n  open {page}\n  aloe view {done}")
        if (run.directory("export") / "config.json").exists():
            run.progress.line(f"  aloe chat --model={done}/export")
            if (run.directory("conversations") / "trees.jsonl").exists():
                trees = f"--trees={done}/conversations/trees.jsonl"
                run.progress.line(f"  aloe score --model={done}/export {trees} --out=scores.jsonl")


def _names(text: str) -> list[str]:
    """The names in a list with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def pipeline() -> list[Stage]:
    """All stages, in the order of `STAGES`."""
    from aloe_jax.data.stage import DATASET
    from aloe_jax.train.export import EXPORT
    from aloe_jax.train.stage import PREFERENCE, SFT
    from data_gen.game.stage import CONVERSATIONS
    from data_gen.online.stage import ONLINE
    from data_gen.personas.stage import PERSONAS_STAGE
    from eval.benchmark.stage import BENCHMARK
    from eval.report.stage import report_stage

    return [PERSONAS_STAGE, CONVERSATIONS, DATASET, SFT, PREFERENCE, ONLINE, BENCHMARK, EXPORT, report_stage(STAGES)]

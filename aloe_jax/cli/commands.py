"""The `aloe` commands, as functions of their parsed arguments. Each imports what it needs when it runs, so that
`aloe --help` is fast."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aloe_jax.cli import signals
from aloe_jax.cli.arguments import STAGES
from aloe_jax.cli.waiting import waiting
from aloe_jax.errors import AloeError, InputError
from aloe_jax.outputs import check_apart, check_no_run

if TYPE_CHECKING:
    pass


def config(options: argparse.Namespace) -> None:
    """Print every setting of an experiment with its value, origin and meaning."""
    from aloe_jax.cli.config_table import print_config
    from aloe_jax.cli.console import PipedConsole

    signals.raise_interrupts()

    print_config(options.config_arguments, options.section, PipedConsole(highlight=False, markup=False))


def status(options: argparse.Namespace) -> None:
    """Print the status of runs."""
    from aloe_jax.cli.console import PipedConsole
    from aloe_jax.cli.status import show_status

    signals.raise_interrupts()

    show_status(options.workdirs, STAGES, PipedConsole(highlight=False, markup=False, emoji=False))


def merge(options: argparse.Namespace) -> None:
    """Merge the shards of one run."""
    from functools import partial

    from aloe_jax.bucket.places import in_bucket
    from aloe_jax.bucket.reading import light, readable
    from aloe_jax.run.in_bucket import write_run
    from data_gen.publish.shards import merge

    signals.raise_interrupts()

    check_apart(options.out, *options.sources)
    sources = [readable(source, light) for source in options.sources]
    if in_bucket(options.out):
        counts = write_run(options.out, partial(merge, sources))
    else:
        check_no_run(options.out)
        counts = merge(sources, options.out)
    print(f"{counts['trees']} conversations, {counts['preferences']} preferences in {options.out}")


def plan(options: argparse.Namespace) -> None:
    """Compile a stage for a TPU slice and print whether it fits. AloeError if it does not."""
    from aloe_jax.bucket.reading import readable
    from aloe_jax.cli.experiment import load_experiment, planned_settings
    from aloe_jax.plan.plan import make_plan
    from aloe_jax.plan.remedy import remedy
    from aloe_jax.plan.report import price_line, search_text, to_text
    from aloe_jax.plan.report_json import write_plan
    from aloe_jax.plan.search import search
    from aloe_jax.plan.tuned import changes_text, compile_each
    from aloe_jax.run.progress import Progress

    signals.raise_interrupts()

    settings, progress = planned_settings(load_experiment(options.config_arguments, options.workdir or "")), Progress()
    found, workdir = [], readable(options.workdir or "")
    if options.tuning:
        given = (*options.config_arguments, *([f"--workdir={options.workdir}"] if options.workdir else []))
        print(changes_text(compile_each(settings, options.stage, options.topology, given, progress.line)), end="\n\n")
    if options.search:
        found = search(settings, options.stage, options.topology, workdir=workdir, progress=progress.line)
        print(search_text(found), end="\n\n")
        plan = found[0].plan
    else:
        plan = make_plan(settings, options.stage, options.topology, workdir=workdir, progress=progress.line)
    print(to_text(plan))
    if options.price is not None and plan.fits:
        print(price_line(plan, options.price))
    if options.json:
        write_plan(plan, options.json, found)
    if not plan.fits:
        sentence = f"{options.stage} does not fit a chip of {options.topology}"
        raise AloeError(f"{sentence}; {remedy(plan, bool(options.search))}")


def import_model(options: argparse.Namespace) -> None:
    """Write a model as a Hugging Face folder."""
    from aloe_jax.hub.importer import import_model
    from aloe_jax.hub.tensors import shard_bytes

    signals.raise_interrupts()

    limit = shard_bytes(options.max_shard_size)
    check_no_run(options.out)
    with waiting(f"importing {options.source}"):
        out = Path(options.out)
        written = import_model(options.source, out, options.dtype, options.overwrite, limit, options.template)
    print(written)


def export(options: argparse.Namespace) -> None:
    """Write a training's result, or any importable model, as a Hugging Face folder."""
    from aloe_jax.bucket.reading import readable_training
    from aloe_jax.hub.tensors import shard_bytes
    from aloe_jax.run.progress import Progress
    from aloe_jax.train.export import export_source

    signals.raise_interrupts()

    limit = shard_bytes(options.max_shard_size)
    out = Path(options.out)
    check_no_run(out)
    line = Progress().line
    with waiting(f"exporting {options.source}"):
        written = export_source(
            readable_training(options.source),
            out,
            options.dtype,
            options.overwrite,
            options.adapter,
            limit,
            line,
            options.step,
            options.unfinished,
        )
    print(written)


def push(options: argparse.Namespace) -> None:
    """Upload a model or dataset folder to the hub, or list what would be uploaded."""
    from aloe_jax.hub.push import push_folder

    signals.raise_interrupts()

    push_folder(Path(options.folder), options.repo, options.public, options.message, options.dry_run)


def convert(options: argparse.Namespace) -> None:
    """Convert conversation data."""
    from functools import partial

    from aloe_jax.formats.convert import convert

    signals.raise_interrupts()

    if options.out is None and not options.preview:
        raise InputError("--out is missing; name the file to write, or look at the data with --preview=3")
    if options.out is not None:
        check_apart(options.out, options.file)
        check_no_run(options.out)
    if Path(options.file).is_dir():
        if options.preview or options.train == "user":
            raise InputError(
                "--preview and --train=user are about files; name the trees of the run, conversations/trees.jsonl in it"
            )
        from data_gen.publish.publish import publish

        print("\n".join(publish(options.file, options.out)))
        return
    chat = None
    if options.model:
        from aloe_jax.hub.chat_model import read_chat_model
        from aloe_jax.hub.source import resolve_model

        _, chat = read_chat_model(resolve_model(options.model))
    tell = partial(print, flush=True)
    report = convert(options.file, options.out, options.refused, chat, options.preview, tell, options.train)
    print("\n".join(report.lines(dry=options.out is None)))


def inspect(options: argparse.Namespace) -> None:
    """Show what a model makes of conversations or, without any, the traits of its template and vocabulary."""
    from aloe_jax.cli.console import PipedConsole
    from aloe_jax.inspect.command import inspect
    from aloe_jax.inspect.text import print_inspection
    from aloe_jax.run.progress import Progress

    signals.raise_interrupts()

    display = Progress()
    with display.stage("statistics") if options.statistics else contextlib.nullcontext():
        found = inspect(
            options.source,
            model=options.model,
            trees=options.trees,
            conversation=options.conversation,
            limit=options.limit,
            turns=options.turns,
            max_path=options.max_path,
            system=options.system,
            statistics=options.statistics,
            html=options.html,
            json=options.json,
            progress=lambda done, total: display.update(done, total, "conversations") if options.statistics else None,
        )
    written = [out for out in (options.html, options.json) if out is not None]
    if written:
        print("\n".join(written))
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an encoding without the marks is no reason to stop
    print_inspection(found, PipedConsole(highlight=False, markup=False, emoji=False))


def score(options: argparse.Namespace) -> None:
    """Write the log-probability of every reply of conversation trees."""
    from aloe_jax.run.progress import Progress
    from aloe_jax.train.score import score_file

    signals.raise_interrupts()

    check_no_run(options.out)
    score_file(options.model, options.trees, options.out, options.dtype, options.system, Progress())


def metrics(options: argparse.Namespace) -> None:
    """Print the benchmark's metrics of a file of scores, or a sheet for labels; of runs and several files a table."""
    from aloe_jax import files
    from aloe_jax.bucket.reading import light, readable
    from aloe_jax.cli.console import PipedConsole
    from eval.benchmark.labels import label_sheet
    from eval.benchmark.truth import metrics_file
    from eval.compare.measured import print_measured

    signals.raise_interrupts()

    path, *more = scores = [readable(each, light) for each in options.scores]
    if more or Path(path).is_dir():
        if options.labels or options.label_sheet is not None:
            raise InputError("--labels and --label-sheet are for one file of scores; name that file alone")
        print_measured(scores, options.scale, None if options.json else PipedConsole(highlight=False))
    elif options.label_sheet is not None:
        print("\n".join(map(files.json_line, label_sheet(path, options.label_sheet))))
    else:
        print(json.dumps(metrics_file(path, scale=options.scale, labels=options.labels), indent=2))


def report(options: argparse.Namespace) -> None:
    """Write the report of a run; with --watch again and again, until Ctrl-C, which is a success."""
    from functools import partial

    from aloe_jax.bucket.places import in_bucket
    from aloe_jax.bucket.reading import light, readable
    from eval.report import watch, write_report

    signals.raise_interrupts()

    if not options.watch:
        print(write_report(readable(options.workdir, light), options.out, stages=STAGES))
        return
    if in_bucket(options.workdir):
        raise InputError(f"--watch follows files of this machine, and '{options.workdir}' is in a bucket; leave it out")
    with contextlib.suppress(KeyboardInterrupt):
        watch(options.workdir, options.out, partial(print, flush=True), stages=STAGES)


def compare(options: argparse.Namespace) -> None:
    """Compare benchmark results and trainings of several runs, or results of one."""
    from aloe_jax.bucket.reading import light, readable
    from aloe_jax.cli.console import PipedConsole
    from eval.compare.comparison import compare
    from eval.compare.files import as_json
    from eval.compare.sources import read_sources
    from eval.compare.text import show
    from eval.compare.write import write_comparison

    signals.raise_interrupts()

    if options.out:
        check_apart(options.out, *options.directories)
        check_no_run(options.out)
    directories = [readable(each, light) for each in options.directories]
    found = compare(read_sources(directories), options.baseline)
    if options.json:
        print(json.dumps(as_json(found), indent=2, ensure_ascii=False))
    else:
        show(found, PipedConsole(highlight=False, markup=False, emoji=False))
    if options.out:
        written = write_comparison(found, options.out)
        if not options.json:
            print("\n".join(map(str, written)))


def view(options: argparse.Namespace) -> None:
    """Serve the web page of a run's trees."""
    from functools import partial

    from aloe_jax.bucket.reading import light, readable
    from eval.viewer import view

    signals.raise_interrupts()

    announce = partial(print, flush=True)  # flushed, so that the address also appears in a file or pipe at once
    view(readable(options.directory, light), options.host, options.port, options.open, announce)


def completion(options: argparse.Namespace) -> None:
    """Print the completion script of a shell."""
    from aloe_jax.cli.completion import script
    from aloe_jax.cli.parser import make_parser

    signals.raise_interrupts()

    print(script(options.shell, make_parser()), end="")

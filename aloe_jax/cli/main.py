"""The `aloe` command. Exit codes: 0 done, 2 bad input (one sentence, nothing changed), 75 stopped in a state that the
same command resumes, 1 anything else.

Each command imports what it needs when it runs, so that `aloe --help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from aloe_jax.errors import AloeError, InputError, ResumableError


class _Parser(argparse.ArgumentParser):
    """argparse with our form of errors."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    code, options = 0, argparse.Namespace(distributed="")
    _leave_libtpu_alone()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for a job in the background
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        options, rest = _parser().parse_known_args(argv, options)
        wrong = [
            argument for argument in rest if options.command not in (_run, _plan) or not argument.startswith("--config")
        ]
        if wrong:
            raise InputError(f"unrecognised argument '{wrong[0]}'; see `aloe --help`")
        options.config_arguments = rest
        options.command(options)
    except KeyboardInterrupt:
        code = _fail("stopped; the same command continues where it was", ResumableError.exit_code)
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        expected = _expected(error)
        if expected is not None:
            code = _fail(str(expected), expected.exit_code)
        elif not options.distributed:
            raise
        else:
            traceback.print_exc()
            code = 1
    if code and options.distributed:
        from aloe_jax.parallel import hosts

        hosts.leave(code)
    return code


def _leave_libtpu_alone() -> None:
    """libtpu may be there to compile for TPUs on a machine that has none. JAX would try it as a device all the same,
    and it would complain of the missing chips on stderr."""
    if importlib.util.find_spec("libtpu") and not _chips() and not _gpu():
        os.environ.setdefault("JAX_PLATFORMS", "cpu")


def _chips() -> list[Path]:
    """Devices that Linux gives to programs for TPUs, and for some other accelerators."""
    return [*Path("/dev").glob("accel*"), *Path("/dev/vfio").glob("[0-9]*")]


def _gpu() -> bool:
    return any(importlib.util.find_spec(f"jax_{name}_plugin") for name in ("cuda12", "cuda13", "rocm7"))


def _tpus() -> bool:
    """Whether JAX will compute on TPUs, as far as can be told before it is loaded."""
    others = os.environ.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu"
    return bool(importlib.util.find_spec("libtpu") and _chips()) and not _gpu() and not others


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM does what Ctrl-C does at that point: asyncio, where it runs, then cancels its tasks in order."""
    signal.raise_signal(signal.SIGINT)


def _fail(sentence: str, code: int) -> int:
    print(f"aloe: {sentence}", file=sys.stderr)
    return code


def _expected(error: BaseException) -> AloeError | None:
    """The failure that a user can mend, if `error` is one or a group that holds one; None for a defect of ours."""
    from aloe_jax.files import disk_full, failed_write

    if isinstance(error, AloeError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_expected, error.exceptions)), None)
    if (gone := _other_process_gone(error)) is not None:
        return gone
    if disk_full(error):
        where = getattr(error, "filename2", None) or getattr(error, "filename", None)  # of a copy, the second
        return failed_write(where or "the output", error)
    if isinstance(error, (IsADirectoryError, NotADirectoryError, FileExistsError, PermissionError)) and error.filename:
        return InputError(f"cannot use '{error.filename}': {error.strerror}; check the path and its permissions")
    return None


def _other_process_gone(error: BaseException) -> ResumableError | None:
    """JAX raises it as one of several kinds in a process whose partner in a collective went away."""
    if not re.search("Gloo .* failed|coordination service|heartbeat", str(error)):
        return None
    return ResumableError(
        f"another process of this run went away ({str(error).splitlines()[0]}); the same command on all hosts continues"
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="aloe", description="Align language models with each user during the conversation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, function: Any, help_text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help_text, description=help_text, allow_abbrev=False)
        command.set_defaults(command=function)
        return command

    command = add("run", _run, "Run the stages of an experiment; finished ones are skipped, interrupted ones continue.")
    command.add_argument("--workdir", required=True, help="run directory, a folder of this machine")
    command.add_argument("--stages", default="", help="comma-separated stages (default: the config's, else all)")
    command.add_argument("--fresh", action="store_true", help="start stages over whose config or inputs changed")
    command.add_argument("--fork", action="store_true", help="the same, keeping the answers that servers were paid for")
    command.add_argument(
        "--shard", default="0/1", metavar="NUMBER/COUNT", help="grow this part of the conversations; see `aloe merge`"
    )
    command.add_argument(
        "--distributed",
        nargs="?",
        const="auto",
        default="",
        metavar="ADDRESS:PORT,PROCESSES,NUMBER",
        help="this process is one of several; alone on Cloud TPU slices, else with the address of process 0",
    )
    command.epilog = "--config=FILE.py[:ARG] is required; --config.section.key=value changes a value of it."

    command = add("status", _status, "How the run in a directory stands, from any shell, while it works or after.")
    command.add_argument("workdir", help="run directory")

    command = add("merge", _merge, "Put conversations that several machines grew with --shard into one run directory.")
    command.add_argument("sources", nargs="+", help="run directories, one for each shard")
    command.add_argument("--out", required=True, help="run directory to make")

    command = add("plan", _plan, "Compile a stage ahead of time for a TPU slice: does it fit, and what would it take?")
    command.add_argument("--stage", required=True, help="sft, preference or benchmark")
    command.add_argument("--topology", required=True, help="chip and shape of the slice: v5e:4x4, v5p:2x2x4, v6e:4x4")
    command.add_argument("--workdir", default="", help="run directory whose dataset tells the conversations' sizes")
    command.add_argument("--json", default="", help="file to write the report to, as JSON")
    command.add_argument("--search", action="store_true", help="try batches and remat, at most four compilations")
    command.add_argument("--price", type=float, help="US dollars a chip and hour, to tell the cost")
    command.epilog = "--config=FILE.py[:ARG] is required. Exit code 1: it does not fit."

    command = add("import", _import, "Turn a Hugging Face folder, hub id, GGUF file or embedded model into a folder.")
    command.add_argument("source", help="folder, gs:// folder, owner/name, FILE.gguf, or embedded:smollm2")
    _folder_arguments(command)

    command = add("export", _export, "Write a training checkpoint or any importable model as a Hugging Face folder.")
    command.add_argument("source", help="DIR/sft or DIR/preference of a run, or what `aloe import` takes")
    _folder_arguments(command)
    command.add_argument("--adapter", action="store_true", help="only the adapters of config.lora, for `peft`")

    command = add("convert", _convert, "Convert conversation data: reference files, chats or pairs to trees and back.")
    command.add_argument(
        "file", help="conversations.jsonl, messages or prompt/chosen/rejected data, trees.jsonl, or a run directory"
    )
    command.add_argument(
        "--out", required=True, help="trees.jsonl, personas.jsonl or .parquet file; of a run, folder for its data set"
    )

    command = add("score", _score, "Log-probability of every assistant message of conversation trees under a model.")
    command.add_argument("--model", required=True, help="Hugging Face folder, hub id, GGUF file or embedded model")
    command.add_argument("--trees", required=True, help="trees.jsonl to score")
    command.add_argument(
        "--system",
        default="keep",
        choices=("keep", "fold_into_first_user"),
        help="what to do with system messages (default: keep; some templates refuse them)",
    )
    command.add_argument("--out", required=True, help="file to write: a JSON line for each assistant node")
    command.add_argument("--dtype", default="float32", help="of the computation: float32 (default) or bfloat16")

    command = add("metrics", _metrics, "Figures of the ALOE benchmark, with intervals, from a file of scores.")
    command.add_argument("scores", help="JSON lines of case, profile, personality, turn, score")

    command = add("view", _view, "Look through the trees of a run on a local web page, and label pairs of replies.")
    command.add_argument("directory", metavar="DIR", help="run directory, or a trees.jsonl")
    command.add_argument("--host", default="127.0.0.1", help="address of this machine alone (default: 127.0.0.1)")
    command.add_argument("--port", type=int, default=0, help="port (default: a free one)")
    command.add_argument("--open", action="store_true", help="open the page in the web browser")

    command = add("serve", _serve, "Serve a model over the OpenAI chat-completions protocol.")
    _model_arguments(command)
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    command.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (default: 8000)")
    command.add_argument("--slots", type=int, default=8, help="sequences that decode together (default: 8)")

    command = add("chat", _chat, "Talk with a model in the terminal; /reset starts over, /quit ends.")
    _model_arguments(command)
    command.add_argument("--system", help="system message")
    command.add_argument("--temperature", type=float, default=0.7, help="0 is greedy (default: 0.7)")
    command.add_argument("--max-tokens", type=int, default=256, help="longest reply (default: 256)")
    command.add_argument("--seed", type=int, default=0, help="of the sampling (default: 0)")
    return parser


def _folder_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", required=True, help="folder to write")
    command.add_argument("--overwrite", action="store_true", help="replace a folder that is not empty")
    command.add_argument("--dtype", help="float32, bfloat16 or float16 (default: as stored)")
    command.add_argument("--max-shard-size", default="2GB", help="largest file of weights, as 500MB or 2GiB (2GB)")


def _model_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", required=True, help="Hugging Face folder, hub id, GGUF file or embedded model")
    command.add_argument("--context", type=int, default=2048, help="tokens of prompt and reply (default: 2048)")


def _run(options: argparse.Namespace) -> None:
    from aloe_jax.plan.flags import FLAG, VARIABLE, set_flag

    planned_flag = _tpus() and set_flag()  # before anything loads libtpu

    from etils import epath
    from rich.console import Console

    from aloe_jax.parallel import hosts
    from aloe_jax.run.config import load_config
    from aloe_jax.run.progress import Progress
    from aloe_jax.run.stage import Run, run_stages
    from data_gen.game.scheduler import parse_shard

    config, shard = load_config(options.config_arguments), parse_shard(options.shard)
    if options.distributed:
        hosts.connect(options.distributed)
    stages = pipeline()
    progress = Progress(Console(stderr=True, quiet=not hosts.is_primary()))
    selected = options.stages.split(",") if options.stages else config["stages"] or [stage.name for stage in stages]
    if planned_flag:
        progress.line(f"{VARIABLE}: added {FLAG}, with which `aloe plan` compiles; give the flag there to change it")
    run = Run(epath.Path(options.workdir), config, progress, shard)
    run_stages(stages, run, selected, options.fresh, options.fork)
    if "report" in selected:
        done = shlex.quote(options.workdir)
        progress.line(f"\nNext:\n  open {done}/report/index.html\n  aloe view {done}")
        if (run.directory("export") / "config.json").exists():
            progress.line(
                f"  aloe chat --model={done}/export\n"
                f"  aloe score --model={done}/export --trees={done}/conversations/trees.jsonl --out=scores.jsonl"
            )


def _status(options: argparse.Namespace) -> None:
    from rich.console import Console

    from data_gen.calls.status import show

    show(Path(options.workdir), Console())


def _merge(options: argparse.Namespace) -> None:
    from data_gen.publish.shards import merge

    counts = merge(options.sources, options.out)
    print(f"{counts['trees']} conversations, {counts['preferences']} preferences in {options.out}")


def _plan(options: argparse.Namespace) -> None:
    from aloe_jax.plan.plan import make_plan, write_plan
    from aloe_jax.plan.report import price_line, search_text, to_text
    from aloe_jax.plan.search import search
    from aloe_jax.run.config import load_config
    from aloe_jax.run.progress import Progress

    config, progress = load_config(options.config_arguments), Progress()
    arguments = (config, options.stage, options.topology)
    found = []
    if options.search:
        found = search(*arguments, workdir=options.workdir, progress=progress.line)
        print(search_text(found), end="\n\n")
        plan = found[0][1]
    else:
        plan = make_plan(*arguments, workdir=options.workdir, progress=progress.line)
    print(to_text(plan))
    if options.price is not None and plan.fits:
        print(price_line(plan, options.price))
    if options.json:
        write_plan(plan, options.json, found)
    if not plan.fits:
        if options.stage == "benchmark":
            remedy = "lower config.serve.slots or context, or take a larger slice"
        elif options.search:
            remedy = "nothing that the search tried does; take a larger slice, adapters or shorter rows"
        else:
            remedy = "try --search, or take a larger slice"
        raise AloeError(f"{options.stage} does not fit a chip of {options.topology}; {remedy}")


def pipeline() -> list[Any]:
    """All stages, in order."""
    from aloe_jax.train.stages import DATASET, PREFERENCE, SFT
    from data_gen.game.stage import STAGES as GENERATION
    from eval.benchmark.stage import STAGES as EVALUATION

    return [*GENERATION, DATASET, SFT, PREFERENCE, *EVALUATION]


def _import(options: argparse.Namespace) -> None:
    from aloe_jax.hub.importer import import_model
    from aloe_jax.hub.tensors import shard_bytes

    limit = shard_bytes(options.max_shard_size)
    print(import_model(options.source, Path(options.out), options.dtype, options.overwrite, limit))


def _export(options: argparse.Namespace) -> None:
    from aloe_jax.hub.tensors import shard_bytes
    from aloe_jax.train.export import export_source

    limit = shard_bytes(options.max_shard_size)
    out = Path(options.out)
    print(export_source(options.source, out, options.dtype, options.overwrite, options.adapter, limit))


def _convert(options: argparse.Namespace) -> None:
    from aloe_jax.formats.convert import convert

    if Path(options.file).is_dir():
        from data_gen.publish.publish import publish

        print("\n".join(publish(options.file, options.out)))
        return
    print("\n".join(convert(options.file, options.out).lines()))


def _score(options: argparse.Namespace) -> None:
    from aloe_jax.run.progress import Progress
    from aloe_jax.train.score import score_file

    score_file(options.model, options.trees, options.out, options.dtype, options.system, Progress())


def _metrics(options: argparse.Namespace) -> None:
    from eval.benchmark.metrics import metrics_file

    print(json.dumps(metrics_file(options.scores), indent=2))


def _view(options: argparse.Namespace) -> None:
    from functools import partial

    from eval.viewer import view

    announce = partial(print, flush=True)  # the address must be there where the output goes into a file, too
    view(options.directory, options.host, options.port, options.open, announce)


def _serve(options: argparse.Namespace) -> None:
    from aloe_jax.serve.local import load_engine
    from aloe_jax.serve.server.server import serve_forever

    engine, chat = load_engine(options.model, slots=options.slots, context=options.context)
    serve_forever(engine, chat, options.model, host=options.host, port=options.port)


def _chat(options: argparse.Namespace) -> None:
    from aloe_jax.decode.requests import Sampling
    from aloe_jax.serve.chat import chat_loop, engine_answer
    from aloe_jax.serve.local import load_engine

    engine, chat = load_engine(options.model, slots=1, context=options.context)
    sampling = Sampling(temperature=options.temperature, max_tokens=options.max_tokens)
    chat_loop(engine_answer(engine, chat, sampling, seed=options.seed), sys.stdin, sys.stdout, system=options.system)


if __name__ == "__main__":
    sys.exit(main())

"""The arguments of every `aloe` command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from aloe_jax.cli import commands
from aloe_jax.cli.arguments import arguments_text
from aloe_jax.errors import InputError

Command = Callable[[argparse.Namespace], None]


class _Parser(argparse.ArgumentParser):
    """argparse with our form of errors."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def make_parser() -> argparse.ArgumentParser:
    """The parser of `aloe`. `options.command` is the function of `commands` to call."""
    parser = _Parser(prog="aloe", description="Align language models with each user during the conversation.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, function: Command, help_text: str, takes_config: bool = False) -> argparse.ArgumentParser:
        command = subparsers.add_parser(name, help=help_text, description=help_text, allow_abbrev=False)
        command.set_defaults(command=function, takes_config=takes_config)
        return command

    command = add(
        "run",
        commands.run,
        "Run the stages of an experiment; finished ones are skipped, interrupted ones continue.",
        True,
    )
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
    _config_epilog(command)

    command = add(
        "status", commands.status, "How the run in a directory stands, from any shell, while it works or after."
    )
    command.add_argument("workdir", help="run directory")

    command = add(
        "merge", commands.merge, "Put conversations that several machines grew with --shard into one run directory."
    )
    command.add_argument("sources", nargs="+", help="run directories, one for each shard")
    command.add_argument("--out", required=True, help="run directory to make")

    command = add(
        "plan",
        commands.plan,
        "Compile a stage ahead of time for a TPU slice: does it fit, and what would it take?",
        True,
    )
    command.add_argument("--stage", required=True, help="sft, preference or benchmark")
    command.add_argument("--topology", required=True, help="chip and shape of the slice: v5e:4x4, v5p:2x2x4, v6e:4x4")
    command.add_argument("--workdir", default="", help="run directory whose dataset tells the conversations' sizes")
    command.add_argument("--json", default="", help="file to write the report to, as JSON")
    command.add_argument("--search", action="store_true", help="try batches and remat, at most four compilations")
    command.add_argument("--price", type=float, help="US dollars per chip-hour, to show the cost")
    _config_epilog(command, "Exit code 1: it does not fit.")

    command = add(
        "config", commands.config, "Every setting that a run would use, and where its value comes from.", True
    )
    command.add_argument("--section", default="", metavar="NAME", help="one section, such as sft or roles.judge")
    _config_epilog(command)

    command = add(
        "import",
        commands.import_model,
        "Turn a Hugging Face folder, hub id, GGUF file or embedded model into a folder.",
    )
    command.add_argument("source", help="folder, gs:// folder, owner/name, FILE.gguf, or embedded:smollm2")
    _folder_arguments(command)

    command = add(
        "export", commands.export, "Write a training checkpoint or any importable model as a Hugging Face folder."
    )
    command.add_argument("source", help="DIR/sft or DIR/preference of a run, or what `aloe import` takes")
    _folder_arguments(command)
    command.add_argument("--adapter", action="store_true", help="only the adapters of config.lora, for `peft`")

    command = add(
        "convert", commands.convert, "Convert conversation data: reference files, chats or pairs to trees and back."
    )
    command.add_argument(
        "file", help="conversations.jsonl, messages or prompt/chosen/rejected data, trees.jsonl, or a run directory"
    )
    command.add_argument(
        "--out", required=True, help="trees.jsonl, personas.jsonl or .parquet file; of a run, folder for its data set"
    )

    command = add(
        "score", commands.score, "Log-probability of every assistant message of conversation trees under a model."
    )
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

    command = add("metrics", commands.metrics, "Figures of the ALOE benchmark, with intervals, from a file of scores.")
    command.add_argument("scores", help="JSON lines of case, profile, personality, turn, score")

    command = add(
        "view", commands.view, "Look through the trees of a run on a local web page, and label pairs of replies."
    )
    command.add_argument("directory", metavar="DIR", help="run directory, or a trees.jsonl")
    command.add_argument("--host", default="127.0.0.1", help="address of this machine alone (default: 127.0.0.1)")
    command.add_argument("--port", type=int, default=0, help="port (default: a free one)")
    command.add_argument("--open", action="store_true", help="open the page in the web browser")

    command = add("serve", commands.serve, "Serve a model over the OpenAI chat-completions protocol.")
    _model_arguments(command)
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    command.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (default: 8000)")
    command.add_argument("--slots", type=int, default=8, help="sequences that decode together (default: 8)")

    command = add("chat", commands.chat, "Talk with a model in the terminal; /reset starts over, /quit ends.")
    _model_arguments(command)
    command.add_argument("--system", help="system message")
    command.add_argument("--temperature", type=float, default=0.7, help="0 is greedy (default: 0.7)")
    command.add_argument("--max-tokens", type=int, default=256, help="longest reply (default: 256)")
    command.add_argument("--seed", type=int, default=0, help="of the sampling (default: 0)")
    return parser


def _config_epilog(command: argparse.ArgumentParser, more: str = "") -> None:
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = (
        "--config=FILE.py[:ARG] is required: a file, or the name of a shipped one (demo, demo_llm, llama3_8b, ...);\n"
        "--config.section.key=value changes a value of it. "
        f"{more}\n\narguments of the shipped model configs (the demos have :debug alone):\n{arguments_text()}"
    )


def _folder_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", required=True, help="folder to write")
    command.add_argument("--overwrite", action="store_true", help="replace a folder that is not empty")
    command.add_argument("--dtype", help="float32, bfloat16 or float16 (default: as stored)")
    command.add_argument("--max-shard-size", default="2GB", help="largest file of weights, as 500MB or 2GiB (2GB)")


def _model_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", required=True, help="Hugging Face folder, hub id, GGUF file or embedded model")
    command.add_argument("--context", type=int, default=2048, help="tokens of prompt and reply (default: 2048)")

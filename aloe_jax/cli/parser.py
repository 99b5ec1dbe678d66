"""The arguments of every `aloe` command."""

from __future__ import annotations

import argparse

from aloe_jax.cli import commands, running
from aloe_jax.cli.arguments import arguments_text
from aloe_jax.cli.launching import add_launching
from aloe_jax.cli.parsing import INDENT, Command, HelpFormatter, Parser, PrintAndExit, path_of
from aloe_jax.cli.preflight import add_preflight
from aloe_jax.cli.serving_arguments import add_serving


def make_parser() -> argparse.ArgumentParser:
    """The parser of `aloe`; `options.command` is the function in `commands` to call."""
    parser = Parser(prog="aloe", description="Align language models with each user during the conversation.")
    parser.add_argument("--version", action=PrintAndExit, text=_version, help="print the version and exit")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, function: Command, help_text: str, takes_config: bool = False) -> argparse.ArgumentParser:
        command = subparsers.add_parser(name, help=help_text, description=help_text, allow_abbrev=False)
        command.set_defaults(command=function, takes_config=takes_config)
        return command

    command = add(
        "run",
        running.run,
        "Run the stages of an experiment; finished ones are skipped, interrupted ones continue.",
        takes_config=True,
    )
    command.add_argument(
        "--workdir",
        type=path_of,
        required=True,
        help="run directory, a local folder or gs://BUCKET/DIR; without --config the run in it goes on with its own "
        "settings",
    )
    command.add_argument("--stages", default="", help="comma-separated stages (default: config.stages, else all)")
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="check the settings and print what each stage would do and why; write nothing",
    )
    command.add_argument(
        "--list",
        action=PrintAndExit,
        text=_shipped,
        help="list the shipped configs with their arguments, and exit",
    )
    command.add_argument("--fresh", action="store_true", help="start over the stages whose config or inputs changed")
    command.add_argument("--fork", action="store_true", help="the same, but keep the paid answers of servers")
    command.add_argument(
        "--shard",
        default="0/1",
        metavar="NUMBER/COUNT",
        help="grow only this part of the conversations; see `aloe merge`",
    )
    command.add_argument(
        "--distributed",
        nargs="?",
        const="auto",
        default="",
        metavar="ADDRESS:PORT,PROCESSES,NUMBER",
        help="run as one of several processes; needs no value on Cloud TPU slices, else the address of process 0",
    )
    _config_epilog(command, needed="required for a new run")

    command = add(
        "status", commands.status, "Show the status of runs, from any shell, while they are running or afterwards."
    )
    command.add_argument(
        "workdirs", nargs="+", type=path_of, metavar="DIR", help="run directories, or folders with run directories"
    )

    command = add(
        "merge",
        commands.merge,
        "Merge the conversations that several machines grew with --shard into one run directory.",
    )
    command.add_argument("sources", nargs="+", type=path_of, help="run directories, one per shard")
    command.add_argument("--out", type=path_of, required=True, help="run directory to create")

    command = add(
        "plan",
        commands.plan,
        "Compile a stage ahead of time for a TPU slice: does it fit, and how long would it take?",
        takes_config=True,
    )
    command.add_argument("--stage", required=True, help="sft, preference, online or benchmark")
    command.add_argument("--topology", required=True, help="chip and shape of the slice: v5e:4x4, v5p:2x2x4, v6e:4x4")
    command.add_argument(
        "--workdir",
        type=path_of,
        help="run directory with the dataset to plan for (default: conversations of a typical size)",
    )
    command.add_argument("--json", type=path_of, help="JSON file to write the report to")
    command.add_argument(
        "--search", action="store_true", help="try batches and remat settings, in at most four compilations"
    )
    command.add_argument(
        "--tuning", action="store_true", help="also compile with fewer groups of config.tuning: what does each change?"
    )
    command.add_argument("--price", type=float, help="US dollars per chip-hour, to show the cost")
    _config_epilog(command, "The exit code is 1 if the stage does not fit.")

    _config_epilog(add_launching(add))
    add_preflight(add)

    command = add(
        "config",
        commands.config,
        "Print every setting that a run would use, with the origin of its value.",
        takes_config=True,
    )
    command.add_argument("--section", default="", metavar="NAME", help="print one section, such as sft or roles.judge")
    _config_epilog(command)

    command = add(
        "import",
        commands.import_model,
        "Write a Hugging Face folder, hub id, GGUF file or embedded model as a Hugging Face folder.",
    )
    command.add_argument("source", help="folder, gs:// folder, owner/name, FILE.gguf, or embedded:smollm2")
    _folder_arguments(command)
    command.add_argument(
        "--template",
        default="",
        metavar="FILE|FAMILY",
        help="chat template in place of the model's own, for base models, which have none: a jinja file, or chatml, "
        "llama3, gemma or plain",
    )

    command = add(
        "export", commands.export, "Write a training checkpoint or any importable model as a Hugging Face folder."
    )
    command.add_argument("source", help="DIR/sft or DIR/preference of a run, or any source of `aloe import`")
    _folder_arguments(command)
    command.add_argument("--adapter", action="store_true", help="export only the adapters of config.lora, for `peft`")
    command.add_argument("--step", type=int, metavar="N", help="the checkpoint of step N (default: the newest)")
    command.add_argument(
        "--unfinished", action="store_true", help="export a training that has not finished, as its card then says"
    )

    command = add("push", commands.push, "Upload a model or dataset folder with its card to the Hugging Face hub.")
    command.add_argument(
        "folder", type=path_of, metavar="DIR", help="folder of `aloe export`, `import` or `convert RUN`"
    )
    command.add_argument("--repo", metavar="OWNER/NAME", help="repository, created where it does not exist")
    command.add_argument("--public", action="store_true", help="create it public (default: private)")
    command.add_argument("--message", metavar="TEXT", help="message of the commit")
    command.add_argument("--dry-run", action="store_true", help="list the files and their sizes, and upload nothing")

    command = add(
        "convert",
        commands.convert,
        "Convert conversation data: files of the paper's code, chats or pairs to trees and back.",
    )
    command.add_argument(
        "file",
        type=path_of,
        help="conversations.jsonl, chats, preference pairs or trees as JSON, CSV, parquet or Arrow; or a run directory",
    )
    command.add_argument(
        "--out",
        type=path_of,
        help="trees.jsonl, personas.jsonl or .parquet file; for a run, the folder of its data set; with --preview it "
        "may be missing",
    )
    command.add_argument(
        "--preview",
        type=int,
        default=0,
        metavar="N",
        help="print the first N conversations as trees before writing",
    )
    command.add_argument(
        "--refused",
        choices=("error", "drop"),
        default="error",
        help="what a record that cannot be read whole does: end the command, or be left out and counted",
    )
    command.add_argument(
        "--train",
        choices=("assistant", "user"),
        default="assistant",
        help="whose turns the conversations are to train; user: roles are swapped, for a model that plays the user",
    )
    command.add_argument("--model", default="", help="also count the tokens of the trees for this model")

    command = add(
        "inspect",
        commands.inspect,
        "Show what a model makes of conversations (tokens, targets, forks, cuts), or of messages in general.",
    )
    command.add_argument(
        "source", type=path_of, metavar="MODEL|TREES", help="model source; with --model, the conversations"
    )
    command.add_argument("--model", help="Hugging Face folder, hub id, GGUF file or embedded model, for MODEL|TREES")
    command.add_argument(
        "--trees",
        type=path_of,
        help="conversations: a run directory or any file that `aloe convert` reads (default: a sample)",
    )
    command.add_argument("--conversation", metavar="ID", help="show this conversation")
    command.add_argument("--limit", type=int, help="show the first LIMIT conversations (default: 3)")
    command.add_argument("--turns", type=int, help="show the first TURNS turns (default: all)")
    command.add_argument(
        "--statistics",
        action="store_true",
        help="count all conversations of the file (done without being asked where it has at most 500)",
    )
    command.add_argument(
        "--max-path",
        type=int,
        metavar="TOKENS",
        help="cut longer paths as config.dataset.max_path does (default: the model's context)",
    )
    _system_argument(command)
    command.add_argument("--html", type=path_of, metavar="FILE", help="write a page instead of printing text")
    command.add_argument("--json", type=path_of, metavar="FILE", help="write the findings instead of printing text")
    command.formatter_class = HelpFormatter
    command.epilog = (
        "examples:\n"
        "  aloe inspect MODEL                 the traits of its chat template and its vocabulary\n"
        "  aloe inspect MODEL --trees=FILE    what training makes of the conversations of FILE\n"
        "  aloe inspect FILE --model=MODEL    the same\n\n"
        "No weights are read. Text is coloured in a terminal; NO_COLOR marks token borders with dots instead."
    )

    command = add(
        "score",
        commands.score,
        "Compute the log-probability of every assistant message of conversation trees under a model.",
    )
    command.add_argument("--model", required=True, help="Hugging Face folder, hub id, GGUF file or embedded model")
    command.add_argument("--trees", type=path_of, required=True, help="trees.jsonl to score")
    _system_argument(command)
    command.add_argument("--out", type=path_of, required=True, help="file to write, one JSON line per assistant node")
    command.add_argument("--dtype", default="float32", help="type of the computation: float32 (default) or bfloat16")

    command = add(
        "metrics", commands.metrics, "Print the metrics of the ALOE benchmark, with intervals, of scores or of runs."
    )
    command.add_argument(
        "scores",
        nargs="+",
        type=path_of,
        metavar="SCORES|DIR",
        help="JSON lines with case, profile, personality, turn and score (one such file is answered in JSON); run "
        "directories, or folders in their `benchmark`",
    )
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.add_argument(
        "--scale",
        choices=("shown", "persona"),
        help="only this scale: what the user has shown counts, or the whole persona (default: all that the file has)",
    )
    either = command.add_mutually_exclusive_group()
    either.add_argument(
        "--labels",
        type=path_of,
        metavar="FILE",
        help="JSON lines with case, turn and score, labels of a random sample of these replies: also print the judge's "
        "agreement with them and the scores corrected by them",
    )
    either.add_argument(
        "--label-sheet",
        type=int,
        metavar="N",
        help="instead print N replies drawn at random, with their dialogues, as lines to fill in for --labels",
    )

    command = add("report", commands.report, "Write the report of a run, finished or not, as one HTML page.")
    command.add_argument("workdir", type=path_of, metavar="DIR", help="run directory")
    command.add_argument("--out", type=path_of, metavar="FILE", help="page to write (default: DIR/report/index.html)")
    command.add_argument(
        "--watch", action="store_true", help="write it again when files of the run change, until Ctrl-C (exit 0)"
    )

    command = add(
        "compare",
        commands.compare,
        "Compare runs: results over the same cases, paired differences, training curves, differing settings.",
    )
    command.add_argument(
        "directories", nargs="+", type=path_of, metavar="DIR", help="run directories, or folders in their `benchmark`"
    )
    command.add_argument("--out", type=path_of, metavar="DIR", help="folder for a page, figures, CSV and JSON files")
    command.add_argument("--json", action="store_true", help="print the comparison as JSON instead of tables")
    command.add_argument(
        "--baseline", default="", metavar="RESULT", help="what the others are compared with (default: the first base)"
    )

    command = add("view", commands.view, "View the trees of a run on a local web page, and label pairs of replies.")
    command.add_argument("directory", type=path_of, metavar="DIR", help="run directory or trees.jsonl")
    command.add_argument("--host", default="127.0.0.1", help="local address to listen on (default: 127.0.0.1)")
    command.add_argument("--port", type=int, default=0, help="port (default: a free one)")
    command.add_argument("--open", action="store_true", help="open the page in the web browser")

    add_serving(add)

    command = add(
        "completion",
        commands.completion,
        "Print a script that completes commands, options, settings and names of shipped configs in the shell.",
    )
    command.add_argument("shell", choices=("bash", "zsh"), help='for ~/.bashrc: eval "$(aloe completion bash)"')
    return parser


def _version() -> str:
    from aloe_jax.run.manifest import versions

    found = versions()
    return ", ".join(f"{name} {found[name]}" for name in ("aloe_jax", "python", "jax", "jaxlib"))


def _shipped() -> str:
    from aloe_jax.cli.shipped import shipped_text

    return shipped_text()


def _config_epilog(command: argparse.ArgumentParser, more: str = "", needed: str = "required") -> None:
    """Explain --config, which argparse does not parse, below the options."""
    command.formatter_class = HelpFormatter
    command.epilog = (
        "config:\n"
        f"  --config=FILE[:ARG]   {needed}: a path, or the name of a shipped file (demo, llama3_8b, ...)\n"
        "  --config.KEY=VALUE    set one value, as in --config.sft.batch=16; `aloe config` prints all keys\n\n"
        f"arguments of the shipped model configs (the demos have only :debug):\n{arguments_text(INDENT)}\n\n{more}"
    )


def _folder_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=path_of, required=True, help="folder to write")
    command.add_argument("--overwrite", action="store_true", help="replace a folder that is not empty")
    command.add_argument("--dtype", help="float32, bfloat16 or float16 (default: as stored)")
    command.add_argument(
        "--max-shard-size", default="2GB", help="maximum size of a weights file, such as 500MB or 2GiB (default: 2GB)"
    )


def _system_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--system",
        default="keep",
        choices=("keep", "fold_into_first_user"),
        help="handling of system messages, which some templates refuse (default: keep)",
    )

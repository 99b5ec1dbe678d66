"""The arguments of config files, `--config=FILE.py:ARG`, which `aloe run --help` lists: what each runs and changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ml_collections import ConfigDict

# All stages, in order.
STAGES = ("personas", "conversations", "dataset", "sft", "preference", "benchmark", "export", "report")
TO_SFT = STAGES[:4]
TO_PREFERENCE = STAGES[:5]

# Batches that fill one row of 8,192 tokens on each of 16 chips with ten-turn conversations (`aloe plan` tells the fill
# of yours). AdamW's learning rate is scaled by the square root of the batch (arXiv 2205.10287), so 4.35 times the
# paper's in preference training; it has been tuned for neither.
THROUGHPUT_CONVERSATIONS, THROUGHPUT_PAIRS = 91, 910
# The paper mixes a general set of chats and code into SFT. Which one is the user's choice, a file of `messages`; the
# share, as many chats as trees per epoch, is ours.
CHATS, CHATS_WEIGHT = "chats.jsonl", 1.0


def fill_slice(config: ConfigDict) -> None:
    """Batches for throughput on 16 chips instead of the paper's 48, with the learning rate that goes with them."""
    for section, batch in ((config.sft, THROUGHPUT_CONVERSATIONS), (config.preference, THROUGHPUT_PAIRS)):
        section.learning_rate *= (batch / section.batch) ** 0.5
        section.batch = batch


def mix_chats(config: ConfigDict) -> None:
    """Ordinary chats beside the trees, as in the paper's SFT; preference training has no part in them."""
    config.dataset.sources.chat.path = CHATS
    config.dataset.sources.chat.weight = CHATS_WEIGHT


def shrink(config: ConfigDict) -> None:
    """The smallest numbers with which every stage still works, to see in a minute on a CPU that an experiment runs."""
    config.compute.dtype = "float32"
    config.serve.slots, config.serve.context = 6, 1024
    config.personas.profiles, config.personas.personalities, config.personas.pairings = 4, 4, 1
    config.personas.benchmark_profiles, config.personas.benchmark_personalities = 3, 2
    config.conversations.trees, config.conversations.turns = 2, 2
    config.conversations.concurrency = 2
    config.roles.responder.max_tokens = 8
    config.tree.guards, config.tree.attempts, config.tree.min_turns = (), 1, 1
    config.conversations.min_margin = 0.0
    config.dataset.row.tokens, config.dataset.row.targets = 1024, 256
    config.dataset.row.replies, config.dataset.row.pairs = 32, 32
    config.dataset.max_path = 1024
    config.sft.batch, config.preference.batch = 1, 2
    config.sft.checkpoint_every, config.preference.checkpoint_every = 2, 2
    config.benchmark.turns, config.benchmark.max_tokens, config.benchmark.resamples = 2, 8, 50
    config.benchmark.concurrency = 6
    config.export.dtype = "float32"


def leave(config: ConfigDict) -> None:
    """The paper's settings as they are."""


@dataclass(frozen=True)
class Argument:
    """What an argument means (`help`), the stages it runs (empty: all) and what it changes."""

    help: str
    stages: tuple[str, ...] = ()
    change: Callable[[ConfigDict], None] = leave


ARGUMENTS = {
    "": Argument("all stages with the paper's batches"),
    "sft": Argument("up to supervised fine-tuning, with batches that fill 16 chips", TO_SFT, fill_slice),
    "preference": Argument("up to preference training, with batches that fill 16 chips", TO_PREFERENCE, fill_slice),
    "sft-paper": Argument("up to supervised fine-tuning, with the paper's batches", TO_SFT),
    "preference-paper": Argument("up to preference training, with the paper's batches", TO_PREFERENCE),
    "sft-mixed": Argument(
        f"as sft-paper, with ordinary chats from config.dataset.sources.chat.path ({CHATS})", TO_SFT, mix_chats
    ),
    "preference-mixed": Argument("as preference-paper, with the same chats in SFT", TO_PREFERENCE, mix_chats),
    "debug": Argument("all stages with the smallest numbers and a tiny random model, on a CPU", change=shrink),
}
DEBUG = "debug"


def parse_argument(arg: str) -> Argument:
    """The argument of that name. ValueError for another one."""
    if arg not in ARGUMENTS:
        raise ValueError(f"the argument is {arg!r}; expected one of {', '.join(name for name in ARGUMENTS if name)}")
    return ARGUMENTS[arg]


def is_debug(arg: str, file: str) -> bool:
    """Whether the argument of a config file that has only "debug" asks for it. ValueError for another argument."""
    if arg not in ("", DEBUG):
        raise ValueError(f"{file} takes no argument or '{DEBUG}', not {arg!r}")
    return arg == DEBUG


def arguments_text() -> str:
    """Every argument with its meaning, a line each, for help texts."""
    return "\n".join(
        f"  :{name:<17} {argument.help}" if name else f"  {'(none)':<18} {argument.help}"
        for name, argument in ARGUMENTS.items()
    )

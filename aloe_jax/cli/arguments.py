"""The arguments of shipped config files, `--config=FILE.py:ARG`: the stages that each runs and what it changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `aloe --help` lists the arguments without loading it
    from ml_collections import ConfigDict

# All stages, in order.
STAGES = ("personas", "conversations", "dataset", "sft", "preference", "online", "benchmark", "export", "report")
USUAL = tuple(stage for stage in STAGES if stage != "online")  # those of a config that names none
TRAINING = frozenset(("dataset", "sft", "preference", "online"))  # stages that load the training libraries
TO_SFT = STAGES[:4]
TO_PREFERENCE = STAGES[:5]

# Batches that fill one row of 8,192 tokens on each of 16 chips with ten-turn conversations (`aloe plan` reports the
# fill for other data). AdamW's learning rate scales with the square root of the batch (arXiv 2205.10287), to 4.35 times
# the paper's in preference training. Neither rate has been tuned.
THROUGHPUT_CONVERSATIONS, THROUGHPUT_PAIRS = 91, 910
# The paper mixes a general set of chats and code into SFT. The set is the user's choice, a file of `messages`; the
# share, as many chats as trees per epoch, is ours.
CHATS, CHATS_WEIGHT = "chats.jsonl", 1.0


def fill_slice(config: ConfigDict) -> None:
    """Set batches for throughput on 16 chips instead of the paper's 48, and scale the learning rates."""
    for section, batch in ((config.sft, THROUGHPUT_CONVERSATIONS), (config.preference, THROUGHPUT_PAIRS)):
        section.learning_rate *= (batch / section.batch) ** 0.5
        section.batch = batch


def mix_chats(config: ConfigDict) -> None:
    """Mix ordinary chats with the trees, as in the paper's SFT; preference training ignores them."""
    config.dataset.sources.chat.path = CHATS
    config.dataset.sources.chat.weight = CHATS_WEIGHT


def shrink(config: ConfigDict) -> None:
    """Set the smallest sizes with which every stage works, to try an experiment on a CPU in a minute."""
    config.compute.dtype = "float32"
    config.serve.slots, config.serve.context = 6, 1024
    config.personas.profiles, config.personas.personalities, config.personas.pairings = 4, 4, 1
    config.personas.benchmark_profiles, config.personas.benchmark_personalities = 3, 2
    config.conversations.trees, config.conversations.turns = 2, 2
    config.conversations.concurrency = 2
    config.roles.responder.max_tokens = 8
    config.roles.teacher.player = "scripted"  # replies of a random model are equally bad: no pair to train on
    config.tree.guards, config.tree.attempts, config.tree.min_turns = (), 1, 1
    config.conversations.min_margin = 0.0
    config.dataset.row.tokens, config.dataset.row.targets = 1024, 256
    config.dataset.row.replies, config.dataset.row.pairs = 32, 32
    config.dataset.max_path = 1024
    config.sft.batch, config.preference.batch = 1, 2
    config.sft.checkpoint_every, config.preference.checkpoint_every = 2, 2
    config.online.rounds, config.online.trees, config.online.max_tokens = 2, 2, 8
    config.online.rollout.batch, config.online.rollout.turns, config.online.rollout.siblings = 2, 2, 2
    config.online.alarm.flat = config.online.alarm.repetition = config.online.alarm.truncated = 0.0
    config.benchmark.turns, config.benchmark.max_tokens, config.benchmark.resamples = 2, 8, 50
    config.benchmark.concurrency = 6
    config.export.dtype = "float32"


def leave(config: ConfigDict) -> None:
    """Keep the paper's settings."""


@dataclass(frozen=True)
class Argument:
    """The meaning of an argument, the stages that it runs (empty: all) and its change of the config."""

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
    "debug": Argument("all stages at the smallest sizes with a tiny random model, on a CPU", change=shrink),
}
DEBUG = "debug"


def parse_argument(arg: str) -> Argument:
    """The argument of that name. ValueError for an unknown one."""
    if arg not in ARGUMENTS:
        raise ValueError(f"the argument is {arg!r}; expected one of {', '.join(name for name in ARGUMENTS if name)}")
    return ARGUMENTS[arg]


def is_debug(arg: str, file: str) -> bool:
    """Whether the argument of a config file is "debug", the only one it has. ValueError for another argument."""
    return one_of(arg, file, (DEBUG,)) == DEBUG


def one_of(arg: str, file: str, names: Sequence[str]) -> str:
    """The argument of a config file that takes one of `names`, or none. ValueError for another argument."""
    if arg and arg not in names:
        raise ValueError(f"{file} takes no argument or {' or '.join(map(repr, names))}, not {arg!r}")
    return arg


def arguments_text(indent: int) -> str:
    """Every argument with its meaning from the column `indent` on, one per line, for help texts."""
    names = {name: f":{name}" if name else "(none)" for name in ARGUMENTS}
    return "\n".join(f"  {names[name]:<{indent - 2}}{argument.help}" for name, argument in ARGUMENTS.items())

"""What rounds take on the disk, of the devices' memory and of a path, said before they start."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from aloe_jax.bucket.places import stored_at
from aloe_jax.data.settings import DatasetSettings
from aloe_jax.errors import InputError
from aloe_jax.models import decoder
from aloe_jax.parallel.chips import GIB
from aloe_jax.run.model import chat_format, mesh_of, model_config
from aloe_jax.run.stage import Run
from aloe_jax.serve.settings import ServeSettings
from aloe_jax.train.adapters import trained_config
from aloe_jax.train.names import ONLINE
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.state import abstract_state
from aloe_jax.tree.probe import probe_question
from aloe_jax.tree.schema import Message, SampledMessage, message_of
from aloe_jax.tree.trie import dialogue_ids
from data_gen.online.methods import METHODS
from data_gen.online.players import others
from data_gen.online.round_settings import OnlineSettings
from data_gen.players.assemble import model_roles

# Bytes in trees.jsonl: of a sampled token its id, log-probability and text; of a reply its scores, and the message that
# it answers. Rounds of the twin with 412 and 1,069 replies of 53 tokens had 1.24 and 3.23 MB, by these 1.28 and 3.35.
TOKEN, REPLY = 36, 1200
CALL = 3000  # of a stored answer of a server, with its prompt


@dataclass(frozen=True)
class DiskNeeds:
    """Bytes that rounds write to the run directory on this machine, about, when they have ended."""

    checkpoints: int
    trees: int
    answers: int  # of servers

    @property
    def total(self) -> int:
        return self.checkpoints + self.trees + self.answers

    def __str__(self) -> str:
        parts = {"checkpoints": self.checkpoints, "trees": self.trees, "answers of servers": self.answers}
        told = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items() if size)
        return f"about {self.total / GIB:.2f} GiB on the disk ({told})"


def disk_needs(run: Run) -> DiskNeeds:
    """What the rounds of `config.online` write, with replies of the greatest length. A budget ends them after as many
    rounds as such replies take."""
    settings = run.section(ONLINE, OnlineSettings)
    replies = settings.trees * METHODS[settings.method].shaped(settings.rollout).replies
    rounds = settings.rounds
    if settings.budget:
        rounds = min(rounds, math.ceil(settings.budget / (replies * settings.max_tokens)))
    kept = 1 + min(settings.kept or rounds, rounds)  # the round under way has its batches twice for a moment
    state = abstract_state(trained_config(run), make_optimizer(settings, 1), mesh_of(run))
    checkpoints = 1 + settings.keep + (rounds // settings.keep_every if settings.keep_every else 0)  # one being written
    here = "://" not in str(stored_at(run.directory(ONLINE) / "checkpoints"))
    return DiskNeeds(
        checkpoints * _bytes((state.params, state.opt_state)) if here else 0,
        kept * replies * (settings.max_tokens * TOKEN + REPLY),
        rounds * replies * len(model_roles(run, others(settings))) * CALL,
    )


def free_beside(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, or in it already."""
    above = next(each for each in (folder, *folder.parents) if each.exists())
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
    return shutil.disk_usage(above).free + used


def check_disk(run: Run) -> str:
    """What rounds take on the disk, in words; InputError if it does not have that."""
    needs, folder = disk_needs(run), Path(run.directory(ONLINE)).absolute()
    free = free_beside(folder)
    if needs.total > free:
        raise InputError(
            f"config.online: rounds take {needs}, and '{folder}' has {free / GIB:.2f} GiB; lower "
            "config.online.keep_trees, keep or rounds, or choose a --workdir on a larger disk"
        )
    return f"{needs}, which has {free / GIB:.2f} GiB"


def check_paths(run: Run) -> None:
    """Raise InputError if not even the shortest dialogue leaves room for a reply of the greatest length in the last
    turn, or for such an answer to a probe: users say a token per turn, and replies are empty. What longer dialogues
    leave, only their round shows."""
    settings, chat = run.section(ONLINE, OnlineSettings), chat_format(run)
    shape, end = METHODS[settings.method].shaped(settings.rollout), (min(chat.tokenizer.end_of_turn_ids),)
    said = Message(role="user", content="-")
    reply = SampledMessage(role="assistant", content="", token_ids=end, tokenizer=chat.tokenizer.hash)
    dialogue = [said, reply] * shape.turns
    prompt = len(dialogue_ids(dialogue[:-1], chat))
    _check_room(run, prompt, f"a reply in turn {shape.turns}", "max_tokens", settings.max_tokens)
    if shape.probes:  # after the last of the chosen turns, which has all others before it
        prompt = len(dialogue_ids([*dialogue[: 2 * shape.chosen], message_of(probe_question("-"))], chat))
        what = f"an answer to a probe in turn {shape.chosen}"
        _check_room(run, prompt, what, "rollout.probe_tokens", shape.probe_tokens)


def _check_room(run: Run, prompt: int, what: str, name: str, tokens: int) -> None:
    least, context = prompt + tokens, run.section("serve", ServeSettings).context
    limits = {"dataset.max_path": run.section("dataset", DatasetSettings).max_path, "serve.context": context}
    for limit, value in limits.items():
        if value < least:
            raise InputError(
                f"config.{limit}: {value}, but {what} may take config.online.{name}={tokens} tokens after at least "
                f"{prompt} of its dialogue; set it to at least {least}, or lower config.online.rollout.turns or {name}"
            )


def memory_in_words(run: Run, engine: str) -> str:
    """What lies on all devices in both halves of a round, without what programs need on top; `engine` says what the
    engine takes, which is there while trees are rolled out."""
    base = _bytes(decoder.abstract_params(model_config(run)))
    state = abstract_state(trained_config(run), make_optimizer(run.section(ONLINE, OnlineSettings), 1), mesh_of(run))
    return (
        f"in memory, over all devices, {_bytes(state) / GIB:.2f} GiB of trained state and {base / GIB:.2f} GiB of the "
        f"reference model; rolling out also {engine}; updating {_bytes(state.params) / GIB:.2f} GiB of gradients"
    )


def _bytes(tree: Any) -> int:
    """Of all arrays of an abstract tree, over all devices."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

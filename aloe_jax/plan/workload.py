"""The input of a step: the conversations of a run's dataset, or synthetic ten-turn ones of a stated size.

Synthetic conversations are real trees, laid out and packed by tree/trie.py, tree/row.py and tree/pack.py; only their
texts are missing, on which no figure here depends.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from etils import epath

from aloe_jax.data.builder import FragmentSource
from aloe_jax.data.mixture import drawn
from aloe_jax.data.plan import COUNTED, REPLIES, Unit, pack_plan
from aloe_jax.errors import InputError
from aloe_jax.models.config import ModelConfig
from aloe_jax.ops.block_table import running_blocks
from aloe_jax.plan.settings import PlannedSettings
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.pack import best_fit_in_order, pack, stack
from aloe_jax.tree.prune import Chooses, compared, pruned
from aloe_jax.tree.row import Capacity, TreeRow
from aloe_jax.tree.schema import Conversation, Node, Preference
from aloe_jax.tree.trie import Piece, ReplySpan, Trie

TREE_TOKENS = 1400  # of a ten-turn conversation with two replies per turn, as benchmarks/ten_turns.py has
USER_TOKENS, REPLY_TOKENS = 50, 45  # means whose sum over ten turns that is
SPREAD = 0.5  # a conversation is up to this share longer or shorter than the mean, and so is a message in it
CONVERSATIONS = 512  # synthetic ones; enough for the fill of rows to be steady
STEADY = 16  # minimum number of steps over which the fill of a batch is averaged
MEASURED_ROWS = 16  # rows over which the share of query-key pairs is averaged


@dataclass(frozen=True)
class Workload:
    """Conversations as fragments, and their size in the layout with one sequence per reply."""

    description: str
    assumed: bool  # rather than measured, so that it may be repeated
    epoch: int  # conversations that an epoch has; those that are here are repeated for it
    sizes: np.ndarray  # int [N, 4]: tokens, targets, replies, pairs of each fragment
    conversation: np.ndarray  # int [N]
    rows: TreeRow  # some packed rows [B, ...], for the pairs that attention computes
    pairs: float  # unmasked query-key pairs of a conversation
    unshared_tokens: float  # tokens of a conversation as one sequence per reply
    unshared_pairs: float

    @property
    def conversations(self) -> int:
        return len(np.unique(self.conversation))

    def mean(self, column: int) -> float:
        """Tokens (0), targets (1), replies (2) or pairs (3) of a conversation."""
        return float(self.sizes[:, column].sum()) / self.conversations


@dataclass(frozen=True)
class Batch:
    """A step's batch in the packer's rows; means over the steps of an epoch."""

    batch: int  # in the config's unit
    unit: Unit
    rows: int  # of the largest step
    real_tokens: float
    conversations: float


def measured(
    directory: epath.PathLike, capacity: Capacity, chooses: Chooses, weights: Mapping[str, float] | None = None
) -> Workload:
    """The workload of the first epoch of a run's dataset, its sources mixed by `weights` (1 by default): what an
    objective `chooses` of the conversations that have any such reply. InputError if `directory` holds no dataset, or
    nothing for that objective."""
    source = FragmentSource(directory, chooses)
    owners: list[list[int]] = [[] for _ in source.sources]
    for owner, origin in dict(zip(source.conversation.tolist(), source.origin.tolist(), strict=True)).items():
        if source.sizes[source.conversation == owner, REPLIES].any():
            owners[origin].append(owner)
    epoch = drawn(owners, [(weights or {}).get(name, 1.0) for name in source.sources], seed=0, epoch=0)
    if not epoch:
        raise InputError(f"no conversation of the dataset in {directory} has anything to train on")
    kept = np.flatnonzero(np.isin(source.conversation, epoch) & (source.sizes[:, REPLIES] > 0))
    parts = [source[number] for number in kept[:CONVERSATIONS].tolist()]
    text = f"measured: the dataset in {directory}"
    return _workload(text, False, len(epoch), parts, source.sizes[kept], source.conversation[kept], capacity)


def synthetic(
    turns: int,
    replies: int,
    capacity: Capacity,
    chooses: Chooses = compared,
    seed: int = 0,
    epoch: int = CONVERSATIONS,
) -> Workload:
    """The workload of conversations of `turns` user turns with `replies` candidates each, one of which is continued:
    what an objective `chooses` of them. The first candidate is preferred to the others; all have an advantage and a
    log-probability given a hint."""
    rng = random.Random(seed)
    parts = []
    for number in range(CONVERSATIONS):
        tree, trie = _conversation(number, turns, replies, rng)
        for part in fragments(tree, trie, capacity, number):
            names = ("advantage", "hinted_log_prob")
            known = part.replace(**{name: np.zeros_like(getattr(part, name)) for name in names})
            parts.append(pruned(known, chooses(known)))
    sizes = np.array([part.sizes for part in parts], np.int64)
    owner = np.array([part.conversation[0] for part in parts], np.int64)
    tokens = sizes[:, 0].sum() / CONVERSATIONS
    text = (
        f"assumed: conversations of {turns} turns with {replies} replies, {tokens:,.0f} tree tokens on average "
        f"(+-{SPREAD:.0%}, and so every message)"
    )
    return _workload(text, True, epoch, parts, sizes, owner, capacity)


def _conversation(number: int, turns: int, replies: int, rng: random.Random) -> tuple[Conversation, Trie]:
    """A tree and its trie, depth-first, with pieces that have lengths but no text."""
    scale = rng.uniform(1 - SPREAD, 1 + SPREAD)
    length = lambda mean: max(1, round(mean * scale * rng.uniform(1 - SPREAD, 1 + SPREAD)))  # noqa: E731
    nodes: list[Node] = []
    pieces: list[Piece] = []
    spans: list[ReplySpan] = []
    preferences = []
    parent, piece, depth, path_tokens = None, -1, 0, 0
    for turn in range(1, turns + 1):
        user = Node(id=f"user{turn}", parent=parent, role="user", text="")
        nodes.append(user)
        pieces.append(Piece(piece, (0,) * length(USER_TOKENS)))
        piece, depth = len(pieces) - 1, depth + len(pieces[-1].tokens)
        names = [f"reply{turn}.{index}" for index in range(replies)]
        continued = rng.randrange(replies)
        following, longer = piece, depth
        for index, name in enumerate(names):
            nodes.append(Node(id=name, parent=user.id, role="assistant", text=""))
            pieces.append(Piece(piece, (0,) * length(REPLY_TOKENS)))
            spans.append(ReplySpan(len(nodes) - 1, len(pieces) - 1, turn, group=turn))
            path_tokens += depth + len(pieces[-1].tokens)
            if index == continued:
                parent, following, longer = name, len(pieces) - 1, depth + len(pieces[-1].tokens)
        preferences += [Preference(chosen=names[0], rejected=name) for name in names[1:]]
        piece, depth = following, longer
    tree = Conversation(id=str(number), nodes=tuple(nodes), preferences=tuple(preferences))
    return tree, Trie(pieces, spans, path_tokens, 0)


def _workload(
    description: str,
    assumed: bool,
    epoch: int,
    parts: Sequence[TreeRow],
    sizes: np.ndarray,
    owner: np.ndarray,
    capacity: Capacity,
) -> Workload:
    plan = best_fit_in_order(np.array([part.sizes for part in parts]), dataclasses.astuple(capacity))
    plan = plan[:: -(-len(plan) // MEASURED_ROWS)]  # from all of it: the last rows are less full
    rows = stack([pack([parts[index] for index in row], capacity) for row in plan])
    count = len({int(part.conversation[0]) for part in parts})
    paths = [length for part in parts for length in _path_lengths(part)]
    return Workload(
        description,
        assumed,
        epoch,
        sizes,
        owner,
        rows,
        pairs=float(sum(int((part.positions + 1).sum()) for part in parts)) / count,
        unshared_tokens=sum(paths) / count,
        unshared_pairs=sum(length * (length + 1) / 2 for length in paths) / count,
    )


def _path_lengths(part: TreeRow) -> list[int]:
    """Tokens from the root to the end of each reply. A reply's last token is predicted by the state before it, whose
    position is two below that length."""
    last = {int(reply): int(source) for source, reply in zip(part.source, part.reply, strict=True)}
    return [int(part.positions[source]) + 2 for source in last.values()]


def batch_of(workload: Workload, capacity: Capacity, batch: int, unit: Unit, steps: int = 1) -> Batch:
    """The rows and tokens of a batch of that many conversations or pairs, as packed. The conversations are repeated
    until they make an epoch of about `steps` steps or more."""
    owners = np.unique(workload.conversation)
    units = workload.mean(COUNTED[unit]) if unit in COUNTED else 1.0
    count = max(workload.epoch, math.floor(steps * batch / units))
    # Whole repetitions, and a part of another one to make it `count` conversations.
    sizes, owner = [], []
    for number in range(math.ceil(count / len(owners))):
        kept = np.isin(workload.conversation, owners[: count - number * len(owners)])
        sizes.append(workload.sizes[kept])
        owner.append(workload.conversation[kept] + number * (int(owners[-1]) + 1))
    table, names = np.concatenate(sizes), np.concatenate(owner)
    plan = pack_plan(table, names, capacity, batch=batch, unit=unit, seed=0, epochs=1).steps
    members = [[index for row in step for index in row] for step in plan]
    return Batch(
        batch,
        unit,
        max(map(len, plan)),
        float(np.mean([table[step, 0].sum() for step in members])),
        float(np.mean([len(set(names[step].tolist())) for step in members])),
    )


def fitting_batch(workload: Workload, capacity: Capacity, rows: int, unit: Unit) -> Batch:
    """The largest batch, to a hundredth, of which each step is packed into `rows` rows or fewer; at least one unit."""
    units = workload.mean(COUNTED[unit]) if unit in COUNTED else 1.0
    low, high = 1, max(2, round(capacity.tokens * rows / workload.mean(0) * units) + 1)
    best = batch_of(workload, capacity, low, unit, STEADY)
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        found = batch_of(workload, capacity, middle, unit, STEADY)
        if found.rows <= rows:
            low, best = middle, found
        else:
            high = middle
    return best


def running_pairs(rows: TreeRow, block: int | None) -> float:
    """Query-key pairs of a row that attention computes, masked ones included: those of all blocks in which some query
    attends to some key; without blocks the whole square."""
    length = rows.tokens.shape[-1]
    if block is None:
        return float(length * length)
    running = running_blocks(jnp.asarray(rows.subtree_end), jnp.asarray(rows.positions), None, block)
    return float(running.sum()) / len(running) * block * block


def forward_flops(model: ModelConfig, workload: Workload, shared: bool) -> float:
    """Useful operations of a forward pass over a conversation, in our layout or as one sequence per reply."""
    tokens = workload.mean(0) if shared else workload.unshared_tokens
    pairs = workload.pairs if shared else workload.unshared_pairs
    return model.matmul_flops(tokens, pairs, workload.mean(1))


def workload_of(settings: PlannedSettings, workdir: str, chooses: Chooses) -> Workload:
    """The workload of the dataset of `workdir` if that is given, else a synthetic one of what `config.conversations`
    asks for, for an objective that `chooses` these replies."""
    capacity = settings.dataset.row
    if workdir:
        weights = {name: source.weight for name, source in settings.dataset.sources.items()}
        return measured(epath.Path(workdir) / "dataset", capacity, chooses, weights)
    grown = settings.grown
    return synthetic(grown.turns, max(2, grown.replies), capacity, chooses, epoch=grown.trees)

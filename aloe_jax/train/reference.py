"""Reference log-probabilities: computed once with the frozen reference model and stored in the stage's folder.

The file is `reference-<hash>.jsonl`, with one line per scored batch: `{"replies": [[conversation, node, log_prob],
...]}` with the dataset's indices; for objectives of single tokens `log_prob` is the list of the tokens' own. An
interrupted pass continues after the last complete line. The hash covers everything that decides the values (model,
dataset, tokenizer, template, compute dtype, attention), so a changed setting never reads an old file. One of the stored
batches is computed again as a check.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import cast

import jax
import numpy as np
from etils import epath

from aloe_jax import files
from aloe_jax.data.pipeline import Batches, Reference, owned_rows, to_device
from aloe_jax.errors import AloeError
from aloe_jax.models import decoder
from aloe_jax.parallel import hosts
from aloe_jax.train.rounding import REPLY
from aloe_jax.train.stop import StopRequest
from aloe_jax.tree.row import TreeRow

Score = Callable[[decoder.Params, TreeRow], jax.Array]
Tolerance = Callable[[int], float]  # allowed difference of a reply's log-probability, from its number of tokens


def reference_log_probs(
    params: decoder.Params,
    score: Score,
    batches: Batches,
    mesh: jax.sharding.Mesh,
    directory: epath.Path,
    key: Mapping[str, object],
    progress: Callable[[int, int], None] = lambda done, total: None,
    tolerance: Tolerance = lambda tokens: REPLY,
    stop: StopRequest | None = None,
    by_token: bool = False,
) -> Reference:
    """Log-probability of every reply of the plan under `params`; replies in the file for `key` are not computed again.

    With `by_token` it is that of each token of the reply, and `score` gives those of a row's targets.

    Raises AloeError if a stored file disagrees with the model by more than `tolerance` on the first step's rows, and
    ResumableError between two batches if `stop` was requested.
    """
    path = directory / f"reference-{files.sha256(files.canonical(dict(key)))[:16]}.jsonl"
    reference = _stored(path)
    if reference:  # the first step's rows were scored first
        _check(path, reference, _step(params, score, batches, mesh, 0, by_token), _lengths(batches, 0), tolerance)
    steps = len(batches)
    for number in _missing(batches, reference):
        if stop is not None:
            stop.check(f"before batch {number + 1} of {steps} of the reference model in '{directory}'")
        found = _step(params, score, batches, mesh, number, by_token)
        if (wrong := next((reply for reply, value in found.items() if not np.isfinite(value).all()), None)) is not None:
            raise AloeError(
                f"the reference log-probability of reply {wrong[1]} of {batches.source.names([wrong[0]])} is "
                f"{np.sum(found[wrong])}, since the start model's weights overflow or are damaged; start from another "
                "copy of it"
            )
        if hosts.is_primary():
            line = [[*reply, value if isinstance(value, float) else value.tolist()] for reply, value in found.items()]
            files.append_line(path, files.json_line({"replies": line}))
        reference |= found
        progress(number + 1, steps)
    return reference


def _stored(path: epath.Path) -> dict[tuple[int, int], float | np.ndarray]:
    """The stored replies as the primary process reads them, broadcast to all: a shared folder may be updated later on
    other hosts. A torn last line, left by a kill, is cut off."""
    replies: list[tuple[int, int, float | list[float]]] = []
    if hosts.is_primary() and path.exists():
        files.repair_lines(path)
        records = files.read_json_lines(path)
        replies = [
            reply for record in records for reply in cast(list[tuple[int, int, float | list[float]]], record["replies"])
        ]
    # Of each reply its conversation, its node and the number of values: -1 for that of the whole reply.
    facts = [(c, n, len(value) if isinstance(value, list) else -1) for c, n, value in replies]
    flat = np.concatenate([np.empty(0), *(np.ravel(value) for _, _, value in replies)])
    indices = hosts.broadcast_array_from_primary(np.array(facts, np.int32).reshape(-1, 3))
    values = hosts.broadcast_array_from_primary(flat.astype(np.float32))
    ends = np.cumsum(np.abs(indices[:, 2])).tolist()
    return {
        (c, n): float(values[end - 1]) if count < 0 else values[end - count : end]
        for (c, n, count), end in zip(indices.tolist(), ends, strict=True)
    }


def _missing(batches: Batches, known: Reference) -> Iterator[int]:
    """The steps with a fragment whose replies are neither known nor part of an earlier step."""
    scored: set[int] = set()
    for number, rows in enumerate(batches.plan.steps):
        new = {index for row in rows for index in row} - scored
        if any(not all(reply in known for reply in _replies(batches, index)) for index in sorted(new)):
            yield number
        scored |= new


def _replies(batches: Batches, index: int) -> list[tuple[int, int]]:
    fragment = batches.source[index]
    return list(zip(fragment.conversation.tolist(), fragment.node.tolist(), strict=True))


def _lengths(batches: Batches, step: int) -> dict[tuple[int, int], int]:
    """Number of tokens of each reply of a step."""
    members = [index for row in batches.plan.steps[step] for index in row]
    return {
        reply: tokens
        for index in members
        for reply, tokens in zip(_replies(batches, index), batches.source[index].length.tolist(), strict=True)
    }


def _step(
    params: decoder.Params, score: Score, batches: Batches, mesh: jax.sharding.Mesh, number: int, by_token: bool
) -> dict[tuple[int, int], float | np.ndarray]:
    """Log-probabilities of all replies of one step: every process computes its own rows and gets the results of all."""
    rows = to_device(batches.local(number, owned_rows(batches.rows, mesh)), batches.rows, mesh)
    found: dict[tuple[int, int], float | np.ndarray] = {}
    for micro in [jax.tree.map(operator.itemgetter(index), rows) for index in range(batches.used(number))]:
        columns = (micro.conversation, micro.node, micro.reply, score(params, micro))
        for conversation, node, reply, values in zip(*map(hosts.on_host, columns), strict=True):
            for place in np.flatnonzero(conversation >= 0).tolist():
                value = values[reply == place] if by_token else float(values[place])
                found[int(conversation[place]), int(node[place])] = value
    return found


def _check(
    path: epath.Path,
    stored: Reference,
    fresh: Reference,
    lengths: Mapping[tuple[int, int], int],
    tolerance: Tolerance,
) -> None:
    for reply, value in fresh.items():
        off = abs(np.sum(stored.get(reply, math.inf)) - np.sum(value))
        allowed = tolerance(lengths[reply])
        if not off <= allowed:  # also true for NaN
            raise AloeError(
                f"{path}: a stored reference log-probability differs from the model's by {off:.2g}, for "
                f"{lengths[reply]} tokens (more than {allowed:.2g}); delete the file to have them computed again"
            )

"""Reference log-probabilities: computed once with the frozen reference model, stored beside the stage per reply.

The file's name holds a hash of all that decides them (model, dataset, tokenizer, template, compute dtype, attention),
so a changed setting never meets an old file. One batch is computed again at the start of a run as a check.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from aloe_jax import files
from aloe_jax.data.pipeline import Batches, Reference, owned_rows, to_device
from aloe_jax.errors import AloeError
from aloe_jax.models import decoder
from aloe_jax.parallel import hosts
from aloe_jax.tree.row import TreeRow

TOLERANCE = 1e-3  # natural log-probability of a whole reply
Score = Callable[[decoder.Params, TreeRow], jax.Array]


def reference_log_probs(
    params: decoder.Params,
    score: Score,
    batches: Batches,
    mesh: jax.sharding.Mesh,
    directory: epath.Path,
    key: Mapping[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Reference:
    """Log-probability of every reply of the plan under `params`, from the file for `key` if there is one.

    Raises AloeError if a stored file disagrees with the model by more than 1e-3 on the first step's rows.
    """
    path = directory / f"reference-{files.sha256(files.canonical(dict(key)))[:16]}.json"
    if hosts.as_first_sees(path.exists()):
        reference = {(c, n): value for c, n, value in json.loads(path.read_text())}
        _check(path, reference, _step(params, score, batches, mesh, 0))
        return reference
    reference = {}
    steps = len(batches)
    for number in range(steps):
        if not _known(batches, number, reference):
            reference |= _step(params, score, batches, mesh, number)
        progress(number + 1, steps)
    rows = [[conversation, node, value] for (conversation, node), value in sorted(reference.items())]
    if hosts.first():
        files.write_text(path, json.dumps(rows))
    return reference


def _known(batches: Batches, step: int, reference: Reference) -> bool:
    """Whether a step only repeats fragments of earlier epochs."""
    for row in batches.plan.steps[step]:
        for index in row:
            fragment = batches.source[index]
            if any(
                key not in reference for key in zip(fragment.conversation.tolist(), fragment.node.tolist(), strict=True)
            ):
                return False
    return True


def _step(
    params: decoder.Params, score: Score, batches: Batches, mesh: jax.sharding.Mesh, number: int
) -> dict[tuple[int, int], float]:
    """All replies of one step. Every process computes its rows; the results of all come back to each."""
    rows = to_device(batches.local(number, owned_rows(batches.rows, mesh)), batches.rows, mesh)
    found: dict[tuple[int, int], float] = {}
    for micro in [jax.tree.map(operator.itemgetter(index), rows) for index in range(batches.used(number))]:
        columns = (micro.conversation, micro.node, score(params, micro))
        for conversation, node, value in zip(*(_gather(array).reshape(-1).tolist() for array in columns), strict=True):
            if conversation >= 0:
                found[conversation, node] = value
    return found


def _gather(array: jax.Array) -> np.ndarray:
    if array.is_fully_addressable:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def _check(path: epath.Path, stored: Reference, fresh: Reference) -> None:
    worst = max(abs(stored.get(key, float("inf")) - value) for key, value in fresh.items())
    if worst > TOLERANCE:
        raise AloeError(
            f"{path}: stored reference log-probabilities differ from the model's by {worst:.2g} (more than "
            f"{TOLERANCE}); delete the file to have them computed again"
        )

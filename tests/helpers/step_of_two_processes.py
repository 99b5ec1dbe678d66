"""SFT, DPO and on-policy steps as one of two processes, or alone; test_two_processes.py starts them.

Arguments: DATASET OUT PORT PROCESSES NUMBER. Writes to OUT, for each objective and set of trained parameters, the loss
and the whole gradient. A process reads only the rows of its own devices.
"""

from __future__ import annotations

import dataclasses
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils

from aloe_jax.data.builder import FragmentSource
from aloe_jax.data.pipeline import Batches, micro_batch_rows, owned_rows, to_device
from aloe_jax.data.plan import pack_plan
from aloe_jax.models.lora import LoraSettings
from aloe_jax.parallel import hosts
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.train.adapters import with_adapters
from aloe_jax.train.objectives import OBJECTIVES
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.policy_pass import make_policy_pass
from aloe_jax.train.state import create_state
from aloe_jax.train.step import make_gradient
from aloe_jax.train.stop import StopRequest
from helpers.on_policy import ALL, ENTRY
from helpers.small_training import CAPACITY, COMPUTE, SETTINGS
from helpers.tiny import MODEL, params

LORA = LoraSettings(maps="query|down", rank=2, alpha=4.0, dropout=0.0)


def main(dataset: str, out: str, port: str, processes: str, number: str) -> None:
    if int(processes) > 1:
        hosts.connect(f"localhost:{port},{processes},{number}")
    mesh = make_mesh()
    if hosts.is_multiprocess():  # two devices of each process in turn: the rows of a process are not contiguous
        in_turn = np.array(jax.devices()).reshape(2, 2, 2).swapaxes(0, 1).flatten().tolist()
        mesh = make_mesh(fsdp=4, tensor=2, devices=in_turn)
    source = FragmentSource(dataset)
    plan = pack_plan(source.sizes, source.conversation, CAPACITY, batch=4, unit="pairs", seed=0, epochs=1)
    batches = Batches(source, plan, CAPACITY, micro_batch_rows(4, mesh))
    owned = owned_rows(batches.rows, mesh)
    rows = to_device(next(batches.iterator(owned)), batches.rows, mesh)
    OBJECTIVES[ALL] = ENTRY
    weights = jax.tree.map(np.asarray, params())
    old = make_policy_pass(MODEL, COMPUTE, mesh)(weights, rows, np.int32(batches.used(0)))
    rows = rows.replace(old_log_prob=old, reference_log_prob=old + 0.2, hinted_log_prob=old - 0.4)
    stop = StopRequest(mesh)
    stop.requested = hosts.process_index() == 1
    found = {"rows": np.array(owned), "steps": np.array(len(batches)), "stop": np.array(stop.anywhere())}
    models = {"full": MODEL, "lora": with_adapters(MODEL, LORA)}
    for objective, names in (("sft", models), ("dpo", models), (ALL, ("full",))):
        for name, model in ((name, models[name]) for name in names):
            # Reference log-probabilities are 0 here, so that every pair has a loss and a gradient of its own.
            state = create_state(weights, model, make_optimizer(SETTINGS, 1), mesh)
            # An adapter's B begins at 0, where its A has no gradient.
            trained = jax.tree.map(lambda leaf: leaf + 0.05, state.params) if model.lora else state.params
            gradient = jax.jit(make_gradient(model, dataclasses.replace(SETTINGS, objective=objective), COMPUTE, mesh))
            sums, grads = gradient(trained, state.frozen, rows, np.int32(batches.used(0)))
            found[f"{objective} {name} loss"] = np.asarray(sums["loss"][0] / sums["loss"][1])
            for path, leaf in jax.tree.leaves_with_path(grads):
                key = f"{objective} {name} {jax.tree_util.keystr(path)}"
                found[key] = multihost_utils.process_allgather(leaf, tiled=True) if hosts.is_multiprocess() else leaf
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])

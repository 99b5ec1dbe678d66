"""A small preference training for tests."""

import dataclasses
import json
import math

import jax
import numpy as np
from etils import epath

from aloe_jax.data.pipeline import Batches, micro_batch_rows
from aloe_jax.train.feed import DatasetFeed
from aloe_jax.train.forward import Compute
from aloe_jax.train.loop import Training
from aloe_jax.train.metrics_log import TIME_FIELDS
from aloe_jax.train.settings import PreferenceSettings
from aloe_jax.tree.row import Capacity
from helpers.tiny import MODEL, params

CAPACITY = Capacity(tokens=256, targets=128, replies=8, pairs=8)
COMPUTE = Compute(chunk=64)
SETTINGS = PreferenceSettings(beta=0.5, learning_rate=1e-3, turn_buckets=3, checkpoint_every=2, measure_every=2)


def training(batches, reference, mesh, folder, model=MODEL, **changes):
    filled = Batches(batches.source, batches.plan, CAPACITY, micro_batch_rows(1, mesh), reference)
    return Training(
        model,
        dataclasses.replace(SETTINGS, **changes),
        COMPUTE,
        DatasetFeed(filled, math.log(2)),
        mesh,
        epath.Path(folder),
    )


def copied():
    return jax.tree.map(np.array, params())


def records(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIME_FIELDS} for line in lines]


class StoppedError(Exception):
    pass


def stop_after(step):
    def report(done, total, record):
        if done == step:
            raise StoppedError

    return report

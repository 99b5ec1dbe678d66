"""The small preference training, held in the middle of its second save; test_broken_checkpoints.py starts and kills it.

Arguments: DATASET REFERENCE FOLDER HELD. Everything of the second checkpoint is written when Orbax gives the folder its
name; there the process makes the file HELD and waits for its end.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax

from aloe_jax.data.builder import FragmentSource
from aloe_jax.data.pipeline import Batches
from aloe_jax.data.plan import pack_plan
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.train.loop import train
from helpers.small_training import CAPACITY, copied, training


def main(dataset: str, reference: str, folder: str, held: str) -> None:
    rename = os.rename

    def hold(source: Any, target: Any, **options: Any) -> None:
        if Path(target).parent.name == "checkpoints" and Path(target).name == "4":
            Path(held).touch()
            time.sleep(3600)
        rename(source, target, **options)

    os.rename = hold
    source = FragmentSource(dataset)
    plan = pack_plan(source.sizes, source.conversation, CAPACITY, batch=2, unit="pairs", seed=0, epochs=1)
    known = {(c, n): value for c, n, value in json.loads(Path(reference).read_text())}
    mesh = make_mesh(devices=jax.devices()[:1])
    train(training(Batches(source, plan, CAPACITY, 1), known, mesh, folder), copied)


if __name__ == "__main__":
    main(*sys.argv[1:])

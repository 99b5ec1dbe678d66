"""Preference training on your own pairs or labelled replies, from your own model, without an SFT stage.

    uv run aloe run --config=own --workdir=runs/mine --config.model.source=MODEL \
        --config.dataset.sources.trees.path=pairs.jsonl

The result is measured on a few users of the scripted world, before and after training, and exported. Sizes are for
small models on a CPU; `:debug` has the smallest. Settings that are not set here keep their defaults.
"""

from ml_collections import ConfigDict

from aloe_jax.cli.arguments import is_debug
from aloe_jax.cli.experiment import experiment


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty, or "debug" for the smallest run."""
    debug = is_debug(arg, "configs/own.py")
    config = experiment()
    config.stages = ("personas", "dataset", "preference", "benchmark", "export", "report")
    config.compute.dtype = "float32"  # CPUs gain nothing from bfloat16
    config.serve.slots = 8
    config.serve.context = 1024

    config.dataset.row.tokens = 2048
    config.dataset.row.targets = 1536
    config.dataset.row.replies = 64
    config.dataset.row.pairs = 64
    config.dataset.max_path = 1024

    config.preference.start = "base"
    config.preference.batch = 16
    config.preference.beta = 0.1
    config.preference.async_checkpoint = False  # a laptop has no memory for a copy of the state

    # Users to measure on; their personas come from the scripted world.
    config.personas.profiles, config.personas.personalities, config.personas.pairings = 4, 4, 1
    config.personas.benchmark_profiles, config.personas.benchmark_personalities = 3, 2
    config.benchmark.models = ("base", "preference")
    config.benchmark.turns = 2 if debug else 4
    config.benchmark.max_tokens = 8 if debug else 48
    config.benchmark.concurrency = 6
    config.benchmark.resamples = 500

    config.export.dtype = "float32"
    return config.lock()

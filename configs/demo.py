"""The whole pipeline with a real open model, sized for a laptop: two CPU cores, ten minutes, under 6 GB of memory.

    uv run aloe run --config=configs/demo.py --workdir=runs/demo

`--config=configs/demo.py:debug` runs the same stages at the smallest sizes, to check that everything works.
Settings that are not set here keep their defaults; `aloe config --config=demo` prints all of them with their meaning.
"""

from ml_collections import ConfigDict

from aloe_jax.cli.arguments import is_debug
from aloe_jax.cli.experiment import experiment


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty, or "debug" for the smallest run."""
    debug = is_debug(arg, "configs/demo.py")
    config = experiment()
    config.model.source = "embedded:smollm2"  # SmolLM2-135M-Instruct, installed as a wheel
    config.compute.dtype = "float32"  # CPUs gain nothing from bfloat16

    config.serve.slots = 12
    config.serve.context = 640

    config.personas.profiles = 12
    config.personas.personalities = 8
    config.personas.pairings = 1
    config.personas.benchmark_profiles = 3
    config.personas.benchmark_personalities = 2

    config.conversations.trees = 2 if debug else 12
    config.conversations.turns = 2 if debug else 3
    config.conversations.mix.hinted = 2
    config.conversations.concurrency = 6
    config.roles.responder.temperature = 0.7  # small models ramble above it
    config.roles.responder.top_p = 0.9
    config.roles.responder.max_tokens = 8 if debug else 32
    # Replies of a small model are often cut off, and ten minutes leave no time to sample them again.
    config.tree.guards, config.tree.attempts, config.tree.min_turns = (), 1, 1

    config.dataset.row.tokens = 1024
    config.dataset.row.targets = 768
    config.dataset.row.replies = 32
    config.dataset.row.pairs = 32
    config.dataset.max_path = 768

    config.sft.batch = 4
    config.sft.checkpoint_every = 2
    config.preference.learning_rate = 5e-6
    config.preference.batch = 24
    config.preference.checkpoint_every = 2
    config.preference.beta = 0.1
    config.sft.turn_buckets = config.preference.turn_buckets = 3
    # A laptop has no memory for a copy of the state.
    config.sft.async_checkpoint = config.preference.async_checkpoint = False

    config.benchmark.turns = 2 if debug else 3
    config.benchmark.max_tokens = 8 if debug else 32
    config.benchmark.concurrency = 12

    config.export.dtype = "float32"
    return config.lock()

"""The whole pipeline with a real open model, sized for a laptop: two CPU cores, ten to fifteen minutes, 5.6 GiB.

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
    config.compute.remat = "none"  # rows are short

    config.serve.slots = 12
    config.serve.context = 1024

    config.personas.profiles = 36
    config.personas.personalities = 24
    config.personas.pairings = 1
    config.personas.benchmark_profiles = 4
    config.personas.benchmark_personalities = 3

    # The teacher is the scripted world's oracle, which plays the part of a strong model; the learner is SmolLM2. Beside
    # the teacher's reply for this user stands one for another user, so that pairs differ in style alone.
    config.conversations.trees = 2 if debug else 36
    config.conversations.turns = 2 if debug else 4
    config.conversations.concurrency = 12
    config.conversations.mix.plain = 0
    config.conversations.mix.other_persona = 1
    config.roles.teacher.player = "scripted"
    config.roles.responder.max_tokens = 8 if debug else 48
    config.tree.guards, config.tree.attempts, config.tree.min_turns = (), 1, 1

    config.dataset.row.tokens = 1024
    config.dataset.row.targets = 768
    config.dataset.row.replies = 32
    config.dataset.row.pairs = 32
    config.dataset.max_path = 1024

    config.sft.learning_rate = 3e-4
    config.sft.batch = 2
    config.sft.checkpoint_every = 8
    config.preference.learning_rate = 2e-5
    config.preference.batch = 16
    config.preference.checkpoint_every = 4
    config.preference.beta = 0.1
    config.sft.turn_buckets = config.preference.turn_buckets = 4
    # A laptop has no memory for a copy of the state.
    config.sft.async_checkpoint = config.preference.async_checkpoint = False

    config.benchmark.turns = 2 if debug else 4
    config.benchmark.max_tokens = 8 if debug else 48
    config.benchmark.concurrency = 12

    config.export.dtype = "float32"
    return config.lock()

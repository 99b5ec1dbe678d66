"""Data generation with a model in every role, sized for a laptop: two CPU cores, twenty minutes.

    uv run aloe run --config=configs/demo_llm.py --workdir=runs/demo_llm

SmolLM2-135M-Instruct writes the personas, plays user, inducer, responder and judge, and is then benchmarked with itself
as the judge. The report measures the quality of this judge. With a stronger model on a server, the same stages produce
data worth training on:

    aloe run --config=configs/demo_llm.py --workdir=runs/larger \
        --config.serve.base_url=http://127.0.0.1:8000/v1 --config.serve.model=NAME

`--config=configs/demo_llm.py:debug` runs the same stages at the smallest sizes.
"""

from ml_collections import ConfigDict

from aloe_jax.cli.arguments import is_debug
from aloe_jax.cli.experiment import experiment


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty, or "debug" for the smallest run."""
    debug = is_debug(arg, "configs/demo_llm.py")
    config = experiment()
    config.stages = ("personas", "conversations", "benchmark", "report")
    config.model.source = "embedded:smollm2"
    config.compute.dtype = "float32"  # CPUs gain nothing from bfloat16

    config.serve.slots = 8
    config.serve.context = 2048

    for name in ("user", "inducer", "judge"):
        config.roles[name].player = "model"
    config.roles.author.max_tokens = 16 if debug else 320
    config.roles.user.max_tokens = 8 if debug else 40
    config.roles.inducer.max_tokens = 24
    config.roles.responder.max_tokens = 8 if debug else 40
    config.roles.user.temperature = config.roles.responder.temperature = 0.7  # small models ramble above it
    config.roles.judge.trials = 2 if debug else 16

    config.personas.source = "generated"
    # The hand-written seeds, plus the model's proposals of a few rounds.
    config.personas.profiles = 54
    config.personas.personalities = 50
    config.personas.pairings = 1
    config.personas.benchmark_profiles = 2
    config.personas.benchmark_personalities = 2
    config.personas.rounds = 1 if debug else 2
    config.personas.proposals = 1  # a small model loses the thread in longer lists

    config.conversations.trees = 1 if debug else 8
    config.conversations.turns = 2 if debug else 3
    config.conversations.concurrency = 4
    config.tree.min_turns = 1 if debug else 3
    config.tree.attempts = 3
    # Small models rarely end a turn by themselves and often repeat themselves, so these guards are left out.
    lenient = ("truncated", "near_copy", "loop")
    config.tree.guards = () if debug else tuple(name for name in config.tree.guards if name not in lenient)

    config.benchmark.models = ("base",)
    config.benchmark.turns = 2
    config.benchmark.max_tokens = 8 if debug else 40
    config.benchmark.concurrency = 4
    return config.lock()

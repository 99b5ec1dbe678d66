"""The effect, on ground truth: does training align the model with each user, and does it rise during a dialogue?

    uv run aloe run --config=configs/world.py --workdir=runs/world

Users, teacher and judge are the scripted world's, so what a user likes and what it has shown is known, and the teacher
(the world's oracle) plays the part of a strong model. SmolLM2-135M is trained on its replies, then on pairs of them and
of replies with a fault (another user's style, another topic, said before), and measured on held-out personas over ten
turns, on both scales.

`:quick` has fewer trees and cases, `:debug` runs every stage at the smallest sizes, and `:twin` takes a tiny model
instead, which is of this world too (`:twin_base` is how it learned to speak). `:on_policy` is a second run, for a run
in runs/world: its rejected replies are samples of that run's SFT model, from which its preference training starts, and
faults that the teacher plays.

    uv run aloe run --config=configs/world.py:on_policy --workdir=runs/on_policy \
        --stages=personas,conversations,dataset,preference \
        --config.roles.responder.model=runs/world/sft --config.preference.start=runs/world/sft

docs/effect.md has the results.
"""

from ml_collections import ConfigDict

from aloe_jax.cli.arguments import DEBUG, one_of, shrink
from aloe_jax.cli.experiment import experiment

QUICK, TWIN, BASE, ON_POLICY = "quick", "twin", "twin_base", "on_policy"


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty, "quick", "debug", "twin", "twin_base" or "on_policy"."""
    one_of(arg, "configs/world.py", (QUICK, DEBUG, TWIN, BASE, ON_POLICY))
    config = experiment()
    config.model.source = "embedded:smollm2"
    config.compute.dtype = "float32"  # CPUs gain nothing from bfloat16
    config.compute.remat = "dots"

    config.serve.slots = 32
    config.serve.context = 2048

    config.personas.pairings = 1
    config.personas.profiles = 200
    config.personas.personalities = 60
    config.personas.benchmark_profiles = 20
    config.personas.benchmark_personalities = 5

    config.roles.teacher.player = "scripted"
    config.conversations.trees = 160
    config.conversations.turns = 10
    config.conversations.concurrency = 32
    config.conversations.mix.plain = 0
    config.conversations.mix.other_persona = 1
    config.tree.guards, config.tree.attempts, config.tree.min_turns = (), 1, 1

    config.dataset.row.tokens = 1920  # a conversation of ten turns with all its candidates, or two of SFT
    config.dataset.row.targets = 1536
    config.dataset.row.replies = 64
    config.dataset.row.pairs = 64
    config.dataset.max_path = 2048

    config.sft.learning_rate = 3e-4
    config.sft.batch = 2
    config.sft.checkpoint_every = 20
    config.preference.learning_rate = 2e-5
    config.preference.batch = 32
    config.preference.checkpoint_every = 5
    config.preference.objective = "rpo"  # the chosen reply's own likelihood keeps the topic
    config.preference.beta = 0.1
    config.sft.async_checkpoint = config.preference.async_checkpoint = False

    config.online.start = "sft"
    config.online.objective, config.online.kl_weight = "policy_gradient", 0.01
    config.online.learning_rate, config.online.schedule, config.online.warmup = 3e-5, "constant", 0.0
    config.online.rounds = 24
    config.online.trees = config.online.rollout.batch = 16
    config.online.rollout.share = 0.2

    config.benchmark.turns = 10
    config.benchmark.max_tokens = 64
    config.benchmark.concurrency = 32
    config.benchmark.controls = ("oracle", "wrong_persona")

    config.export.dtype = "float32"
    if not arg:
        config.conversations.mix.off_topic = config.conversations.mix.repetition = 1
        config.conversations.min_margin = 0.95  # rpo raises what it chooses: the teacher's replies, hardly a fault
        config.preference.batch = 64
    if arg == QUICK:
        config.conversations.trees = 40
        config.conversations.turns = 6
        config.conversations.mix.repetition = 1
        config.benchmark.cases = config.benchmark.control_cases = 12
    if arg == ON_POLICY:
        config.conversations.trees = 30
        config.conversations.mix.plain, config.conversations.mix.other_persona = 1, 0
        config.conversations.mix.off_topic = config.conversations.mix.repetition = 1  # samples alone cost the topic
        config.roles.responder.player = "model"
        config.roles.responder.temperature = 0.7
        config.roles.responder.max_tokens = 64
        config.preference.learning_rate = 1.5e-5
    if arg == TWIN:
        _twin(config)
    if arg == BASE:
        _twin_base(config)
    if arg == DEBUG:
        shrink(config)
    return config.lock()


def _twin(config: ConfigDict) -> None:
    """A model of half a million parameters that speaks, and what it takes to align it in a minute or two."""
    from data_gen.world.twin import twin_model

    config.model.source = str(twin_model())
    config.compute.remat = "none"
    config.serve.slots, config.serve.context = 24, 1024
    config.personas.profiles = config.conversations.trees = 600
    config.personas.renamed = 1.0  # so small a model learns facts by heart otherwise
    config.personas.benchmark_profiles = config.personas.benchmark_personalities = 10
    config.conversations.turns = 4
    config.conversations.mix.hinted, config.conversations.mix.repetition = 2, 1
    config.dataset.row.tokens, config.dataset.row.targets = 1024, 768
    config.dataset.max_path = 1024
    config.sft.learning_rate = 3e-3
    config.sft.batch = config.sft.rows = 4
    config.sft.epochs = 3
    config.sft.checkpoint_every = config.sft.measure_every = 200
    config.preference.learning_rate = 2e-4
    config.preference.batch = 64
    config.preference.rows = 4
    config.preference.checkpoint_every = config.preference.measure_every = 200
    config.online.learning_rate = 3e-4
    config.online.rounds = 60
    config.online.trees = config.online.rollout.batch = 64
    config.online.rollout.share = 0.5
    config.online.rows = 4
    config.online.rollout.turns, config.online.rollout.siblings = 4, 4
    config.online.alarm.reference_kl = 2.0  # a small model moves far
    config.benchmark.turns = 4
    config.benchmark.cases = 100
    config.benchmark.temperature = 0.0


def _twin_base(config: ConfigDict) -> None:
    """The training in which that model learns to speak, on data_gen/world/base_text.py."""
    from data_gen.world.twin import base_trees, random_twin

    config.stages = ("dataset", "sft")
    config.model.source = str(random_twin())
    config.compute.remat = "none"
    config.dataset.sources.trees.path = str(base_trees())
    config.dataset.row.tokens, config.dataset.row.targets = 512, 384
    config.dataset.row.replies, config.dataset.row.pairs = 32, 0
    config.sft.learning_rate, config.sft.schedule, config.sft.warmup = 2e-3, "cosine", 0.05
    config.sft.b2 = 0.98
    config.sft.batch = 8
    config.sft.rows = 4
    config.sft.turn_buckets, config.sft.entropy = 0, False
    config.sft.checkpoint_every = config.sft.measure_every = 100

"""Every setting of an experiment, with the paper's values (arXiv 2410.03642). A config file starts from these and
changes what it is about."""

from __future__ import annotations

from ml_collections import ConfigDict


def experiment() -> ConfigDict:
    """A config with every key, not locked. `model.source` has to be set."""
    config = ConfigDict()
    config.seed = 0  # of everything that is drawn: personas, replies, batches, adapters
    config.stages = ()  # the stages to run, in order; empty: all of them (--stages on the command line goes first)

    config.model = ConfigDict()
    config.model.source = ""  # a Hugging Face folder, a hub id, a GGUF file, embedded:smollm2 or random:FAMILY
    # What the source's config.json says of its sizes, for `aloe plan`, which then needs no download.
    config.model.sizes = ConfigDict()

    config.template = ConfigDict()
    config.template.date = "26 Jul 2024"  # what templates that tell the date say, frozen so that runs repeat
    config.template.system = "keep"  # or fold_into_first_user, for templates that refuse a system message

    config.mesh = ConfigDict()
    config.mesh.replica = 1  # copies of the model; over several slices their number, or a multiple of it
    config.mesh.fsdp = -1  # rows and parameter shards; -1 takes the devices that are left
    config.mesh.tensor = 1  # heads and MLP width

    config.compute = ConfigDict()
    config.compute.dtype = "bfloat16"  # of activations; parameters and sums stay float32
    config.compute.attention = "auto"  # pallas on TPUs, blocked elsewhere; or dense, the slow reference
    # What the backward pass computes again instead of keeping it: full (whole layers), attention (all but attention),
    # dots (all but matrix products and attention) or none. Less memory first, less time last.
    config.compute.remat = "full"
    config.compute.chunk = 256  # targets that go through the output head at a time

    config.lora = ConfigDict()  # low-rank adapters in SFT and preference training, instead of training all weights
    # Which linear maps have one: a regular expression over query, key, value, output, gate, up, down and, where it is
    # not tied, head: "query|value", ".*"; empty trains all weights.
    config.lora.maps = ""
    config.lora.rank = 16
    config.lora.alpha = 32.0  # the adapter's output is scaled by alpha / rank
    config.lora.dropout = 0.0  # share of the adapters' inputs dropped in training

    config.serve = ConfigDict()
    # OpenAI-compatible servers of one model, with commas between them, for the roles that name none; empty: a server of
    # our own for config.model, on loopback.
    config.serve.base_url = ""
    config.serve.model = ""  # the model's name on those servers
    config.serve.concurrency = 128  # calls under way to the servers of one model; fewer where they refuse so many
    config.serve.timeout = 600.0  # seconds that an answer may take
    config.serve.patience = 600.0  # seconds that all servers may be down before the run stops (it can be resumed)
    config.serve.slots = 64  # sequences that decode together on our own server
    config.serve.context = 4096  # tokens that prompt and reply may have together there

    config.roles = ConfigDict()  # who plays in the conversation game
    config.roles.author = model_role(0.8, 0.95, 4096)  # writes personas, where config.personas.source says so
    config.roles.user = role("scripted", 0.9, 0.95, 128)
    config.roles.inducer = role("scripted", 0.0, 1.0, 128)
    config.roles.responder = role("model", 0.8, 0.95, 128)
    config.roles.judge = role("scripted", 0.0, 1.0, 8)
    # Pairs of the scripted world, whose better reply is known, that a model judge is tried on first.
    config.roles.judge.trials = 48

    config.personas = ConfigDict()
    # scripted: of the scripted world; generated: hand-written seeds and what a model makes of them; or the paper's way
    # with pools of one's own: files.
    config.personas.source = "scripted"
    config.personas.profile_pool = ""  # of source "files": the reference's pool files or personas.jsonl
    config.personas.personality_pool = ""
    config.personas.profiles = 331  # training profiles
    config.personas.personalities = 71  # training personalities
    config.personas.pairings = 10  # personalities drawn for each training profile
    config.personas.benchmark_profiles = 20  # held-out profiles ...
    config.personas.benchmark_personalities = 5  # ... crossed with held-out personalities
    config.personas.rounds = 3000  # most calls for proposals
    config.personas.proposals = 20  # people asked for in a call
    config.personas.concurrency = 8  # calls for proposals at the same time
    # How near a proposal may come to the nearest one in the pool: this quantile of the hand-written seeds' own nearest
    # neighbours (cosine of sentence embeddings).
    config.personas.quantile = 0.95
    config.personas.saturation_rounds = 20  # the pool is full when in so many rounds ...
    config.personas.saturation_rate = 0.02  # ... a smaller share of the proposals than this was new

    config.tree = ConfigDict()
    config.tree.expand = 1  # replies of a turn that are continued; 1: the paper's single path
    config.tree.depth = 1  # turns that the replies beside the main path are continued for
    config.tree.discount = 0.0  # weight of what happens a turn later in a reply's value; 0: its own score alone
    config.tree.prefer = "judge"  # what tells two replies apart: the judge in both orders, or their backed-up "value"
    config.tree.min_turns = 5  # a conversation that ends before does not count
    config.tree.attempts = 4  # draws of a text that a guard turns down
    config.tree.candidates = 3  # conversations begun at most, for each one that is to be accepted
    config.tree.guards = GUARDS  # see docs/data_generation.md; empty: none

    config.conversations = ConfigDict()
    config.conversations.source = ""  # a trees.jsonl to train on instead of growing trees (see `aloe convert`)
    config.conversations.trees = 3310  # conversation trees, one a persona
    config.conversations.turns = 10  # user turns of each
    config.conversations.hinted = 1  # candidate replies a turn that see what the user has shown so far ...
    config.conversations.plain = 1  # ... and those that see the dialogue alone
    config.conversations.min_margin = 0.1  # judge's margin (2p - 1) from which two candidates become a preference
    config.conversations.concurrency = 64  # trees that grow at the same time

    config.dataset = ConfigDict()
    config.dataset.row = ConfigDict()  # capacity of a row; a conversation that does not fit goes on in another row
    config.dataset.row.tokens = 8192
    config.dataset.row.targets = 6144
    config.dataset.row.replies = 256
    config.dataset.row.pairs = 128
    config.dataset.max_path = 8192  # longest path in tokens; whole turns are cut from the left beyond it
    config.dataset.sources = ConfigDict()  # what is mixed: files of `aloe convert`'s formats (docs/data.md)
    config.dataset.sources.trees = source()  # a path here takes the place of the stage `conversations`
    config.dataset.sources.chat = source()  # ordinary chats to mix in; none without a path

    config.logging = ConfigDict()  # of trainings; may change while a run is under way
    config.logging.tensorboard = False  # DIR/<stage>/tensorboard beside metrics.jsonl; needs aloe_jax[tensorboard]
    config.logging.trace_from = 0  # first step of a profiler trace into DIR/<stage>/trace; 0: no trace
    config.logging.trace_steps = 3  # how many steps it covers

    config.sft = training("sft")
    config.preference = training("dpo")
    config.preference.beta = 0.9  # strength of the pull towards the reference model
    config.preference.margin = 0.0  # times the judges' margin of a pair: how much further surer pairs are asked to part
    config.preference.label_smoothing = 0.1  # cdpo, robust_dpo: how often the judge is taken to be wrong
    config.preference.nll_weight = 1.0  # rpo: of the chosen replies' negative log-probability a token
    config.preference.gamma = 0.5  # simpo: the margin between rewards that is asked for
    config.preference.ranking = "value"  # listwise: siblings are ranked by their value, or by the preferences

    config.benchmark = ConfigDict()
    config.benchmark.models = ("base", "sft", "preference")
    config.benchmark.turns = 10  # user turns of a dialogue
    config.benchmark.temperature = 0.7
    config.benchmark.top_p = 0.9
    config.benchmark.max_tokens = 128
    config.benchmark.concurrency = 64  # dialogues at the same time
    config.benchmark.resamples = 2000  # of the two-way bootstrap

    config.export = ConfigDict()
    config.export.model = "preference"  # or sft
    config.export.adapter = False  # True: only the adapters of config.lora, for `peft`, instead of the merged model
    config.export.dtype = "bfloat16"  # of the exported tensors
    return config


# Every guard of data_gen/guards.py.
GUARDS = (
    "empty",
    "truncated",
    "speaks_for_other",
    "stage_directions",
    "near_copy",
    "loop",
    "role_flip",
    "refusal",
    "hint_leak",
    "unrevealed",
    "length_ratio",
)


def role(player: str, temperature: float, top_p: float, max_tokens: int) -> ConfigDict:
    """Who plays a role of the conversation game."""
    section = model_role(temperature, top_p, max_tokens)
    section.player = player  # model, or scripted: the world of data_gen/world, whose truth is known
    section.template = ""  # a jinja2 file in place of data_gen/templates
    return section


def model_role(temperature: float, top_p: float, max_tokens: int) -> ConfigDict:
    """Where the model of a role is, and how it is sampled."""
    section = ConfigDict()
    section.base_url = ""  # servers of its model, with commas between them; empty: those of config.serve
    section.model = ""  # the model's name on those servers
    section.api_key_env = "ALOE_API_KEY"  # environment variable that holds their key
    section.temperature = temperature
    section.top_p = top_p
    section.max_tokens = max_tokens  # longest answer
    section.price_in = 0.0  # US dollars a million tokens, to show what a run costs
    section.price_out = 0.0
    return section


def source(path: str = "", weight: float = 1.0, loss_weight: float = 1.0) -> ConfigDict:
    """A source of conversations. A config file may add others under a name of its own."""
    section = ConfigDict()
    section.path = path  # JSON lines or parquet; several with commas between them, * and ? for what is there
    # Conversations that an epoch takes, over the weight of `trees`, whose conversations it takes once each.
    section.weight = weight
    section.loss_weight = loss_weight  # times the weights of its tokens in SFT and of its pairs in preference training
    return section


def training(objective: str) -> ConfigDict:
    """Settings that both trainings have."""
    section = ConfigDict()
    section.objective = objective  # one of docs/objectives.md
    section.turn_weights = ()  # of turn 1, 2, ...; the last one holds for all later turns; empty: 1 everywhere
    section.turn_buckets = 10  # turns that metrics tell apart; the last one takes in all later turns
    section.entropy = True  # measure the policy's entropy where it predicts replies
    section.learning_rate = 1e-5  # at the peak
    section.schedule = "linear"  # after the warm-up: linear or cosine to zero, or constant
    section.warmup = 0.1  # share of the steps
    section.epochs = 1
    section.batch = 48  # conversations (sft) or pairs (preference) a step
    section.rows = 1  # rows a micro-batch, rounded up to the mesh's row shards
    section.clip_norm = 1.0  # of the gradient
    section.b1, section.b2 = 0.9, 0.95  # AdamW
    section.weight_decay = 0.0
    section.checkpoint_every = 50  # steps between checkpoints; SIGTERM saves one too
    section.save_beside = True  # write them while training goes on, from a copy of the state in the host's memory
    section.keep = 1  # newest checkpoints that stay ...
    section.keep_every = 0  # ... and those of every so many steps; 0: no others
    section.held_out = 0.02  # share of the conversations that are not trained on but measured ...
    section.measure_every = 50  # ... every so many steps, and after the last one
    return section


def shrink(config: ConfigDict) -> None:
    """The smallest numbers with which every stage still works, to see in a minute on a CPU that an experiment runs."""
    config.compute.dtype = "float32"
    config.serve.slots, config.serve.context = 6, 1024
    config.personas.profiles, config.personas.personalities, config.personas.pairings = 4, 4, 1
    config.personas.benchmark_profiles, config.personas.benchmark_personalities = 3, 2
    config.conversations.trees, config.conversations.turns = 2, 2
    config.conversations.concurrency = 2
    config.roles.responder.max_tokens = 8
    config.tree.guards, config.tree.attempts, config.tree.min_turns = (), 1, 1
    config.conversations.min_margin = 0.0
    config.dataset.row.tokens, config.dataset.row.targets = 1024, 256
    config.dataset.row.replies, config.dataset.row.pairs = 32, 32
    config.dataset.max_path = 1024
    config.sft.batch, config.preference.batch = 1, 2
    config.sft.checkpoint_every, config.preference.checkpoint_every = 2, 2
    config.benchmark.turns, config.benchmark.max_tokens, config.benchmark.resamples = 2, 8, 50
    config.benchmark.concurrency = 6
    config.export.dtype = "float32"


# Batches that fill one row of 8,192 tokens on each of 16 chips with ten-turn conversations (`aloe plan` tells the fill
# of yours). AdamW's learning rate is scaled by the square root of the batch (arXiv 2205.10287), so 4.35 times the
# paper's in preference training; it has been tuned for neither.
THROUGHPUT_CONVERSATIONS, THROUGHPUT_PAIRS = 91, 910


def fill_slice(config: ConfigDict) -> None:
    """Batches for throughput on 16 chips instead of the paper's 48, with the learning rate that goes with them."""
    for section, batch in ((config.sft, THROUGHPUT_CONVERSATIONS), (config.preference, THROUGHPUT_PAIRS)):
        section.learning_rate *= (batch / section.batch) ** 0.5
        section.batch = batch


# The paper mixes a general set of chats and code into SFT. Which one is the user's choice, a file of `messages`; the
# share, as many chats as trees an epoch, is ours.
CHATS, CHATS_WEIGHT = "chats.jsonl", 1.0


def mix_chats(config: ConfigDict) -> None:
    """Ordinary chats beside the trees, as in the paper's SFT; preference training has no part in them."""
    config.dataset.sources.chat.path = CHATS
    config.dataset.sources.chat.weight = CHATS_WEIGHT


# All stages, in order.
STAGES = ("personas", "conversations", "dataset", "sft", "preference", "benchmark", "export", "report")

# What each argument of a config file runs; the empty one runs everything.
TO_SFT = ("personas", "conversations", "dataset", "sft")
TO_PREFERENCE = (*TO_SFT, "preference")
ARGUMENTS = {
    "": (),
    "sft": TO_SFT,
    "preference": TO_PREFERENCE,
    "sft-paper": TO_SFT,
    "preference-paper": TO_PREFERENCE,
    "sft-mixed": TO_SFT,
    "preference-mixed": TO_PREFERENCE,
    "debug": (),
}


def is_debug(arg: str, file: str) -> bool:
    """Whether the argument of a config file that has only "debug" asks for it. ValueError for another argument."""
    if arg not in ("", "debug"):
        raise ValueError(f"{file} takes no argument or 'debug', not {arg!r}")
    return arg == "debug"


def finish(config: ConfigDict, arg: str, debug_model: str) -> ConfigDict:
    """`config` for a config file's argument, locked: "sft" and "preference" run the stages up to that training with
    batches that fill 16 chips, "sft-paper" and "preference-paper" with the paper's, "sft-mixed" and "preference-mixed"
    with those and ordinary chats mixed in, "debug" runs all stages with the smallest numbers and `debug_model`.
    ValueError for another argument."""
    if arg not in ARGUMENTS:
        raise ValueError(f"the argument is {arg!r}; expected one of {', '.join(name for name in ARGUMENTS if name)}")
    config.stages = ARGUMENTS[arg]
    if arg in ("sft", "preference"):
        fill_slice(config)
    if arg.endswith("-mixed"):
        mix_chats(config)
    if arg == "debug":
        shrink(config)
        config.model.source, config.model.sizes = debug_model, ConfigDict()
    return config.lock()

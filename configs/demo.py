"""The whole pipeline on a real open model, sized for a laptop: two CPU cores, ten minutes, under 6 GB of memory.

    uv run aloe run --config=configs/demo.py --workdir=runs/demo

`--config=configs/demo.py:debug` runs the same stages with the smallest numbers, to see that everything works.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty, or "debug" for the smallest run."""
    if arg not in ("", "debug"):
        raise ValueError(f"configs/demo.py takes no argument or 'debug', not {arg!r}")
    debug = arg == "debug"
    config = ConfigDict()
    config.seed = 0  # of everything that is drawn: personas, replies, batches

    config.model = ConfigDict()
    config.model.source = "embedded:smollm2"  # a Hugging Face folder, a hub id, a GGUF file, or an embedded model

    config.template = ConfigDict()
    config.template.date = "26 Jul 2024"  # what templates that tell the date say, frozen so that runs repeat
    config.template.system = "keep"  # or fold_into_first_user, for templates that refuse a system message

    config.mesh = ConfigDict()
    config.mesh.replica = 1  # copies of the model, across slices
    config.mesh.fsdp = -1  # rows and parameter shards; -1 takes the devices that are left
    config.mesh.tensor = 1  # heads and MLP width

    config.compute = ConfigDict()
    config.compute.dtype = "float32"  # of activations; bfloat16 on TPUs
    config.compute.attention = "blocked"  # or dense, the slow reference
    config.compute.remat = True  # compute activations again in the backward pass instead of keeping them
    config.compute.chunk = 256  # targets that go through the output head at a time

    config.serve = ConfigDict()
    config.serve.base_url = ""  # an OpenAI-compatible server for data generation; empty: our own, on loopback
    config.serve.model = ""  # the model's name on that server
    config.serve.slots = 12  # sequences that decode together
    config.serve.context = 640  # tokens that prompt and reply may have together

    config.lora = ConfigDict()  # low-rank adapters in SFT and preference training, instead of training all weights
    config.lora.maps = ""  # which linear maps have one: a regular expression over query, key, value, output, gate, up,
    # down and, where it is not tied, head: "query|value", ".*"; empty trains all weights
    config.lora.rank = 16
    config.lora.alpha = 32.0  # the adapter's output is scaled by alpha / rank
    config.lora.dropout = 0.0  # share of the adapters' inputs dropped in training

    config.personas = ConfigDict()
    config.personas.profiles = 12  # training profiles
    config.personas.personalities = 8  # training personalities
    config.personas.pairings = 1  # personalities drawn for each training profile
    config.personas.benchmark_profiles = 3  # held-out profiles ...
    config.personas.benchmark_personalities = 2  # ... crossed with held-out personalities

    config.conversations = ConfigDict()
    config.conversations.source = ""  # a trees.jsonl to train on instead of growing trees (see `aloe convert`)
    config.conversations.trees = 2 if debug else 12  # conversation trees, one a persona
    config.conversations.turns = 2 if debug else 3  # user turns of each
    config.conversations.hinted = 2  # candidate replies a turn that see what the user has shown so far ...
    config.conversations.plain = 1  # ... and those that see the dialogue alone
    config.conversations.min_margin = 0.1  # judge's margin (2p - 1) from which two candidates become a preference
    config.conversations.temperature = 0.7  # of the candidates; small models ramble above it
    config.conversations.top_p = 0.9
    config.conversations.max_tokens = 8 if debug else 32  # longest reply
    config.conversations.concurrency = 6  # trees that grow at the same time

    config.dataset = ConfigDict()
    config.dataset.row = ConfigDict()  # capacity of a row; a conversation that does not fit goes on in another row
    config.dataset.row.tokens = 1024
    config.dataset.row.targets = 768
    config.dataset.row.replies = 32
    config.dataset.row.pairs = 32
    config.dataset.max_path = 768  # longest path in tokens; whole turns are cut from the left beyond it

    config.sft = _training("sft", learning_rate=1e-5, batch=4)
    config.preference = _training("dpo", learning_rate=5e-6, batch=24)
    config.preference.beta = 0.1  # strength of the pull towards the reference model (paper: 0.9)

    config.benchmark = ConfigDict()
    config.benchmark.models = ("base", "sft", "preference")
    config.benchmark.turns = 2 if debug else 3  # user turns of a dialogue (paper: 10)
    config.benchmark.temperature = 0.7
    config.benchmark.top_p = 0.9
    config.benchmark.max_tokens = 8 if debug else 32
    config.benchmark.concurrency = 12  # dialogues at the same time
    config.benchmark.resamples = 2000  # of the two-way bootstrap

    config.export = ConfigDict()
    config.export.model = "preference"  # or sft
    config.export.adapter = False  # True: only the adapters of config.lora, for `peft`, instead of the merged model
    config.export.dtype = "float32"  # of the exported tensors

    config.lock()
    return config


def _training(objective: str, learning_rate: float, batch: int) -> ConfigDict:
    """Settings that both trainings have."""
    section = ConfigDict()
    section.objective = objective
    section.learning_rate = learning_rate  # at the peak (paper: 1e-5 with batches of 48)
    section.schedule = "linear"  # after the warm-up: linear or cosine to zero, or constant
    section.warmup = 0.1  # share of the steps
    section.epochs = 1
    section.batch = batch  # conversations (sft) or pairs (preference) a step
    section.rows = 1  # rows a micro-batch, rounded up to the mesh's row shards
    section.clip_norm = 1.0  # of the gradient
    section.b1, section.b2 = 0.9, 0.95  # AdamW
    section.weight_decay = 0.0
    section.checkpoint_every = 2  # steps
    return section

"""`aloe plan` with a tiny model that is compiled for a real slice; exit codes; the report as text and JSON."""

import dataclasses
import importlib.util
import json
import re
from types import SimpleNamespace

import jax
import pytest

from aloe_jax import files
from aloe_jax.cli import main as cli
from aloe_jax.parallel.chips import CHIPS
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.plan import compile as compiling
from aloe_jax.plan import plan as planning
from aloe_jax.plan.compile import Figures
from aloe_jax.plan.report import FIRST_LINE
from aloe_jax.run import defaults
from aloe_jax.run.config import load_config
from aloe_jax.train.forward import Compute
from aloe_jax.train.objectives import OBJECTIVES
from aloe_jax.train.state import abstract_state, make_optimizer
from aloe_jax.train.step import make_step
from aloe_jax.tree.pack import empty_row
from aloe_jax.tree.row import Capacity
from helpers.aloe_command import Aloe
from helpers.objective_samples import SETTINGS, pairs, replies
from helpers.tiny import MODEL

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
CONFIG = """
from ml_collections import ConfigDict

from aloe_jax.run import defaults

SIZES = {"architectures": ["LlamaForCausalLM"], "vocab_size": 256, "hidden_size": 128, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 256, "max_position_embeddings": 512,
         "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": False}


def get_config(arg=""):
    config = defaults.experiment()
    config.model.source, config.model.sizes = "nobody/nothing", ConfigDict(SIZES)
    config.compute.attention = "dense"
    config.conversations.turns = 2
    config.dataset.row.tokens, config.dataset.row.targets, config.dataset.max_path = 512, 384, 512
    config.dataset.row.replies, config.dataset.row.pairs = 32, 16
    config.serve.slots, config.serve.context = 4, 128
    config.preference.batch = 2
    return config.lock()
"""
# Weights of the model: two layers, embedding and head, and the norms.
LAYERS, HEAD, NORMS = 2 * (4 * 128 * 128 + 3 * 128 * 256), 256 * 128, 5 * 128  # the embedding is as large as the head
PARAMETERS = LAYERS + 2 * HEAD + NORMS


def check_traffic(step):
    """Of four chips each lacks three quarters of every array.

    In bf16 the layers are gathered twice, since the backward pass computes them again, head and embedding once. Sums of
    gradients bring a chip its part (an all-reduce the rest as well, so as much again): those of layers and embedding in
    bf16, that of the head, over all chunks, in f32. What is left are norms and the sums and weights of metrics, in f32;
    these are fewer than 256.
    """
    lacked, received = 3 / 4, step["received"]
    assert received["all-gather"] == lacked * 2 * (2 * LAYERS + HEAD + HEAD)
    sums = received.get("reduce-scatter", 0) + received["all-reduce"] / 2
    assert 0 < sums - lacked * (2 * LAYERS + 2 * HEAD + 4 * HEAD) <= lacked * 4 * (NORMS + 256)
    assert received.keys() <= {"all-gather", "all-reduce", "reduce-scatter"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    (folder / "tiny.py").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def plan(folder):
    """`aloe plan` of the tiny config, in a process of its own, with a cache of its own."""
    aloe = Aloe(folder)
    aloe.environment["ALOE_CACHE"] = str(folder / "cache")

    def call(*arguments):
        return aloe.call(["plan", f"--config={folder / 'tiny.py'}", "--topology=v5e:2x2", *arguments])

    return call


@pytest.fixture(scope="module")
def preference(plan, folder):
    result = plan("--stage=preference", f"--json={folder / 'plan.json'}", "--price=3.6")
    assert result.returncode == 0, result.stderr
    return result, json.loads((folder / "plan.json").read_text())


@needs_libtpu
class TestCompiled:
    def test_text(self, preference):
        lines = preference[0].stdout.splitlines()
        assert lines[0] == FIRST_LINE
        assert "estimates" in lines[0]
        for part in (
            "4 chips as replica 1 x fsdp 4 x tensor 1",
            "15.75 GiB: fits",
            "all-gather",
            "bound by",
            "is 'dense', not the TPU kernel",
        ):
            assert part in preference[0].stdout
        assert "at 3.6 USD a chip and hour" in lines[-1]

    def test_memory(self, preference):
        """Split over four chips but for the norms: parameters, two moments (and two counters), and all in the peak."""
        memory = preference[1]["programs"][0]["memory"]
        shard = 4 * ((PARAMETERS - NORMS) / 4 + NORMS)
        assert memory["parameters"] == shard
        assert memory["optimizer"] == 2 * shard + 8
        assert shard * 3 < memory["peak"] < memory["available"] == CHIPS["v5e"].hbm
        assert preference[1]["fits"] is True

    def test_traffic_and_time(self, preference):
        """The layers are gathered for the forward pass, when it is computed again, and at most once more for what uses
        them last, in bf16; three quarters of each reach a chip. (`test_traffic_as_a_run_would_have_it` is exact.)"""
        (step,) = preference[1]["programs"]
        least, most = (3 / 4 * 2 * (times * LAYERS + 2 * HEAD) for times in (2, 3))
        assert least <= step["received"]["all-gather"] <= most
        time, chip = step["time"], preference[1]["chip"]
        parts = {
            "compute": step["flops"] / chip["flops"],
            "memory": step["hbm"] / chip["hbm_bandwidth"],
            "interconnect": sum(step["received"].values()) / (2 * 50e9),
        }
        assert {name: time[name] for name in parts} == pytest.approx(parts)
        assert time["seconds"] == pytest.approx(max(parts.values()))
        assert parts[time["bound"]] == max(parts.values())
        assert time["one_by_one"] == pytest.approx(sum(parts.values()))

    @pytest.mark.slow
    def test_traffic_as_a_run_would_have_it(self, plan, folder):
        """With the TPU kernel, which `auto` stands for there."""
        result = plan("--stage=preference", "--config.compute.attention=auto", f"--json={folder / 'auto.json'}")
        assert result.returncode == 0, result.stderr
        assert "attention pallas" in result.stdout
        assert "warning" not in result.stdout
        (step,) = json.loads((folder / "auto.json").read_text())["programs"]
        check_traffic(step)

    def test_costs(self, preference):
        """A batch of 2 pairs is one conversation a step; a full step is cheaper a conversation."""
        training = preference[1]["training"]
        configured, full = training["configured"], training["full"]
        assert (configured["batch"], configured["conversations"], training["rows"]) == (2, 1, 4)
        assert configured["chip_seconds"] == pytest.approx(4 * configured["seconds"])
        assert full["conversations"] > 1
        assert full["chip_seconds"] < configured["chip_seconds"]
        assert training["unshared_chip_seconds"] > full["chip_seconds"]
        assert full["rows"] <= 4

    @pytest.mark.slow
    def test_what_was_compiled_before_is_not_compiled_again(self, plan, preference, folder):
        """The learning rate makes no other program. The seconds that the compilation took come from the cache too."""
        again = plan("--stage=preference", "--price=3.6", "--config.preference.learning_rate=1.0")
        assert again.stdout == preference[0].stdout

    @pytest.mark.slow
    def test_what_does_not_fit(self, plan):
        wide = ("hidden_size=16384", "intermediate_size=262144", "num_hidden_layers=1")
        result = plan("--stage=preference", *(f"--config.model.sizes.{size}" for size in wide))
        assert result.returncode == 1
        assert "DOES NOT FIT" in result.stdout
        assert result.stderr.splitlines()[-1].startswith("aloe: preference does not fit a chip of v5e:2x2")

    @pytest.mark.slow
    def test_benchmark(self, plan, folder):
        result = plan("--stage=benchmark", f"--json={folder / 'benchmark.json'}", "--price=3.6")
        assert result.returncode == 0, result.stderr
        found = json.loads((folder / "benchmark.json").read_text())
        dialogue = found["decoding"]["dialogue_seconds"] / 3600 * 3.6 * 1000
        assert f"at 3.6 USD a chip and hour: {dialogue:.3f} USD a thousand dialogues" in result.stdout
        assert [program["name"] for program in found["programs"]] == ["prefill", "burst"]
        assert found["training"] is None
        assert found["decoding"]["tokens_a_second"] > 0

    @pytest.mark.slow
    def test_search(self, plan, folder):
        """Four programs, and with each the settings that make it: a plan with those of the fastest compiles nothing
        anew, and its batch runs at the speed that was promised."""
        result = plan("--stage=preference", "--search", f"--json={folder / 'search.json'}")
        assert result.returncode == 0, result.stderr
        assert result.stderr.count("compiling preference") == 4
        advised = [
            line.split() for line in result.stdout.splitlines() if line.startswith("  --config.preference.batch=")
        ]
        searched = json.loads((folder / "search.json").read_text())["search"]
        assert advised == [[f"--{name}={value}" for name, value in one["settings"].items()] for one in searched]
        assert len(advised) == 4
        kept = len(list((folder / "cache" / "plans").iterdir()))
        again = plan("--stage=preference", f"--json={folder / 'advised.json'}", *advised[0])
        assert again.returncode == 0, again.stderr
        assert len(list((folder / "cache" / "plans").iterdir())) == kept
        found = json.loads((folder / "advised.json").read_text())["training"]
        full = searched[0]["training"]["full"]
        assert found["configured"] == found["full"] == full
        speeds = [one["training"]["full"]["real_tokens"] / one["training"]["full"]["seconds"] for one in searched]
        assert speeds == sorted(speeds, reverse=True)


TOO_LARGE = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (18.00G) exceeds "
    "available HBM (15.75G)."
)
COMPILED = Figures(2.0**30, temporaries=2.0**29, hbm=1e9, seconds=1.0)


@pytest.fixture
def here(folder, tmp_path, monkeypatch, capsys):
    """`aloe plan` in this process, with `compiler(config, ...)` as the compiler: exit code, stdout, lines of stderr."""
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path))

    def call(compiler, *arguments):
        monkeypatch.setattr(planning, "compile_step", lambda *given: lambda: compiler(*given))
        code = cli.main(["plan", f"--config={folder / 'tiny.py'}", "--topology=v5e:2x2", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return call


def refusing(text):
    def compiler(*given):
        raise jax.errors.JaxRuntimeError(text)

    return compiler


@needs_libtpu
class TestRefused:
    def test_what_does_not_fit_has_no_times(self, here, tmp_path):
        """18 GiB are needed: what is no parameter (f32) and no moment counts as temporaries."""
        code, out, said = here(refusing(TOO_LARGE), "--stage=sft", f"--json={tmp_path / 'plan.json'}", "--price=1")
        assert (code, said[-1]) == (1, "aloe: sft does not fit a chip of v5e:2x2; try --search, or take a larger slice")
        assert "18.00 of 15.75 GiB: DOES NOT FIT" in out
        assert "temporaries at least 18.00" in out
        found = json.loads((tmp_path / "plan.json").read_text())
        (step,) = found["programs"]
        assert step["time"] is None
        memory = step["memory"]
        assert memory["temporaries"] + memory["parameters"] + memory["optimizer"] == memory["peak"] == 18 * 2**30
        for filled in (found["training"]["configured"], found["training"]["full"]):
            assert filled["seconds"] is filled["chip_seconds"] is filled["useful"] is None
        assert found["training"]["unshared_chip_seconds"] is None

    def test_any_other_refusal_is_a_sentence(self, here):
        code, out, said = here(
            refusing("INTERNAL: Mosaic failed to compile TPU kernel: VMEM.\nMLIR: ..."), "--stage=sft"
        )
        assert (code, out) == (2, "")
        assert said[-1].startswith("aloe: the TPU compiler refuses the program (INTERNAL: Mosaic failed")
        assert "MLIR" not in said[-1]

    def test_a_module_that_cannot_be_read_is_a_sentence(self, here):
        compiled = SimpleNamespace(memory_analysis=lambda: None, as_text=lambda: "no module")
        code, _, said = here(lambda *given: compiled, "--stage=sft")
        assert code == 2
        assert "cannot be read (the text is no HLO module: it has no ENTRY computation)" in said[-1]

    def test_a_search_at_one_row_a_shard_splits_rows_over_more_chips(self, here, tmp_path):
        """Remat is full and there is one row on each of four shards. What is left: two and one rows, each over two and
        four chips, with batches that these hold."""
        tried = []

        def compiler(config, stage, model, mesh, rows, micro_batches):
            tried.append((dict(mesh.shape), rows, micro_batches, config["compute"]["remat"]))
            raise jax.errors.JaxRuntimeError(TOO_LARGE)

        code, out, said = here(compiler, "--stage=preference", "--search", f"--json={tmp_path / 'plan.json'}")
        assert (code, said[-1].partition("; ")[2]) == (
            1, "nothing that the search tried does; take a larger slice, adapters or shorter rows"
        )  # fmt: skip
        axes = [(4, 1), (2, 2), (1, 4)]
        assert tried == [({"replica": 1, "fsdp": fsdp, "tensor": tensor}, fsdp, 1, "full") for fsdp, tensor in axes]
        searched = json.loads((tmp_path / "plan.json").read_text())["search"]
        batches = [one["settings"]["config.preference.batch"] for one in searched]
        assert batches == [one["training"]["full"]["batch"] for one in searched]
        assert batches == sorted(batches, reverse=True)
        assert all(one["training"]["full"]["rows"] <= one["training"]["rows"] for one in searched)
        assert "--config.mesh.fsdp=1 --config.mesh.tensor=4" in out
        for one in searched:  # the learning rate goes with the square root of the batch, from 1e-5 for 2 pairs
            scale = (one["settings"]["config.preference.batch"] / 2) ** 0.5
            assert one["settings"]["config.preference.learning_rate"] == pytest.approx(1e-5 * scale, rel=5e-3)

    def test_a_search_first_leaves_the_second_gradient_out(self, here):
        """A batch in more than one micro-batch, and a policy that keeps more than needs be."""
        tried = []

        def compiler(config, stage, model, mesh, rows, micro_batches):
            tried.append((rows, micro_batches, config["compute"]["remat"]))
            raise jax.errors.JaxRuntimeError(TOO_LARGE)

        larger = ("--config.preference.batch=40", "--config.preference.rows=8", "--config.compute.remat=dots")
        here(compiler, "--stage=preference", "--search", *larger)
        assert tried[0][1] > 1
        assert tried[1:] == [(8, 1, "full"), (4, 1, "full"), (2, 1, "full")]


@needs_libtpu
class TestSaidInTheReport:
    def test_copies_are_planned_inside_the_slice(self, here, monkeypatch):
        monkeypatch.setattr(planning, "figures", lambda *given: COMPILED)
        assert "config.mesh.replica" not in here(None, "--stage=sft")[1]
        assert (
            "warning: config.mesh.replica is 2: its copies are planned inside this one slice"
            in here(None, "--stage=sft", "--config.mesh.replica=2")[1]
        )

    def test_loops_without_a_bound_and_groups_of_chips(self, here, monkeypatch):
        """2e9 bytes of 6e9 go between two chips over one link, at 50 GB/s, the rest over two: 0.04 + 0.04 s."""
        over = {"2x2x1": 4e9, "1x2x1": 2e9}
        found = dataclasses.replace(
            COMPILED, received={"all-gather": 6e9}, runs={"all-gather": 3}, over=over, unbounded=("while.1", "while.7")
        )
        monkeypatch.setattr(planning, "figures", lambda *given: found)
        out = here(None, "--stage=sft")[1]
        assert "warning: 2 loops of the step do not say how often they run (while.1, while.7)" in out
        assert re.search("interconnect +6 GB +0.08 s", out)
        assert re.search("among 1x2 +2 GB of it at 50 GB/s", out)


@needs_libtpu
class TestKept:
    """What a plan is kept under."""

    @pytest.fixture
    def key(self, folder, monkeypatch):
        """The keys of the plan of a stage with some settings."""

        def call(stage, *settings):
            keys = []
            monkeypatch.setattr(planning, "cached", lambda key, make: keys.append(files.canonical(key)) or COMPILED)
            config = load_config([f"--config={folder / 'tiny.py'}", *settings])
            planning.make_plan(config, stage, "v5e:2x2")
            return keys

        return call

    @pytest.mark.parametrize("stage", ["sft", "benchmark"])
    @pytest.mark.parametrize("changed", ["model.sizes.hidden_size=256", "mesh.tensor=2", "lora.maps=query"])
    def test_model_mesh_and_adapters_count(self, key, stage, changed):
        for kept, other in zip(key(stage), key(stage, f"--config.{changed}"), strict=True):
            assert kept != other

    def test_settings_of_a_run_do_not(self, key):
        settings = (
            "keep=3",
            "keep_every=7",
            "held_out=0.1",
            "measure_every=9",
            "learning_rate=1.0",
            "async_checkpoint=False",
        )
        assert key("sft") == key("sft", *(f"--config.sft.{setting}" for setting in settings))

    def test_a_local_model_counts_with_its_content(self, key, folder, tmp_path):
        """The same sizes in a folder make the same program, other sizes in the same folder another one."""
        sizes = load_config([f"--config={folder / 'tiny.py'}"])["model"]["sizes"]
        path = tmp_path / "config.json"
        path.write_text(json.dumps(sizes))
        source = f"--config.model.source={tmp_path}"
        first = key("sft", source)
        assert first == key("sft")
        path.write_text(json.dumps(sizes | {"intermediate_size": 512}))
        assert key("sft", source) != first


class Read(dict):
    """A section that tells which of its settings were read."""

    def __init__(self, *given):
        super().__init__(*given)
        self.names = set()

    def __getitem__(self, name):
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.names.add(name)
        return super().get(name, default)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_plan_is_kept_under_all_that_its_program_reads(objective):
    """But for what only changes its constants."""
    section = Read(defaults.training(objective).to_dict() | SETTINGS)
    given, all_pairs = replies([0.0, 0.0]), pairs((0, 1))
    jax.eval_shape(lambda *arrays: OBJECTIVES[objective].function(*arrays, section), given, all_pairs)
    optimizer = make_optimizer(section, 1)
    if objective == "dpo":  # what is around an objective is the same for all
        mesh = make_mesh(fsdp=1, devices=jax.devices()[:1])
        rows = jax.tree.map(lambda leaf: leaf[None, None], empty_row(Capacity(32, 16, 4, 4)))
        step = make_step(MODEL, objective, section, Compute(attention="dense"), optimizer, mesh)
        jax.eval_shape(step, abstract_state(MODEL, optimizer, mesh), rows, 1)
    assert section.names - {"learning_rate", "warmup", "weight_decay"} <= set(planning.PROGRAM)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--stage=export", "--topology=v5e:2x2"], "'export' cannot be planned"),
        (["--stage=sft", "--topology=v9:2x2"], "'v9:2x2' is unknown"),
        (["--stage=sft", "--topology=v5e:2x2x2"], "a slice of v5e has 2"),
        (["--stage=sft", "--topology=v5e:3x5"], "libtpu does not compile for 'v5e:3x5'"),
        (["--stage=sft", "--topology=v5e:2x2", "--config.mesh.tensor=3"], "config.mesh"),
        (["--stage=sft", "--topology=v5e:2x2", "--config.sft.objective=ppo"], "config.sft.objective: 'ppo'"),
        (["--stage=sft", "--topology=v5e:2x2", "--config.sft.rows=0"], "config.sft.rows: 0"),
        (["--stage=sft", "--topology=v5e:2x2", "--workdir=nowhere"], "holds no complete dataset"),
        (["--stage=benchmark", "--topology=v5e:2x2", "--search"], "--search"),
    ],
)
@needs_libtpu
def test_bad_input_is_refused(folder, capsys, arguments, said):
    assert cli.main(["plan", f"--config={folder / 'tiny.py'}", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith("aloe: ")
    assert said in captured.err.splitlines()[-1]


def test_without_libtpu_the_command_that_installs_it_is_told(folder, capsys, monkeypatch):
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["plan", f"--config={folder / 'tiny.py'}", "--stage=sft", "--topology=v5e:2x2"]) == 2
    assert "pip install 'aloe_jax[plan]'" in capsys.readouterr().err

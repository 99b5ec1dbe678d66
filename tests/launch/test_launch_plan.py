"""`aloe plan` with a tiny model that is compiled for a real slice; exit codes; the report as text and JSON."""

import importlib.util
import json

import pytest

from aloe_command import Aloe
from aloe_jax import cli
from aloe_jax.launch import compile as compiling
from aloe_jax.launch.report import FIRST_LINE
from aloe_jax.parallel.chips import CHIPS

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
PARAMETERS = 2 * (4 * 128 * 128 + 3 * 128 * 256 + 2 * 128) + 2 * 256 * 128 + 128


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
        norms = 5 * 128
        shard = 4 * ((PARAMETERS - norms) / 4 + norms)
        assert memory["parameters"] == shard
        assert memory["optimizer"] == 2 * shard + 8
        assert shard * 3 < memory["peak"] < memory["available"] == CHIPS["v5e"].hbm
        assert preference[1]["fits"] is True

    def test_traffic_and_time(self, preference):
        """Every weight is gathered at least for the forward pass, in bf16: three quarters of it reach a chip."""
        (step,) = preference[1]["programs"]
        matrices = 2 * (4 * 128 * 128 + 3 * 128 * 256)
        assert step["received"]["all-gather"] >= 0.75 * 2 * matrices
        time, chip = step["time"], preference[1]["chip"]
        assert time["compute"] == step["flops"] / chip["flops"]
        assert time["memory"] == step["hbm"] / chip["hbm_bandwidth"]
        assert time["interconnect"] == pytest.approx(sum(step["received"].values()) / (2 * 50e9))
        assert time["seconds"] == max(time[time["bound"]], 0)

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
        result = plan("--stage=benchmark", f"--json={folder / 'benchmark.json'}")
        assert result.returncode == 0, result.stderr
        found = json.loads((folder / "benchmark.json").read_text())
        assert [program["name"] for program in found["programs"]] == ["prefill", "burst"]
        assert found["training"] is None
        assert found["decoding"]["tokens_a_second"] > 0

    @pytest.mark.slow
    def test_search(self, plan):
        result = plan("--stage=preference", "--search")
        assert result.returncode == 0, result.stderr
        assert result.stderr.count("compiling preference") == 4
        assert sum(line.startswith("--config.preference.rows=") for line in result.stdout.splitlines()) == 4


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

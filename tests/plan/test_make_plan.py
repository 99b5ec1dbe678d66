"""`aloe plan` with a tiny model that is compiled for a real slice; exit codes; the report as text and JSON."""

import json
import math

import pytest

from aloe_jax.cli import main as cli
from aloe_jax.parallel.chips import CHIPS
from aloe_jax.plan import compile as compiling
from aloe_jax.plan.report import FIRST_LINE
from helpers.aloe_command import Aloe
from helpers.tiny_plan import needs_libtpu

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
            "computed in bfloat16, 1 pass of the matrix unit per product",
            "15.75 GiB: fits",
            "all-gather",
            "bound by",
            "is 'dense', not the TPU kernel",
        ):
            assert part in preference[0].stdout
        assert "at 3.6 USD per chip-hour" in lines[-1]
        training = preference[1]["training"]
        steps = math.ceil(training["conversations"] / training["configured"]["conversations"])
        hours = steps * training["configured"]["seconds"] / 3600
        assert f"the config's batch {4 * hours * 3.6:,.2f} USD in {hours:.3g} hours" in lines[-1]
        assert f"conversations with the config's batch: {hours:.3g} hours" in preference[0].stdout

    def test_memory(self, preference):
        """Parameters and two moments (and two counters), split over four chips but for the norms, are in the peak."""
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
        """A batch of 2 pairs is one conversation per step; a full step is cheaper per conversation."""
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
        """The learning rate does not change the program. The seconds of the compilation come from the cache too."""
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
        assert f"at 3.6 USD per chip-hour: {dialogue:.3f} USD per thousand dialogues" in result.stdout
        assert [program["name"] for program in found["programs"]] == ["prefill", "burst"]
        assert found["training"] is None
        assert found["decoding"]["tokens_a_second"] > 0

    @pytest.mark.slow
    def test_search(self, plan, folder):
        """Four programs, each with the settings that make it: a plan with those of the fastest compiles nothing again,
        and its batch runs at the predicted speed."""
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

"""Groups of compiler flags: what `auto` takes, what libtpu accepts, and what `aloe plan --tuning` shows of them."""

import os
import re
import subprocess
import sys

import pytest

from aloe_jax.cli import main as cli
from aloe_jax.cli.devices import chip_name
from aloe_jax.models import decoder
from aloe_jax.parallel.chips import CHIPS
from aloe_jax.plan import tuned
from aloe_jax.plan.compile import ENVIRONMENT
from aloe_jax.plan.flags import VARIABLE
from aloe_jax.plan.tuning import AUTO, GROUPS, REMATS, Use, flags_of, groups_of, remat_for
from helpers.aloe_command import ROOT, Aloe
from helpers.tiny_plan import needs_libtpu

COMPILE = """
import sys, jax
from jax.experimental import topologies
devices = topologies.get_topology_desc(platform="tpu", topology_name=sys.argv[1]).devices
place = jax.sharding.SingleDeviceSharding(devices[0])
jax.jit(lambda x: x @ x).lower(jax.ShapeDtypeStruct((256, 256), "bfloat16", sharding=place)).compile()
"""


def test_auto_takes_what_its_source_uses_for_the_chip():
    small = groups_of([AUTO], "v5p", Use())
    assert small == ("whole_gathers", "async_gathers")
    assert groups_of([AUTO], "v5p", Use(replicas=2)) == (*small, "replica_overlap")
    assert groups_of([AUTO], "v6e", Use(remat="offload"))[-1] == "host_transfers"
    assert groups_of([AUTO, "less_memory"], None, Use()) == ("less_memory",)  # a chip of no table
    assert groups_of(["less_memory", "whole_gathers"], "v5e", Use()) == ("whole_gathers", "less_memory")


def test_flags_of_several_groups_are_there_once_and_agree():
    found = flags_of(tuple(GROUPS))
    names = [flag.partition("=")[0] for flag in found]
    assert sorted(set(found)) == sorted(found)
    rerun = "--xla_latency_hiding_scheduler_rerun"  # more often for a program that does not fit
    assert [name for name in set(names) if names.count(name) > 1] == [rerun]


def test_presets_of_remat_are_values_of_the_setting():
    assert all(one.value in decoder.REMAT and one.chip in CHIPS for one in REMATS)
    assert all(group.source.startswith("https://") and set(group.chips) <= set(CHIPS) for group in GROUPS.values())
    assert remat_for("v5e", 8e9).value == "offload"
    assert remat_for("v5e", 13e9).value == "full"
    assert remat_for("v5e", 70e9) is None


def test_every_group_has_its_line_in_the_guide():
    text = (ROOT / "docs" / "tuning.md").read_text()
    for name, group in GROUPS.items():
        assert re.search(rf"^\| `{name}` \|", text, re.M), name
        assert all(flag in text for flag in group.flags), name


def test_the_chip_by_its_numbers_on_the_bus(tmp_path):
    assert chip_name(tmp_path) is None
    for place, numbers in {"0": ("0x8086", "0x0063"), "1": ("0x1ae0", "0x001f"), "2": ("0x1ae0", "0x006f")}.items():
        (tmp_path / place).mkdir()
        for name, number in zip(("vendor", "device"), numbers, strict=True):
            (tmp_path / place / name).write_text(f"{number}\n")
    assert chip_name(tmp_path) == "v6e"


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_libtpu_accepts_every_flag(topology):
    """It ends a process with a flag that it does not know, as the second call shows."""
    for more, code in (("", 0), (" --xla_tpu_no_such_flag=true", 1)):
        wanted = " ".join(flags_of(tuple(GROUPS))) + more
        environment = {**os.environ, **ENVIRONMENT, "JAX_PLATFORMS": "cpu", VARIABLE: wanted}
        if code == 0 or topology == "v5e:2x2":
            done = subprocess.run([sys.executable, "-c", COMPILE, topology], env=environment, capture_output=True)
            assert bool(done.returncode) == bool(code), done.stderr.decode()[-2000:]


@needs_libtpu
@pytest.mark.slow
def test_each_group_is_compiled_with_and_without(folder):
    """The tiny model's time lies in its gathers: without the first group XLA makes permutes of them."""
    aloe = Aloe(folder)
    aloe.environment["ALOE_CACHE"] = str(folder / "cache")
    config = f"--config={folder / 'tiny.py'}"
    done = aloe.call(["plan", config, "--topology=v5e:2x2", "--stage=sft", "--tuning"])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[2].split()[:3] == ["no", "group", "step"]
    assert lines[3].split()[:2] == ["whole_gathers", "step"]
    assert lines[4].split()[0] == "--config.compute.remat=offload"
    assert any(line.startswith("whole_gathers: ") and GROUPS["whole_gathers"].source in line for line in lines)


def test_a_plan_that_fails_is_told(folder, monkeypatch, capsys):
    monkeypatch.setattr(tuned.subprocess, "run", lambda *args, **more: subprocess.CompletedProcess(args, 2, "", "a\nb"))
    arguments = [f"--config={folder / 'tiny.py'}", "--topology=v5e:2x2", "--stage=sft", "--tuning"]
    assert cli.main(["plan", *arguments]) == 1
    assert "ended with exit code 2 (b)" in capsys.readouterr().err

"""The arithmetic of estimates, by hand."""

import dataclasses
import re
from types import SimpleNamespace

import jax
import pytest

from aloe_jax.errors import InputError
from aloe_jax.models.decoder import REMAT
from aloe_jax.models.lora import Lora
from aloe_jax.parallel.chips import CHIPS, chip_of
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.plan.figures import Figures, too_large
from aloe_jax.plan.program import estimated
from aloe_jax.plan.roofline import roofline, step_flops
from aloe_jax.plan.topology import parse_topology
from aloe_jax.train.forward import Compute
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.settings import PreferenceSettings
from aloe_jax.train.state import abstract_state
from aloe_jax.train.step import make_step
from aloe_jax.tree.pack import empty_row, stack
from aloe_jax.tree.row import Capacity
from helpers.aloe_command import ROOT
from helpers.tiny import MODEL

# The weights of a layer of the tiny model, and the width of its heads together; it has two layers.
WEIGHTS, HEAD_WIDTH = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 96, 8 * 8
ROW = Capacity(tokens=256, targets=200, replies=8, pairs=8)


@pytest.mark.parametrize(("dtype", "passes"), [("bfloat16", 1), ("float32", 6)])
def test_a_float32_product_takes_six_passes(dtype, passes):
    """197 TFLOP of a v5e's 197 TFLOP/s take a second in bf16, and as many as there are passes at precision highest;
    the operations are the same, and so is the time that 819 GB of its 819 GB/s take."""
    topology = parse_topology("v5e:2x2")
    found = Figures(needed=1.0, hbm=819e9)
    program = estimated("step", found, topology, dtype=dtype, parameters=0, optimizer=0, flops=197e12)
    assert (program.flops, program.time.compute, program.time.memory) == (197e12, passes, 1.0)


def test_slices():
    """Axes: 4 is no ring on v5e, 16 is; on v5p only whole cubes are rings; an axis of one chip has no link."""
    assert parse_topology("v5e:4x4").bandwidth == 2 * 50e9
    assert parse_topology("v5e:16x16").bandwidth == 4 * 50e9
    assert parse_topology("v5e:8x16").bandwidth == 3 * 50e9
    assert parse_topology("v5p:2x2x4").bandwidth == 3 * 100e9
    assert parse_topology("v5p:4x4x8").bandwidth == 6 * 100e9
    assert parse_topology("v6e:1x4").bandwidth == 100e9
    assert parse_topology("v6e:4x8").chips == 32
    assert [parse_topology(name).name for name in ("v5e-16", "v5litepod-8", "v6e-256", "v5p-32")] == [
        "v5e:4x4", "v5e:2x4", "v6e:16x16", "v5p:2x2x4",
    ]  # fmt: skip
    for name in ("v5e", "v5e:4", "v9:4x4", "v5e:4x4x4", "v5p:4x4", "v5e:0x4", "v5e:4*4"):
        with pytest.raises(InputError, match="--topology"):
            parse_topology(name)


def test_groups_of_chips():
    """A group that lies along one axis has that axis' links: two where it fills a ring, one elsewhere."""
    for slice_of, extents, links in (
        ("v5e:4x4", (4, 1, 1), 1),
        ("v5e:16x16", (1, 16, 1), 2),
        ("v5e:16x16", (8, 16, 1), 3),
        ("v5e:16x16", (1, 8, 1), 1),
        ("v5p:4x4x8", (1, 4, 2), 3),
        ("v5e:4x4", (1, 1, 1), 1),  # a message from chip to chip
    ):
        topology = parse_topology(slice_of)
        assert topology.bandwidth_over(extents) == links * topology.chip.link_bandwidth


def test_chips_behind_devices():
    """The device kinds of three generations, as tests/ops/test_tpu_attention.py finds them in topologies."""
    kinds = {"TPU v5 lite": CHIPS["v5e"], "TPU v5": CHIPS["v5p"], "TPU v6 lite": CHIPS["v6e"], "cpu": None}
    assert {kind: chip_of(SimpleNamespace(device_kind=kind)) for kind in kinds} == kinds


def test_the_documentation_lists_every_chip():
    row = next(line for line in (ROOT / "docs/plan.md").read_text().splitlines() if line.startswith("| `--topology`"))
    assert set(re.findall(r"`(v\w+)`", row)) == set(CHIPS)


def test_the_slowest_part_binds():
    slice_of = parse_topology("v5e:4x4")
    chip = CHIPS["v5e"]
    found = roofline(2 * chip.flops, 3 * chip.hbm_bandwidth, {"4x4x1": 4e11}, slice_of)
    assert dataclasses.astuple(found) == (2, 3, 4)
    assert (found.seconds, found.one_by_one, found.bound) == (4, 9, "interconnect")
    assert roofline(2 * chip.flops, 3 * chip.hbm_bandwidth, {}, slice_of).bound == "memory"
    assert roofline(0, 0, {"4x4x1": 1e11, "4x1x1": 1e11, "1x1x1": 1e11}, slice_of).interconnect == 1 + 2 + 2


def test_operations_of_a_step():
    """Twice the weights per token; the layers forward, again but for their last map, and twice backward; the head on
    whole chunks of targets."""
    layers, last, head = 2 * 256 * 2 * WEIGHTS, 2 * 256 * 2 * 64 * 96, 2 * 256 * 64 * MODEL.vocab
    attention = 2 * 2 * 1000 * 2 * HEAD_WIDTH

    def flops(remat, implementation, model=MODEL, rows=1):
        return step_flops(model, Compute(remat=remat, chunk=128), ROW, implementation, 1000, rows)

    expected = 3 * (4 * layers - last + 4 * head + 4 * attention)
    assert flops("full", "dense", rows=3) == pytest.approx(expected, rel=1e-12)
    assert flops("full", "pallas") == pytest.approx(4 * layers - last + 4 * head + 5.5 * attention, rel=1e-12)
    assert flops("dots", "pallas") == pytest.approx(3 * layers + 4 * head + 4.5 * attention, rel=1e-12)
    assert flops("attention", "pallas") == pytest.approx(4 * layers - last + 4 * head + 4.5 * attention, rel=1e-12)
    adapted = dataclasses.replace(MODEL, lora=Lora(("query",), 4, 8.0))
    assert flops("dots", "pallas", adapted) == pytest.approx(2 * layers + 3 * head + 4.5 * attention, rel=1e-12)


@pytest.mark.parametrize("remat", REMAT)
@pytest.mark.parametrize("changes", [{}, {"post_norms": True}, {"lora": Lora(("output",), 1, 1.0)}])
def test_operations_of_a_step_are_those_that_xla_counts(remat, changes):
    """Of a step without loops, one layer and one chunk, before the compiler merges what is computed twice.

    XLA counts every other operation too: at most 20 for each element of what the products give, which take 2 x 256
    operations per element and more except for the scores' 2 x 64 per head, of which there are few, and for the
    weights, of which each takes 20 in the optimiser beside 6 x 512 in the products. So its figure lies up to 5 % above.
    """
    model = dataclasses.replace(
        MODEL, vocab=2048, dim=256, layers=1, heads=4, kv_heads=4, head_dim=64, mlp_dim=1024, tied=False, **changes
    )
    row, training = Capacity(512, 512, 8, 8), PreferenceSettings(objective="dpo", turn_buckets=3)
    compute = Compute(attention="dense", remat=remat, chunk=512)
    mesh = make_mesh(fsdp=1, devices=jax.devices()[:1])
    optimizer = make_optimizer(training, 1)
    step = make_step(model, training, compute, optimizer, mesh)
    rows = stack([stack([empty_row(row)])])
    counted = step.lower(abstract_state(model, optimizer, mesh), rows, 1).cost_analysis()["flops"]
    expected = step_flops(model, compute, row, "dense", 512 * 512, 1)
    assert expected <= counted <= 1.05 * expected


def test_refusals_of_the_compiler():
    gib = 2**30
    said = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (18.01G) exceeds"
    )
    assert too_large(f"{said} available HBM (15.75G).") == (18.01 * gib, 15.75 * gib)
    assert too_large("Ran out of memory in memory space hbm. Used 900.50M of 0.75G hbm.") == (900.5 * 2**20, 0.75 * gib)
    assert too_large("INTERNAL: Mosaic failed to compile") is None

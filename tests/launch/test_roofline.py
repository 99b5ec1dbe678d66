"""The arithmetic of estimates, by hand."""

import dataclasses
from types import SimpleNamespace

import pytest

from aloe_jax.errors import InputError
from aloe_jax.launch.compile import too_large
from aloe_jax.launch.roofline import roofline, step_flops
from aloe_jax.launch.topology import parse_topology
from aloe_jax.models.lora import Lora
from aloe_jax.parallel.chips import CHIPS, chip_of
from tiny import MODEL

# The weights of a layer of the tiny model, and the width of its heads together; it has two layers.
WEIGHTS, HEAD_WIDTH = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 96, 8 * 8
CONFIG = {
    "compute": {"remat": "full", "chunk": 128},
    "dataset": {"row": {"tokens": 256, "targets": 200}},
}


def test_slices():
    """Axes: 4 is no ring on v5e, 16 is; on v5p only whole cubes are rings; an axis of one chip has no link."""
    assert parse_topology("v5e:4x4").bandwidth == 2 * 50e9
    assert parse_topology("v5e:16x16").bandwidth == 4 * 50e9
    assert parse_topology("v5e:8x16").bandwidth == 3 * 50e9
    assert parse_topology("v5p:2x2x4").bandwidth == 3 * 100e9
    assert parse_topology("v5p:4x4x8").bandwidth == 6 * 100e9
    assert parse_topology("v6e:1x4").bandwidth == 100e9
    assert parse_topology("v6e:4x8").chips == 32
    for name in ("v5e", "v5e:4", "v9:4x4", "v5e:4x4x4", "v5p:4x4", "v5e:0x4", "v5e:4*4"):
        with pytest.raises(InputError, match="--topology"):
            parse_topology(name)


def test_chips_behind_devices():
    """The kinds that devices of the three generations have: tests/ops/test_tpu_attention.py sees them in topologies."""
    kinds = {"TPU v5 lite": CHIPS["v5e"], "TPU v5": CHIPS["v5p"], "TPU v6 lite": CHIPS["v6e"], "cpu": None}
    assert {kind: chip_of(SimpleNamespace(device_kind=kind)) for kind in kinds} == kinds


def test_the_slowest_part_binds():
    slice_of = parse_topology("v5e:4x4")
    chip = CHIPS["v5e"]
    found = roofline(2 * chip.flops, 3 * chip.hbm_bandwidth, {"all-gather": 1e11, "all-reduce": 3e11}, slice_of)
    assert dataclasses.astuple(found) == (2, 3, 4)
    assert (found.seconds, found.one_by_one, found.bound) == (4, 9, "interconnect")
    assert roofline(2 * chip.flops, 3 * chip.hbm_bandwidth, {}, slice_of).bound == "memory"


def test_operations_of_a_step():
    """Twice the weights a token; the layers forward, again, and twice backward; the head on whole chunks of targets."""
    layers, head, attention = 2 * 256 * 2 * WEIGHTS, 2 * 256 * 64 * MODEL.vocab, 2 * 2 * 1000 * 2 * HEAD_WIDTH
    assert step_flops(MODEL, CONFIG, "dense", 1000, 3) == pytest.approx(
        3 * (4 * layers + 4 * head + 4 * attention), rel=1e-12
    )
    kept = CONFIG | {"compute": CONFIG["compute"] | {"remat": "dots"}}
    assert step_flops(MODEL, kept, "pallas", 1000, 1) == pytest.approx(
        3 * layers + 4 * head + 4.5 * attention, rel=1e-12
    )
    attention_kept = CONFIG | {"compute": CONFIG["compute"] | {"remat": "attention"}}
    assert step_flops(MODEL, attention_kept, "pallas", 1000, 1) == pytest.approx(
        4 * layers + 4 * head + 4.5 * attention, rel=1e-12
    )
    adapted = dataclasses.replace(MODEL, lora=Lora(("query",), 4, 8.0))
    assert step_flops(adapted, kept, "pallas", 1000, 1) == pytest.approx(
        2 * layers + 3 * head + 4.5 * attention, rel=1e-12
    )


def test_refusals_of_the_compiler():
    gib = 2**30
    said = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (18.01G) exceeds"
    )
    assert too_large(f"{said} available HBM (15.75G).") == (18.01 * gib, 15.75 * gib)
    assert too_large("Ran out of memory in memory space hbm. Used 900.50M of 0.75G hbm.") == (900.5 * 2**20, 0.75 * gib)
    assert too_large("INTERNAL: Mosaic failed to compile") is None

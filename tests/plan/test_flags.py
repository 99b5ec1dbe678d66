"""The compiler flag that `aloe plan` and `aloe run` share."""

from pathlib import Path

import pytest

from aloe_jax.cli import commands, devices
from aloe_jax.cli import main as cli
from aloe_jax.plan.flags import FLAG, NAME, VARIABLE, flags, set_flag
from helpers.aloe_command import ROOT


@pytest.mark.parametrize(
    ("given", "after"),
    [
        (None, FLAG),
        ("--xla_other=1", f"--xla_other=1 {FLAG}"),  # as JAX itself adds one on a machine with TPUs
        (f"{NAME}=100 --xla_other=1", f"{NAME}=100 --xla_other=1"),
    ],
)
def test_what_the_user_has_set_stays(monkeypatch, given, after):
    if given is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, given)
    assert set_flag() == (given != after)
    assert flags() == after
    assert not set_flag()


@pytest.mark.parametrize("tpus", [True, False])
def test_a_run_on_tpus_sets_it_and_says_so(monkeypatch, capsys, tmp_path, tpus):
    monkeypatch.setenv(VARIABLE, "--xla_other=1")
    monkeypatch.setattr(commands, "has_tpus", lambda: tpus)
    demo = f"--config={ROOT / 'configs/demo.py'}:debug"
    assert cli.main(["run", demo, f"--workdir={tmp_path}", "--stages=none"]) == 2  # there is no such stage
    said = [line for line in capsys.readouterr().err.splitlines() if VARIABLE in line]
    assert len(said) == tpus
    assert all(FLAG in line for line in said)
    assert (FLAG in flags()) == tpus


@pytest.mark.parametrize(
    ("platforms", "chips", "expected"),
    [
        (None, ["/dev/accel0"], True),
        ("tpu,cpu", ["/dev/vfio/0"], True),
        ("cpu", ["/dev/accel0"], False),
        (None, [], False),
    ],
)
def test_what_tells_that_a_run_is_on_tpus(monkeypatch, platforms, chips, expected):
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: name == "libtpu" or None)
    monkeypatch.setattr(devices, "_chips", lambda: [Path(chip) for chip in chips])
    if platforms is None:
        monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    else:
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert devices.has_tpus() == expected

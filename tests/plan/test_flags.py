"""The compiler flags that `aloe plan`, `aloe run` and launched jobs share."""

from pathlib import Path

import pytest

from aloe_jax.cli import devices, running
from aloe_jax.cli import main as cli
from aloe_jax.plan.flags import DEFAULT, VARIABLE, add_flags, flags, libtpu_flags
from aloe_jax.plan.tuning import flags_of
from helpers.aloe_command import ROOT

(FLAG,) = flags_of(DEFAULT)
NAME = FLAG.partition("=")[0]


@pytest.mark.parametrize(
    ("given", "after", "kept"),
    [
        (None, FLAG, ()),
        ("--xla_other=1", f"--xla_other=1 {FLAG}", ()),  # as JAX itself adds one on a machine with TPUs
        (f"{NAME}=100 --xla_other=1", f"{NAME}=100 --xla_other=1", (f"{NAME}=100",)),
        (FLAG, FLAG, ()),
    ],
)
def test_what_the_user_has_set_stays_and_is_told(monkeypatch, given, after, kept):
    if given is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, given)
    added = add_flags([FLAG])
    assert flags() == after
    assert added.kept == kept
    assert bool(added.line()) == (given != FLAG)
    assert all(flag in added.line() for flag in kept)


def test_a_config_of_before_there_was_tuning_has_its_default():
    assert libtpu_flags("v5e", {}) == (FLAG,)
    assert libtpu_flags("v5e", {"tuning": ()}) == ()


@pytest.mark.parametrize("tpus", [True, False])
def test_a_run_on_tpus_sets_it_and_says_so(monkeypatch, capsys, tmp_path, tpus):
    monkeypatch.setenv(VARIABLE, "--xla_other=1")
    monkeypatch.setattr(running, "has_tpus", lambda: tpus)
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

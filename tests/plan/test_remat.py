"""What `config.compute.remat=auto` becomes, where that is told and kept."""

import json
from dataclasses import replace

import pytest

from aloe_jax.cli import main as cli
from aloe_jax.cli import running
from aloe_jax.cli.experiment import load_experiment
from aloe_jax.cli.launching import _compiler_flags
from aloe_jax.hub.families import model_config
from aloe_jax.models import decoder
from aloe_jax.plan.flags import VARIABLE, flags
from aloe_jax.plan.remat import decide_remat, interrupted_remat, parameters_of
from aloe_jax.plan.tuning import GROUPS
from aloe_jax.run.manifest import Manifest
from helpers.aloe_command import ROOT

AUTO = "--config.tuning=auto"
OFFLOADING = GROUPS["host_transfers"].flags


def settings(*more, model="llama3_8b"):
    return load_experiment([f"--config={ROOT / 'configs'}/{model}.py", *more])


@pytest.mark.parametrize(
    ("chip", "more", "before", "value", "said"),
    [
        ("v5e", [AUTO], "", "offload", "offload, v5e, 8.0 billion parameters: llama3.1-8b with rows of 8,192 tokens"),
        ("v6e", [f"{AUTO},less_memory"], "", "offload", "offload, v6e, 8.0 billion parameters"),
        ("v5e", [AUTO], "dots", "dots", "dots, as the interrupted training of this run has it"),
        ("v5e", [AUTO, "--config.compute.remat=attention"], "dots", "attention", ""),  # the user's own
        ("v5e", [], "", "full", ""),  # without tuning=auto nothing is chosen
        (None, [AUTO], "", "full", ""),  # on CPUs
    ],
)
def test_what_auto_becomes(chip, more, before, value, said):
    found = decide_remat(settings(*more), chip, before)
    assert found.settings["compute"].remat == value
    assert found.line.startswith(f"config.compute.remat=auto: {said}" if said else "")
    assert bool(found.line) == bool(said)


def test_a_larger_model_has_another_preset():
    """29.6 billion parameters in the layers and 2 x 0.5 at both ends: above v5e's sizes, below the 33 of v6e."""
    given = settings(AUTO)
    large = replace(given["model"], sizes={**given["model"].sizes, "num_hidden_layers": 136})
    for chip, said in (
        ("v5e", "30.7 billion parameters: no preset, `aloe plan --search`"),
        ("v6e", "recomputes whole"),
    ):
        found = decide_remat({**given, "model": large}, chip)
        assert found.settings["compute"].remat == "full"
        assert said in found.line


@pytest.mark.parametrize("name", ["llama3_8b", "qwen3_8b", "olmo_7b"])
def test_the_size_is_that_of_the_parameters(name):
    model = model_config(dict(settings(model=name)["model"].sizes), "sizes")
    assert parameters_of(model) == pytest.approx(decoder.parameter_count(model), rel=1e-3)


def test_an_interrupted_training_stays_as_it_began(tmp_path):
    def stage(name, status, *remats):
        free = tuple({"compute": {"remat": remat}} for remat in remats)
        Manifest(stage=name, inputs={}, config={}, versions={}, seed=0, seconds=0.0, free=free, status=status).write(
            tmp_path / name
        )

    assert interrupted_remat(str(tmp_path)) == ""
    stage("sft", "finished", "none")
    assert interrupted_remat(str(tmp_path)) == ""  # nothing goes on
    stage("preference", "running", "offload", "dots")  # changed by a second call
    assert interrupted_remat(str(tmp_path)) == "dots"
    stage("preference", "running", "auto")
    assert interrupted_remat(str(tmp_path)) == ""


def test_a_run_writes_what_it_became(monkeypatch, capsys, folder, tmp_path):
    """On TPUs, which only its flags are set for here: the stage computes nothing."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(running, "has_tpus", lambda: True)
    monkeypatch.setattr(running, "chip_name", lambda: "v6e")
    arguments = ["run", f"--config={folder / 'tiny.py'}", f"--workdir={tmp_path}", "--stages=personas", AUTO]
    assert cli.main(arguments) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "config.compute.remat=auto: offload, v6e" in line]
    assert len(said) == 1
    assert json.loads((tmp_path / "config.json").read_text())["compute"]["remat"] == "offload"
    assert set(OFFLOADING) <= set(flags().split())


def test_a_launched_job_has_the_flags_that_go_with_it():
    assert set(OFFLOADING) <= set(_compiler_flags("v5e:4x4", settings(AUTO)).split())
    assert set(OFFLOADING).isdisjoint(_compiler_flags("v5p:2x2x4", settings(AUTO)).split())

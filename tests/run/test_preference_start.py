"""Preference trainings that start elsewhere than from the run's SFT."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from helpers import tiny
from helpers.aloe_command import copy_stages, run_arguments

pytestmark = pytest.mark.slow
DATA = ("personas", "conversations", "dataset")
LORA = ("--config.lora.maps=query|output|down", "--config.lora.rank=2", "--config.lora.alpha=8.0")


def losses(workdir, stage="preference"):
    return [json.loads(line)["loss"] for line in (workdir / stage / "metrics.jsonl").read_text().splitlines()]


def test_from_the_base_model_without_sft(finished, aloe_process, tiny_model, tmp_path):
    workdir = copy_stages(finished.workdir, tmp_path / "run", *DATA)
    arguments = run_arguments(
        tiny_model, workdir, "--stages=preference,benchmark,export", "--config.export.dtype=float32"
    )
    result = aloe_process.call(
        [*arguments, "--config.preference.start=base", "--config.benchmark.models=('base','preference')"]
    )
    assert result.returncode == 0, result.stderr
    assert losses(workdir)[0] == pytest.approx(np.log(2), abs=1e-5)
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_model, workdir / "export"))
    moved = max(float(np.abs(after[name] - before[name]).max()) for name in before)
    assert 0 < moved < 0.05  # a few steps away from the base model
    assert "sft" not in (workdir / "export/README.md").read_text()
    assert (workdir / "benchmark/preference/metrics.json").exists()


def test_the_stage_sft_with_an_objective_of_pairs(finished, aloe_process, tiny_model, tmp_path):
    """It refers to the base model, from which it starts."""
    workdir = copy_stages(finished.workdir, tmp_path / "run", *DATA)
    settings = ("--config.sft.objective=dpo_norm", "--config.sft.beta=5.0")
    result = aloe_process.call(run_arguments(tiny_model, workdir, "--stages=sft", *settings))
    assert result.returncode == 0, result.stderr
    assert losses(workdir, "sft")[0] == pytest.approx(np.log(2), abs=1e-5)


@pytest.mark.parametrize("adapters", [(), LORA], ids=["all", "lora"])
def test_from_the_sft_of_another_run(adapters, finished, aloe_process, tiny_model, tmp_path):
    """The same training as in that run, bit for bit, and the same model in the end."""
    first = copy_stages(finished.workdir, tmp_path / "first", *DATA)
    stages = "--stages=sft,preference,export"
    result = aloe_process.call(run_arguments(tiny_model, first, stages, *adapters))
    assert result.returncode == 0, result.stderr
    second = copy_stages(first, tmp_path / "second", *DATA)
    start = f"--config.preference.start={first / 'sft'}"
    result = aloe_process.call(run_arguments(tiny_model, second, "--stages=preference,export", start, *adapters))
    assert result.returncode == 0, result.stderr
    assert losses(second) == losses(first)
    ours, theirs = (load_file(folder / "export/model.safetensors") for folder in (second, first))
    for name, weight in theirs.items():
        np.testing.assert_array_equal(ours[name], weight, err_msg=name)


def test_what_it_cannot_start_from(finished, aloe_process, tiny_model, tmp_path):
    """An unfinished training, a model that computes otherwise, no model, itself."""
    workdir = copy_stages(finished.workdir, tmp_path / "run", *DATA)
    other = copy_stages(finished.workdir, tmp_path / "other", "sft")
    manifest = json.loads((other / "sft/manifest.json").read_text())
    (other / "sft/manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    changed = tiny.write_folder(tmp_path / "changed")
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    for start, sentence in (
        (other / "sft", "has not finished; run it to its end first"),
        (changed, "in norm_eps; set config.model.source to it, and start from 'base'"),
        (tmp_path / "nothing", "nothing"),
        ("preference", "config.preference.start: preference must be sft, base or a model"),
    ):
        result = aloe_process.call(
            run_arguments(tiny_model, workdir, "--stages=preference", f"--config.preference.start={start}")
        )
        assert (result.returncode, sentence in result.stderr) == (2, True), result.stderr
        assert not (workdir / "preference").exists()

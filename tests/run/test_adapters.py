"""A run that trains adapters instead of all weights, and what it exports."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from helpers.aloe_command import copy_stages, run_arguments
from helpers.tiny import MODEL

pytestmark = pytest.mark.slow
LORA = ("--config.lora.maps=query|output|down", "--config.lora.rank=2", "--config.lora.alpha=8.0")


@pytest.fixture(scope="module")
def adapted(finished, aloe_process, tiny_model, tmp_path_factory):
    """The run's trainings again, with adapters, exported both ways: (run, merged model)."""
    folder = tmp_path_factory.mktemp("adapted")
    copy_stages(finished.workdir, folder / "run", "personas", "conversations", "dataset")
    arguments = run_arguments(tiny_model, folder / "run", "--stages=sft,preference,export", *LORA)
    result = aloe_process.call([*arguments, "--config.export.adapter=True"])
    assert result.returncode == 0, result.stderr
    merged = aloe_process.call(["export", str(folder / "run/preference"), f"--out={folder / 'merged'}"])
    assert merged.returncode == 0, merged.stderr
    return folder / "run", folder / "merged"


def test_first_preference_loss_is_log_2(adapted):
    """A new adapter beside the SFT model computes the same as the reference, which is the SFT model without it."""
    first = json.loads((adapted[0] / "preference/metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-5)


def test_the_adapter_of_both_trainings_adds_up_to_the_merged_model(adapted, tiny_model):
    """W + alpha / r * B A by PEFT's names and layout, of the two trainings' adapters side by side (rank 2 + 2)."""
    settings = json.loads((adapted[0] / "export/adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (4, 16.0)
    assert sorted(settings["target_modules"]) == ["down_proj", "o_proj", "q_proj"]
    assert settings["base_model_name_or_path"] == str(tiny_model)
    adapter = load_file(adapted[0] / "export/adapter_model.safetensors")
    base, merged = (load_file(folder / "model.safetensors") for folder in (tiny_model, adapted[1]))
    assert len(adapter) == 2 * 3 * MODEL.layers
    moved = 0
    for name, weight in base.items():
        module = "base_model.model." + name.removesuffix(".weight")
        expected = weight
        if f"{module}.lora_A.weight" in adapter:
            product = adapter[f"{module}.lora_B.weight"] @ adapter[f"{module}.lora_A.weight"]
            expected = weight + 16 / 4 * product
            moved += float(np.abs(product).max()) > 0
        np.testing.assert_allclose(merged[name], expected, atol=1e-6, err_msg=name)
    assert moved == 3 * MODEL.layers


def test_an_adapter_needs_adapters(aloe_process, finished, tiny_model, tmp_path):
    result = aloe_process.call(["export", str(finished.workdir / "sft"), f"--out={tmp_path / 'out'}", "--adapter"])
    assert result.returncode == 2
    assert "trained all weights" in result.stderr
    result = aloe_process.call(["export", str(tiny_model), f"--out={tmp_path / 'out'}", "--adapter"])
    assert result.returncode == 2
    assert "is no training stage of a run" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.torch
def test_peft_computes_the_same(adapted, tiny_model):
    """f32 logits of order 1 to 10; the merged weights are rounded once more than the adapter's products."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    tokens = torch.arange(3, 60)[None]
    load = AutoModelForCausalLM.from_pretrained
    with torch.inference_mode():
        beside = peft.PeftModel.from_pretrained(load(tiny_model), adapted[0] / "export")
        got, merged = beside(tokens).logits, load(adapted[1])(tokens).logits
        with beside.disable_adapter():
            base = beside(tokens).logits
    np.testing.assert_allclose(got, merged, atol=1e-4)
    assert (got - base).abs().max() > 1e-3

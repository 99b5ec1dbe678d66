"""README's commands for one's own data and model, run as they stand, with a tiny model."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys

import pytest
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoTokenizer

from helpers.aloe_command import ALOE, DEADLINE, ROOT
from helpers.own_data import DISHES, write_own

pytestmark = pytest.mark.slow
SECTION = "## Your own data and model"


def commands():
    """The commands of README's section, as lists of arguments."""
    section = (ROOT / "README.md").read_text().split(SECTION)[1].split("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    assert len(section.strip().splitlines()) <= 20
    return [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]


@pytest.fixture
def folder(tmp_path):
    """A base model without a chat template, and data in three formats."""
    write_own(tmp_path)
    return tmp_path


def test_the_commands_of_the_readme(folder, aloe_process):
    found = commands()
    assert len(found) == 6
    said = []
    for command in found:
        if command[:3] == ["uv", "run", "aloe"]:
            command = [sys.executable, "-c", ALOE, *command[3:]]
        if command[:3] == ["uv", "run", "python"]:
            if importlib.util.find_spec("torch") is None:
                continue
            command = [sys.executable, *command[3:]]
        result = subprocess.run(
            command, cwd=folder, env=aloe_process.environment, capture_output=True, text=True, timeout=DEADLINE
        )
        assert result.returncode == 0, (command, result.stderr)
        said.append(result.stdout)
    run = folder / "runs/mine"
    counts = json.loads((run / "dataset/manifest.json").read_text())["counts"]
    assert (counts["conversations"], counts["pairs"]) == (3 * len(DISHES), 2 * len(DISHES))
    first = json.loads((run / "preference/metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(0.5, abs=1e-5)  # sigmoid(0)
    assert not (run / "sft").exists()
    before, after = (load_file(path / "model.safetensors") for path in (folder / "my-base", run / "export"))
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)
    assert AutoConfig.from_pretrained(run / "export").architectures == ["LlamaForCausalLM"]
    rendered = AutoTokenizer.from_pretrained(run / "export").apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert rendered == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert "chosen" in said[1]
    assert "preference" in said[2 + 1]
    card = said[-1]
    assert "apo_zero_unpaired" in card
    assert f"{3 * len(DISHES)} conversations with {2 * len(DISHES)} preference pairs and {len(DISHES)} labelled" in card

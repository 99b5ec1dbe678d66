"""Model cards: what the hub's own library reads in them, and what they may not say."""

import dataclasses
import re

import pytest
from etils import epath
from huggingface_hub import ModelCard as HubCard

from aloe_jax.hub import card, exporter, load
from aloe_jax.hub.card import Origin, TrainedBy
from aloe_jax.hub.origin import origin_of
from helpers import hub_files

LICENCE = {"license": "other", "license_name": "own", "language": ["en", "no"]}
BASE = Origin("Model-1B", "owner/Model-1B", metadata=LICENCE)
CARD = card.ModelCard(
    name="Model-1B-aloe",
    base=BASE,
    summary="A model.",
    data=["12 conversations: grown"],
    trainings=[
        TrainedBy("sft", "sft", "the base model", 8, 8, {"sft.learning_rate": 1e-5, "sft.turn_weights": [1.0, 2.0]}),
        TrainedBy("preference", "dpo", "the result of `sft`", 30, 59, {"preference.beta": 0.1}),
    ],
    limits=["It is small."],
    benchmark={
        "base": {"AL": [2.0, None], "average": 2.0, "IR": None, "R2": None},
        "preference": {
            "AL": [2.5, 3.0], "average": 2.75, "IR": 0.5, "R2": 1.0, "ci": {"average": [2.5, 3.0]}, "cases": 6,
        },
    },
    result="preference",
)  # fmt: skip


def metadata(text):
    """The metadata as the hub's library reads it; the block comes back the same from its own writer."""
    read = HubCard(text)
    assert HubCard(str(read)).data.to_dict() == read.data.to_dict()
    return read.data.to_dict()


def test_the_hub_reads_the_metadata():
    assert metadata(CARD.text()) == {
        "license": "other",
        "license_name": "own",
        "language": ["en", "no"],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["aloe", "preference-alignment"],
        "base_model": "owner/Model-1B",
        "base_model_relation": "finetune",
    }


def test_nothing_is_said_of_a_base_model_without_a_hub_id_or_a_licence():
    text = dataclasses.replace(CARD, base=Origin("mine"), benchmark={}, limits=[]).text()
    assert not metadata(text).keys() & {"base_model", "base_model_relation", "license", "language"}
    assert "- Base model: mine, from files whose place on a hub is not known\n" in text
    assert "## ALOE benchmark" not in text
    assert "## Limits" not in text


def test_figures_steps_and_settings():
    text = CARD.text()
    assert "| base | - | 2 | - | 2 | - | - |" in text
    assert "| **preference** (this model) | 6 | 2.5 | 3 | 2.75 [2.5, 3] | 0.5 | 1 |" in text
    assert "objective `dpo`, from the result of `sft`, step 30 of 59" in text
    assert "> These are the weights of step 30 of 59, not of the last one." in text
    assert "| `sft.learning_rate` | 1e-05 |" in text
    assert "| `sft.turn_weights` | 1.0, 2.0 |" in text
    unfinished = dataclasses.replace(CARD, trainings=[dataclasses.replace(CARD.trainings[1], steps=None)]).text()
    assert "> **Unfinished:** these are the weights of step 30 of a training that had not finished." in unfinished
    whole = dataclasses.replace(CARD, trainings=[dataclasses.replace(CARD.trainings[1], step=59)]).text()
    assert "> " not in whole


def code(text):
    """The Python of a card."""
    (found,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return found


def test_the_usage_code_is_python_and_names_no_other_model():
    for adapter, library, served in (
        (None, "transformers", "vllm serve PATH-OR-HUB-ID\n"),
        (12, "peft", "vllm serve owner/Model-1B --enable-lora --max-lora-rank=16 "),
    ):
        text = dataclasses.replace(CARD, adapter=adapter).text()
        compile(code(text), "card", "exec")
        assert metadata(text)["library_name"] == library
        assert served in text
    assert metadata(text)["base_model_relation"] == "adapter"
    assert "generation_config" not in text
    silent = dataclasses.replace(CARD, variables={"enable_thinking": False}).text()
    assert "prompt = {'add_generation_prompt': True, 'enable_thinking': False}" in code(silent)
    assert '"chat_template_kwargs": {"enable_thinking": false}\nvllm serve' in silent
    templated = dataclasses.replace(CARD, adapter=12, templated=True).text()
    compile(code(templated), "card", "exec")
    assert "model.generation_config = model.generation_config.from_pretrained(name)" in code(templated)
    assert "vllm serve owner/Model-1B --tokenizer=PATH-OR-HUB-ID --generation-config=PATH-OR-HUB-ID " in templated


@pytest.mark.torch
def test_the_usage_code_runs(smollm2, tmp_path, capsys):
    source = code(CARD.text()).replace('"PATH-OR-HUB-ID"', repr(str(smollm2))).replace("=128", "=4")
    exec(compile(source, "card", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_a_card_replaces_the_one_of_the_start_model(tmp_path):
    folder = hub_files.write_tiny(tmp_path / "m")
    (folder / "README.md").write_text("of the start model")
    config, params = load.load_model(folder)
    exporter.export_model(params, config, folder, tmp_path / "out", card=CARD)
    assert (tmp_path / "out/README.md").read_text() == CARD.text()


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ("---\nlicense: mit\nlanguage:\n- en\nbase_model: a/parent\n---\n", {"license": "mit", "language": ["en"]}),
        ("---\nlicense: [1, 2]\nlanguage: de\n---\n", {"language": "de"}),
        ("---\nlicense: {a: b\n---\n", {}),
        ("no block", {}),
        (None, {}),
    ],
)  # fmt: skip
def test_what_the_card_of_a_local_folder_gives(own, found, tmp_path):
    """Its licence and languages; its own base model is not that of what is trained from it."""
    folder = tmp_path / "somewhere/model"
    folder.mkdir(parents=True)
    if own is not None:
        (folder / "README.md").write_text(own)
    assert origin_of(str(folder), epath.Path(folder)) == Origin("model", metadata=found)


def test_hub_ids_are_found_where_they_are_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nothing = epath.Path(tmp_path)
    assert origin_of("owner/name", nothing).hub_id == "owner/name"
    (tmp_path / "owner/name").mkdir(parents=True)
    assert origin_of("owner/name", nothing).hub_id is None  # a local folder of that name comes first
    cached = tmp_path / "models--owner--a--b.c/snapshots/0123"
    assert origin_of(str(cached), nothing) == Origin("a--b.c", "owner/a--b.c")
    assert origin_of("embedded:smollm2", nothing).metadata == {"license": "apache-2.0", "language": ["en"]}
    assert origin_of("random:llama", nothing) == Origin("random-llama", note="random weights")

"""The config files: every argument loads, and the sizes they state are the published models'."""

import pytest

from aloe_jax.cli.experiment import experiment, read_experiment
from aloe_jax.data.mixture import sources_of
from aloe_jax.errors import InputError
from aloe_jax.hub.families import model_config
from aloe_jax.models.decoder import parameter_count
from aloe_jax.run.config import load_config
from helpers.aloe_command import ROOT

# Parameters as the models' cards count them, in millions.
PUBLISHED = {
    "llama3_8b": 8030,
    "mistral_7b": 7248,
    "qwen2_7b": 7616,
    "olmo_7b": 6888,
    "qwen3_8b": 8191,
    "smollm2_135m": 134.5,
}


def load(name, arg="", *more):
    return load_config([f"--config={ROOT}/configs/{name}.py{':' if arg else ''}{arg}", *more])


def test_every_file_is_tried():
    assert {path.stem for path in (ROOT / "configs").glob("*.py")} == {"demo", "demo_llm", "own", "world", *PUBLISHED}


@pytest.mark.parametrize("name", PUBLISHED)
def test_paper_settings(name):
    """Section 3 of the paper: learning rate, epochs, batch, beta, the longest path."""
    config = load(name)
    assert [config[part][key] for part in ("sft", "preference") for key in ("learning_rate", "epochs", "batch")] == [
        1e-5, 1, 48, 1e-5, 1, 48,
    ]  # fmt: skip
    assert config["preference"]["beta"] == 0.9
    model = model_config(config["model"]["sizes"], name)
    assert config["dataset"]["max_path"] == min(8192, model.context)
    assert parameter_count(model) / 1e6 == pytest.approx(PUBLISHED[name], abs=0.51)


@pytest.mark.parametrize("name", PUBLISHED)
def test_arguments(name):
    assert load(name)["stages"] == []
    for end in ("sft", "preference"):
        assert load(name, end)["stages"][-1] == load(name, f"{end}-paper")["stages"][-1] == end
    assert load(name, "sft")["stages"] == ["personas", "conversations", "dataset", "sft"]
    paper = load(name)
    for part in ("sft", "preference"):
        assert load(name, "sft-paper")[part] == load(name, "preference-paper")[part] == paper[part]
    debug = load(name, "debug")
    assert debug["model"]["source"].startswith("random:")
    assert debug["model"]["sizes"] == {}
    known = "sft, preference, sft-paper, preference-paper, sft-mixed, preference-mixed, debug"
    with pytest.raises(InputError, match=f"'debgu'; expected one of {known}"):
        load(name, "debgu")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_mix_of_trees_and_chats(name, tmp_path):
    """`:sft-mixed` and `:preference-mixed` differ from the paper's batches by the chats alone."""
    (tmp_path / "mine.jsonl").write_text("{}")
    for end in ("sft", "preference"):
        paper, mixed = load(name, f"{end}-paper"), load(name, f"{end}-mixed")
        assert {part for part in paper if paper[part] != mixed[part]} == {"dataset"}
        assert mixed["dataset"]["sources"]["trees"] == paper["dataset"]["sources"]["trees"]
        with pytest.raises(
            InputError, match=r"config\.dataset\.sources\.chat\.path: file 'chats.jsonl' does not exist"
        ):
            sources_of(read_experiment(mixed)["dataset"])
        mine = load(name, f"{end}-mixed", f"--config.dataset.sources.chat.path={tmp_path / 'mine.jsonl'}")
        assert [(source.name, source.weight) for source in sources_of(read_experiment(mine)["dataset"])] == [
            ("trees", 1),
            ("chat", 1),
        ]


def test_throughput_scales_the_learning_rate_by_the_square_root_of_the_batch():
    paper, full = load("llama3_8b", "preference-paper"), load("llama3_8b", "preference")
    for part in ("sft", "preference"):
        larger = full[part]["batch"] / paper[part]["batch"]
        assert larger > 1
        assert full[part]["learning_rate"] / paper[part]["learning_rate"] == pytest.approx(larger**0.5, rel=1e-12)
        same = [key for key in full[part] if full[part][key] == paper[part][key]]
        assert set(full[part]) - set(same) == {"batch", "learning_rate"}


def test_files_have_no_key_of_their_own():
    known = experiment()
    for name in ("demo", "own", *PUBLISHED):
        config = load(name)
        assert set(config) == set(known)
        for key, section in config.items():
            if isinstance(section, dict) and key != "model":
                assert set(section) == set(known[key]), key

"""`aloe export` of trainings: which checkpoint, and what its card says of it."""

import dataclasses
import json
import shutil

import jax.numpy as jnp
import pytest
from etils import epath
from huggingface_hub import ModelCard
from safetensors.numpy import load_file

from aloe_jax import files
from aloe_jax.cli.experiment import load_experiment
from aloe_jax.run.manifest import Manifest, read_manifest
from aloe_jax.run.progress import Progress
from aloe_jax.run.stage import Run
from aloe_jax.train.checkpoints import Checkpoints
from aloe_jax.train.export import EXPORT
from aloe_jax.train.export_card import stage_card
from aloe_jax.train.state import TrainState
from helpers import tiny
from helpers.aloe_command import ROOT
from helpers.aloe_in_process import aloe_in_process, refused

STEPS = (2, 4)  # of the checkpoints that are kept
SFT = {"objective": "sft", "learning_rate": 1e-5}
PREFERENCE = {"objective": "simpo", "start": "sft", "beta": 2.0, "gamma": 0.5, "nll_weight": 1.0, "ranking": "value"}
ROLES = {"user": {"player": "scripted"}, "judge": {"player": "model", "model": "/secret/judge"}}


@pytest.mark.parametrize("model", ["sft", "preference"])
def test_it_needs_the_training_that_it_exports_and_no_other(model, tmp_path):
    """A run that ends with SFT has no preference training to wait for."""
    settings = load_experiment([f"--config={ROOT / 'configs/demo.py'}:debug", f"--config.export.model={model}"])
    assert EXPORT.reads(Run(epath.Path(tmp_path), settings, Progress())) == (model,)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory with a finished SFT training of four steps, of which two are kept."""
    root = tmp_path_factory.mktemp("trained")
    base = tiny.write_folder(root / "base")
    with Checkpoints(root / "run/sft/checkpoints", keep=len(STEPS), asynchronous=False) as checkpoints:
        for step in STEPS:
            state = TrainState(jnp.asarray(step, jnp.int32), tiny.params(step), {}, {})
            checkpoints.save(state, {"next_index": step})
    manifest("sft", base, sft=SFT).write(epath.Path(root / "run/sft"))
    return root


def manifest(stage, base, status="finished", steps=4, **sections):
    config = {"model": {"source": str(base)}, "lora": {}, "compute": {"dtype": "float32"}, **sections}
    return Manifest(stage, status=status, config=config, counts={"steps": steps} if status == "finished" else {})


@pytest.fixture
def run(trained, tmp_path):
    """A copy whose files a test may change."""
    return epath.Path(shutil.copytree(trained / "run", tmp_path / "run"))


def test_the_checkpoint_of_a_step(run, trained, tmp_path, capsys):
    with aloe_in_process(capsys) as aloe:
        for arguments, step in (((), 4), (("--step=2",), 2)):
            out = tmp_path / f"out{step}"
            assert aloe("export", run / "sft", f"--out={out}", *arguments)[0] == 0
            stored = load_file(out / "model.safetensors")["model.embed_tokens.weight"]
            assert (stored == tiny.params(step)["embed"]).all()
            card = (out / "README.md").read_text()
            assert f"step {step} of 4" in card
            assert ("not of the last one" in card) == (step == 2)
            assert "base_model" not in ModelCard(card).data.to_dict()
            assert str(trained) not in card
        refused(aloe("export", run / "sft", f"--out={tmp_path / 'no'}", "--step=3"), "--step=3", "of steps 2, 4")
        refused(aloe("export", trained / "base", f"--out={tmp_path / 'no'}", "--step=2"), "--step=2", "no training")
        refused(aloe("export", trained / "base", f"--out={tmp_path / 'no'}", "--unfinished"), "--unfinished")


def test_an_unfinished_training_says_so(run, trained, tmp_path, capsys):
    manifest("sft", trained / "base", "running", sft=SFT).write(run / "sft")
    files.write_json(run / "benchmark/sft/metrics.json", {"AL": [2.0], "average": 2.0})  # of an earlier training
    with aloe_in_process(capsys) as aloe:
        out = tmp_path / "out"
        refused(aloe("export", run / "sft", f"--out={out}"), "has not finished", "of step 4", "--unfinished")
        assert not out.exists()
        assert aloe("export", run / "sft", f"--out={out}", "--unfinished")[0] == 0
    card = (out / "README.md").read_text()
    assert "> **Unfinished:** these are the weights of step 4 of a training that had not finished." in card
    assert "## ALOE benchmark" not in card


def written(run, stage, **changes):
    found = dataclasses.replace(manifest(stage, "owner/model"), **changes)
    (run / stage).mkdir(exist_ok=True, parents=True)
    found.write(run / stage)


def grown(run):
    """A run with both trainings on conversations that it grew."""
    written(run, "conversations", config={"roles": ROLES, "conversations": {"source": ""}}, counts={"trees": 12})
    counts = {"sources": {"trees": {"conversations": 12, "pairs": 1_440}}}
    sources = {"trees": {"path": "", "weight": 1.0}, "chat": {"path": "", "weight": 1.0}}
    written(run, "dataset", config={"dataset": {"sources": sources}}, counts=counts)
    dataset = {"max_path": 512, "sources": sources}
    model = {"source": "owner/model", "template": "/home/me/chatml.jinja"}
    config = {"model": model, "dataset": dataset, "lora": {"maps": "", "rank": 16}}
    written(run, "sft", config=config | {"sft": SFT})
    written(run, "preference", config=config | {"preference": PREFERENCE}, counts={"steps": 59})


def card_of(run, stage="preference", step=59):
    return stage_card(run / stage, run, step)


def test_a_card_has_the_settings_in_force_of_all_trainings_and_no_others(tmp_path):
    run = epath.Path(tmp_path / "run")
    grown(run)
    card = card_of(run)
    assert [each.name for each in card.trainings] == ["sft", "preference"]
    assert dict(card.trainings[1].settings) == {
        "preference.objective": "simpo",
        "preference.beta": 2.0,
        "preference.gamma": 0.5,
        "model.template": "chatml.jinja",
        "dataset.max_path": 512,
        "dataset.sources.trees.weight": 1.0,
        "seed": 0,
    }
    text = card.text()
    assert "- Data: 12 conversations with 1,440 preference pairs grown by aloe_jax with simulated users" in text
    assert "objective `simpo`, from the result of `sft`, step 59 of 59" in text
    assert "/secret" not in text
    assert ModelCard(text).data.base_model == "owner/model"
    written(run, "preference", config={"model": {"source": "m"}, "preference": PREFERENCE | {"start": "base"}})
    assert "sft" not in card_of(run, step=4).text()
    silent = {"template": {"variables": '{"enable_thinking": false}'}, "model": {"source": "owner/model"}}
    written(run, "preference", config=silent | {"preference": PREFERENCE})
    assert "'enable_thinking': False" in card_of(run, step=4).text()


@pytest.mark.parametrize("place", ["conversations", "dataset"])
def test_own_data_is_not_called_simulated(place, tmp_path):
    run = epath.Path(tmp_path / "run")
    grown(run)
    if place == "conversations":
        written(run, "conversations", config={"conversations": {"source": "/home/me/mine.jsonl"}}, counts={"trees": 12})
    else:
        (run / "conversations").rmtree()
        counts = {"sources": {"trees": {"conversations": 12, "pairs": 1_440}, "chat": {"conversations": 3, "pairs": 0}}}
        sources = {"trees": {"path": "/home/me/mine.jsonl"}, "chat": {"path": "/home/me/chats.jsonl"}}
        written(run, "dataset", config={"dataset": {"sources": sources}}, counts=counts)
    text = card_of(run).text()
    assert "12 conversations with 1,440 preference pairs, given by whoever trained the model" in text
    assert ("mixed in as `chat`: 3 conversations" in text) == (place == "dataset")
    assert "imulated" not in text
    assert "ALOE, arXiv" not in text
    assert "/home/me" not in json.dumps(text)


def test_a_card_shows_results_of_any_name(tmp_path):
    """The run's own models first, then others and controls; nothing of a training that came later, and nothing at all
    for a checkpoint that was not measured."""
    run = epath.Path(tmp_path / "run")
    grown(run)
    for name in ("big", "preference+no_history", "preference", "base", "sft"):
        files.write_json(run / "benchmark" / name / "metrics.json", {"AL": [2.0], "average": 2.0})
    card = card_of(run)
    assert list(card.benchmark) == ["base", "sft", "preference", "big", "preference+no_history"]
    assert "| preference+no_history | - | 2 | 2 | - | - |" in card.text()
    assert "| **preference** (this model) |" in card.text()
    assert list(card_of(run, "sft", 4).benchmark) == ["base", "sft", "big"]
    assert card_of(run, step=10).benchmark == {}
    for identity, kept in (("of another training", False), (read_manifest(run / "preference").identity, True)):
        Manifest("benchmark/preference", inputs={"preference": identity}).write(run / "benchmark/preference")
        assert ("preference" in card_of(run).benchmark) == kept

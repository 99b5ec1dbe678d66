"""What a job's settings name must be on its hosts, which get this folder, or an image."""

import subprocess
from pathlib import Path

import pytest

from helpers.aloe_in_process import refused

SOURCE, DATA = "--config.model.source=", "--config.dataset.sources.trees.path="


@pytest.fixture
def clone(launch):
    """The folder of the command as a clone that has files beside it, in it, and in a folder that git ignores."""
    here = Path.cwd() / "clone"
    for name in ("../beside/pairs.jsonl", "data/pairs.jsonl", "runs/a/pairs.jsonl", "data/ [x].jsonl"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).touch()
    (here / ".gitignore").write_text("/runs/\n")
    subprocess.run(["git", "init", "--quiet", here], check=True)
    return here


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        (DATA + "{beside}/pairs.jsonl", ["config.dataset.sources.trees.path: '/", "of their own", "gs:// URL"]),
        (DATA + "../beside/*.jsonl", ["'../beside/*.jsonl'", "get this folder alone"]),
        (DATA + "data/pairs.jsonl,runs/a/pairs.jsonl", ["'runs/a/pairs.jsonl'", ".gitignore"]),
        (SOURCE + "{beside}", ["config.model.source: '/", "of their own"]),
        (SOURCE + "runs/a", ["config.model.source: 'runs/a'", ".gitignore"]),
        ("--config.benchmark.models=('base', 'other=runs/a')", ["config.benchmark.models: 'runs/a'", ".gitignore"]),
    ],
)
def test_files_that_stay_behind_are_refused(launch, clone, monkeypatch, argument, parts):
    """Before the machines are there, and their first stage ends because of it."""
    monkeypatch.chdir(clone)
    refused(launch("--on=skypilot", argument.format(beside=clone.parent / "beside")), *parts)


@pytest.mark.parametrize(
    "argument",
    [
        DATA + "data/pairs.jsonl, data/ [x].jsonl",
        DATA + "gs://bucket/pairs.jsonl",
        SOURCE + "/models/that/an/image/has",
        SOURCE + "meta-llama/Meta-Llama-3-8B",
    ],
)
def test_files_that_are_copied_or_elsewhere_are_not(launch, clone, monkeypatch, argument):
    monkeypatch.chdir(clone)
    assert launch("--on=skypilot", argument)[0] == 0


def test_a_list_of_what_is_not_copied_takes_the_place_of_gits(launch, clone, monkeypatch):
    monkeypatch.chdir(clone)
    (clone / ".skyignore").touch()
    assert launch("--on=skypilot", SOURCE + "runs/a")[0] == 0


def test_a_config_that_git_ignores(launch, clone, monkeypatch):
    monkeypatch.chdir(clone)
    (clone / "runs/own.py").write_text(
        "from aloe_jax.cli.experiment import experiment\n\n\ndef get_config(arg=''):\n    return experiment().lock()\n"
    )
    refused(launch("--on=skypilot", config="runs/own.py"), "--config: 'runs/own.py'", ".gitignore")


def test_an_image_is_told_of(launch, clone, monkeypatch):
    """Nothing shows here what an image has."""
    monkeypatch.chdir(clone)
    image = ("--config.launch.image=i", "--config.launch.queue=q")
    code, out, _ = launch("--on=jobset", *image, SOURCE + "runs/a")
    assert code == 0
    assert "the image must have what these settings name" in out
    assert "config.model.source ('runs/a')" in out

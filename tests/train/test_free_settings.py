"""Settings that may change when a training continues: only those that do not affect its result."""

import dataclasses
import io
import json

import pytest
from etils import epath
from rich.console import Console

from aloe_jax.cli.experiment import Experiment
from aloe_jax.errors import InputError
from aloe_jax.run.progress import Progress
from aloe_jax.run.stage import Run, run_stages
from aloe_jax.train.stage import PREFERENCE, SFT

FREE = {
    "rows": 4, "checkpoint_every": 7, "checkpoint_minutes": 3.0, "keep": 3, "keep_every": 100,
    "async_checkpoint": False, "measure_every": 5,
}  # fmt: skip
FREE_COMPUTE = {"remat": "none", "chunk": 64, "attention": "dense"}


@pytest.fixture(params=[SFT, PREFERENCE], ids=["sft", "preference"])
def call(request, tmp_path):
    """(stage name, config, function that runs the stage with a config and returns its manifest).

    The stage's checks are the real ones; its work is replaced by one that trains nothing and is interrupted once.
    """
    calls = []

    def work(run):
        calls.append(run)
        if len(calls) == 1:
            (run.directory(request.param.name) / "metrics.jsonl").write_text("")  # work that a change would lose
            raise KeyboardInterrupt
        return {}

    stage = dataclasses.replace(
        request.param, needs=(), inputs=lambda run: {}, outputs=(), check=lambda run: None, work=work
    )

    def start(config):
        run = Run(epath.Path(tmp_path), config, Progress(Console(file=io.StringIO())))
        run_stages([stage], run, [stage.name])
        return json.loads((tmp_path / stage.name / "manifest.json").read_text())

    config = vars(Experiment())
    with pytest.raises(KeyboardInterrupt):
        start(config)
    return stage.name, config, start


def test_a_training_goes_on_with_less_memory_and_fewer_checkpoints(call):
    """The manifest records the settings at the start and after the change."""
    name, config, start = call
    first = {"compute": {key: getattr(config["compute"], key) for key in FREE_COMPUTE}}
    first |= {name: {key: getattr(config[name], key) for key in FREE}}
    changed = config | {
        "compute": dataclasses.replace(config["compute"], **FREE_COMPUTE),
        name: dataclasses.replace(config[name], **FREE),
    }
    manifest = start(changed)
    assert manifest["status"] == "finished"
    assert manifest["free"] == [first, {"compute": FREE_COMPUTE, name: FREE}]
    assert manifest["config"]["compute"] == {"dtype": "bfloat16"}
    assert manifest["config"][name]["batch"] == 48
    assert start(config) == manifest  # a finished stage is not repeated


def test_everything_else_is_refused(call):
    name, config, start = call
    others = [(name, key) for key in vars(config[name]) if key not in FREE]
    others += [("compute", "dtype"), *(("lora", key) for key in vars(config["lora"])), ("dataset", "max_path")]
    for section, key in others:
        other = "float32" if key == "dtype" else "other"
        changed = config | {section: dataclasses.replace(config[section], **{key: other})}
        with pytest.raises(InputError, match=rf"\({section}\.{key}: .* -> \"{other}\"\)"):
            start(changed)


def test_a_source_of_the_name_of_a_free_key_is_not_free(call):
    _, config, start = call
    sources = config["dataset"].sources
    dataset = dataclasses.replace(config["dataset"], sources={**sources, "rows": sources["chat"]})
    changed = config | {"dataset": dataset}
    with pytest.raises(InputError, match=r"dataset\.sources\.rows"):
        start(changed)

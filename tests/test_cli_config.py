"""`aloe config`: every setting with its value and origin, and the refusal of unknown and renamed ones."""

import re

import pytest

from aloe_jax.cli.experiment import Experiment
from aloe_jax.settings import leaves
from helpers.aloe_command import ROOT
from helpers.aloe_in_process import refused

DEMO = f"--config={ROOT / 'configs/demo.py'}:debug"
FILE = """
from aloe_jax.cli.experiment import experiment

def get_config(arg=""):
    config = experiment()
    {line}
    return config.lock()
"""


@pytest.fixture
def file(tmp_path):
    """A function from one line of a config file to the argument that names the file."""

    def write(line):
        (tmp_path / "mine.py").write_text(FILE.format(line=line))
        return f"--config={tmp_path / 'mine.py'}"

    return write


def shown(result):
    """(value, origin) by setting of what `aloe config` printed."""
    code, out, errors = result
    assert code == 0, errors
    rows = re.findall(r"^config\.(\S+) +(\S.*?) +(default|file|command line)$", out, re.MULTILINE)
    return {name: (value, origin) for name, value, origin in rows}


def test_origins(aloe):
    """The demo sets batch, leaves epochs at its default and sets checkpoint_every, which the command line changes."""
    found = shown(aloe("config", DEMO, "--config.sft.checkpoint_every=9"))
    assert found["sft.batch"] == ("2", "file")
    assert found["sft.epochs"] == ("1", "default")
    assert found["sft.checkpoint_every"] == ("9", "command line")
    assert found["preference.checkpoint_every"] == ("4", "file")


def test_every_setting_is_shown_with_its_meaning(aloe, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = aloe("config", DEMO)
    assert list(shown(result)) == [name for name, _, _ in leaves(Experiment())]
    lines = result[1].splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(result[1].split())
    for _, _, meaning in leaves(Experiment()):
        assert meaning in text


def test_a_value_of_the_command_line_that_equals_the_default(aloe):
    assert shown(aloe("config", DEMO, "--config.sft.epochs=1"))["sft.epochs"] == ("1", "command line")


def test_a_key_inside_a_setting(aloe, file):
    config = file("config.model.sizes = {'hidden_size': 64}")
    sizes = shown(aloe("config", config, "--config.model.sizes.hidden_size=32"))["model.sizes"]
    assert sizes == ('{"hidden_size": 32}', "command line")


def test_one_section(aloe):
    found = shown(aloe("config", DEMO, "--section=sft"))
    assert {name.partition(".")[0] for name in found} == {"sft"}
    assert {name.rpartition(".")[0] for name in shown(aloe("config", DEMO, "--section=roles.judge"))} == {"roles.judge"}
    assert list(shown(aloe("config", DEMO, "--section=sft.batch"))) == ["sft.batch"]


@pytest.mark.parametrize(
    ("section", "parts"),
    [
        ("prefrence", ["'prefrence' is unknown", "seed, stages, model", "did you mean 'preference'?"]),
        ("roles.juge", ["did you mean 'roles.judge'?"]),
        ("s", ["'s' is unknown", "sft, preference, online, benchmark, export"]),
    ],
)
def test_an_unknown_section(aloe, section, parts):
    refused(aloe("config", DEMO, f"--section={section}"), "--section", *parts)


def test_a_renamed_setting(aloe, file):
    present = "config.sft.async_checkpoint; rename it"
    refused(
        aloe("config", DEMO, "--config.sft.save_beside=False"), "--config.sft.save_beside is now called --", present
    )
    config = file("config.sft.save_beside = False")
    refused(aloe("config", config), "aloe: config.sft.save_beside is now called ", present)


def test_a_typo_in_a_config_file(aloe, file):
    refused(aloe("config", file("config.sft.bach = 2")), "no key 'config.sft.bach'", "did you mean 'batch'?")
    refused(aloe("config", file("config.prefrence = 2")), "no key 'config.prefrence'", "did you mean 'preference'?")
    refused(aloe("config", file("config.sft.batch = 0")), "config.sft.batch: 0 must be at least 1")
    refused(aloe("config", file("config.sft.batch = 'all'")), "'batch'", "mine.py")


def test_a_run_refuses_the_same(aloe, file, tmp_path):
    run = ["run", f"--workdir={tmp_path / 'run'}", "--stages=personas"]
    refused(aloe(*run, file("config.sft.bach = 2")), "did you mean 'batch'?")
    refused(aloe(*run, DEMO, "--config.sft.save_beside=False"), "is now called --config.sft.async_checkpoint")
    assert not (tmp_path / "run").exists()


def test_a_config_file_that_returns_nothing_is_one_sentence(aloe, tmp_path, caplog):
    (tmp_path / "empty.py").write_text("def get_config():\n    pass\n")
    refused(aloe("config", f"--config={tmp_path / 'empty.py'}"), "returned NoneType, expected a ConfigDict")
    assert not caplog.records

"""The ways in which a command may be typed: spaces, versions, lists, a run's own config, dry runs, completion."""

import json
import re
import shutil
import subprocess

import pytest

from aloe_jax.cli.completion import script
from aloe_jax.cli.parser import make_parser
from aloe_jax.cli.shipped import arguments_of
from aloe_jax.cli.spaced import joined
from aloe_jax.run.config import load_config, shipped
from helpers.aloe_command import ROOT
from helpers.aloe_in_process import contents, refused

DEMO = f"{ROOT / 'configs/demo.py'}:debug"


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("--config demo --fresh", "--config=demo --fresh"),
        ("--config.sft.batch 3 --config.seed=1", "--config.sft.batch=3 --config.seed=1"),
        ("--config.preference.beta -1", "--config.preference.beta=-1"),
        ("--stages a, b , c --fresh", "--stages=a,b,c --fresh"),
        ("--stages=a,b --workdir w", "--stages=a,b --workdir w"),
        ("--stages= a", "--stages= a"),
        ("--stages --fresh --config", "--stages --fresh --config"),
        ("file --out x", "file --out x"),
    ],
)
def test_spaces(typed, read):
    assert joined(["run", *typed.split()]) == ["run", *read.split()]


def test_a_run_with_spaces_and_then_with_its_own_config(aloe, tmp_path):
    """The second call names no config, changes a setting, and goes on where the first one ended."""
    run = ["run", "--workdir", tmp_path / "run", "--stages", "personas,", "dataset"]
    refused(aloe(*run), "--config is missing")
    refused(aloe(*run, "--config", DEMO), "'dataset' needs 'conversations'")
    assert not (tmp_path / "run" / "personas").exists()
    assert aloe(*run[:4], "personas", "--config", DEMO, "--config.seed", "3")[0] == 0
    stored = json.loads((tmp_path / "run/config.json").read_text())
    assert stored["seed"] == 3
    code, _, shown = aloe(*run[:4], "personas", "--config.sft.batch=7")
    assert (code, shown) == (0, "personas: finished before, skipped\n")
    assert json.loads((tmp_path / "run/config.json").read_text()) == {**stored, "sft": {**stored["sft"], "batch": 7}}
    refused(aloe(*run[:4], "personas", "--config.seed=4"), "seed: 3 -> 4")
    refused(aloe(*run[:4], "personas", "--config.sft.bach=4"), "did you mean 'batch'?")


def test_a_stored_config_of_an_earlier_version(aloe, tmp_path):
    """Settings that are new since count with their defaults."""
    run = ["run", f"--workdir={tmp_path / 'run'}", "--stages=personas"]
    assert aloe(*run, f"--config={DEMO}")[0] == 0
    path = tmp_path / "run/config.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "sft": {"batch": 5}, "tree": {}} | {"hosts": {}}))
    assert aloe(*run)[0] == 0
    found = json.loads(path.read_text())
    assert (found["sft"]["batch"], found["sft"]["epochs"]) == (5, 1)
    path.write_text(json.dumps({"architectures": []}))
    refused(aloe(*run), "is no config of a run")


def test_a_dry_run_writes_nothing(aloe, tmp_path):
    run = ["run", f"--config={DEMO}", f"--workdir={tmp_path / 'run'}", "--stages=personas,conversations"]
    code, out, _ = aloe(*run, "--dry-run")
    assert code == 0
    assert re.findall(r"^(\w+) +(\w+) +(.*)$", out, re.MULTILINE)[:2] == [
        ("personas", "run", "not started yet"),
        ("conversations", "run", "not started yet"),
    ]
    assert f"writes: {tmp_path / 'run/personas'}/, personas.jsonl, benchmark.jsonl" in out
    assert out.endswith("Nothing was run or written.\n")
    assert not contents(tmp_path)
    refused(aloe(*run, "--dry-run", "--config.conversations.trees=99"), "conversations.trees")


def test_no_epochs_of_sft_leave_it_out(aloe, tmp_path):
    """Preference training then starts from base, the benchmark has no such model, and its export is refused."""
    run = ["run", f"--config={DEMO}", f"--workdir={tmp_path / 'run'}", "--config.sft.epochs=0"]
    assert aloe(*run, "--stages=personas,sft")[2].endswith("sft: skipped, config.sft.epochs is 0\n")
    stored = json.loads((tmp_path / "run/config.json").read_text())
    assert stored["preference"]["start"] == "base"
    assert stored["benchmark"]["models"] == ["base", "preference"]
    refused(aloe(*run, "--stages=export", "--config.export.model=sft"), "needs 'sft', which does not run")
    refused(aloe(*run, "--config.preference.epochs=0"), "config.preference.epochs: 0 must be at least 1")


def test_version_and_list(capsys):
    for arguments, parts in (
        (["--version"], ["aloe_jax ", "jax "]),
        (["run", "--list"], ["--config=demo\n", "--config=world\n", "arguments: :quick, :debug, :twin"]),
    ):
        with pytest.raises(SystemExit) as left:
            make_parser().parse_args(arguments)
        assert left.value.code == 0
        out = capsys.readouterr().out
        assert all(part in out for part in parts)


def test_listed_arguments_load():
    for name in ("demo", "demo_llm", "smollm2_135m"):
        for argument in arguments_of(shipped()[name]):
            assert load_config([f"--config={name}:{argument}"])["seed"] == 0


# What readline passes, and prints what would be offered.
ASK = """
complete() {{ :; }}
{script}
COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; _aloe 2> /dev/null; printf '%s\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("aloe com", {"compare", "completion"}),
        ("aloe run --st", {"--stages="}),
        ("aloe run --stages=personas,s", {"personas,sft"}),
        ("aloe run --config smollm2_135m:sft-", {"sft-paper", "sft-mixed"}),
        ("aloe run --config=here", {"here.py"}),
        ("aloe run --config.sft.ba", {"--config.sft.batch="}),
        ("aloe report he", {"here.py"}),
        ("aloe convert --refused=", {"error", "drop"}),
        ("aloe completion z", {"zsh"}),
    ],
)
def test_completion_in_bash(tmp_path, line, offered):
    (tmp_path / "here.py").touch()
    ask = ASK.format(script=script("bash", make_parser()), line=line)
    found = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) == offered, found.stderr


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_completion_in_zsh_is_a_script():
    subprocess.run(["zsh", "-n"], input=script("zsh", make_parser()), text=True, check=True)

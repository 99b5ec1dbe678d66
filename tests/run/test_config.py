"""Config files: overrides, and the message for each kind of mistake."""

import json
import sys

import pytest

from aloe_jax.errors import InputError
from aloe_jax.run.config import differences, load_config, overridden, shipped

CONFIG = """
from ml_collections import ConfigDict

def get_config(arg=""):
    if arg not in ("", "debug"):
        raise ValueError(f"takes no argument or 'debug', not {arg!r}")
    config = ConfigDict({"seed": 0, "model": {"source": "a"}, "sft": {"rate": 0.5, "batch": 4, "stages": ("a", "b")}})
    config.sft.batch = 1 if arg else 4
    config.lock()
    return config
"""


@pytest.fixture(autouse=True)
def _one_file_per_process(monkeypatch):
    """As in a command: a second file would run in the namespace of the first."""
    monkeypatch.delitem(sys.modules, "config_config", raising=False)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(CONFIG)
    return path


def test_argument_and_overrides(file):
    config = load_config([f"--config={file}:debug", "--config.sft.rate=2", "--config.model.source=b/c"])
    assert config == {
        "seed": 0,
        "model": {"source": "b/c"},
        "sft": {"rate": 2.0, "batch": 1, "stages": ["a", "b"]},
    }
    assert json.loads(json.dumps(config)) == config  # values survive being stored in a manifest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.sft.batch=two"], r"sft\.batch.*two"),
        (["--config.sft.batch=1.5"], r"sft\.batch.*1\.5"),
        (["--configs=1"], "configs"),
    ],
)
def test_a_wrong_key_or_value_is_named(file, arguments, message):
    with pytest.raises(InputError, match=f"{message}.*the keys and their meaning stand in .*small.py") as caught:
        load_config([f"--config={file}", *arguments])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.sft.rat=1", r"--config\.sft\.rat: .* no key 'config\.sft\.rat'; config\.sft has .*rate"),
        ("--config.dpo.rate=1", r"no key 'config\.dpo'; config has .*sft"),
        ("--config.seed.first=1", r"no key 'config\.seed\.first'; config\.seed is a value"),
    ],
)
def test_an_unknown_key_is_refused_with_the_known_ones(file, argument, message):
    with pytest.raises(InputError, match=message):
        load_config([f"--config={file}", argument])


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_that_is_not_finite_is_named(file, value):
    with pytest.raises(InputError, match=rf"config\.sft\.rate: {value} is not a finite number"):
        load_config([f"--config={file}", f"--config.sft.rate={value}"])


def test_an_unknown_argument_of_the_file(file):
    with pytest.raises(InputError, match="takes no argument or 'debug', not 'big'"):
        load_config([f"--config={file}:big"])


@pytest.mark.parametrize("argument", ["--config.sft.lr=1", "--config.sft.lr[0]=1"])
def test_an_earlier_name_is_refused_with_the_present_one(file, argument):
    with pytest.raises(InputError, match=r"config\.sft\.lr(\[0\])? is now called --config\.sft\.rate; rename it"):
        load_config([f"--config={file}", argument], {"config.sft.lr": "config.sft.rate"})


def test_the_nearest_key_is_suggested(file):
    with pytest.raises(InputError, match=r"no key 'config\.sft\.bach'; .*; did you mean 'batch'\?"):
        load_config([f"--config={file}", "--config.sft.bach=1"])


def test_settings_of_the_command_line():
    arguments = ["--config=demo", "--config.sft.rate=2", "--config.sft.stages[1]=c"]
    assert overridden(arguments) == {"sft.rate", "sft.stages"}


def test_a_shipped_file_is_found_by_its_name():
    assert {"demo", "demo_llm", "llama3_8b"} <= shipped().keys()
    assert load_config(["--config=demo:debug"])["model"]["source"] == "embedded:smollm2"
    with pytest.raises(InputError, match=r"config file 'dmo' does not exist; .*; did you mean 'demo'"):
        load_config(["--config=dmo"])


def test_no_file():
    with pytest.raises(InputError, match="--config is missing; give an experiment file"):
        load_config([])
    with pytest.raises(InputError, match=r"config file '/nowhere/x\.py' does not exist"):
        load_config(["--config=/nowhere/x.py:debug"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:\n", r"SyntaxError: .*line 1"),
        ("import no_such_module\n", r"ModuleNotFoundError: No module named 'no_such_module' \(line 1\)"),
        ("def get_config():\n    return 1 / 0\n", r"ZeroDivisionError: division by zero \(line 2\)"),
        ("x = 1\n", "get_config"),
        ("def get_config():\n    return open('/nowhere/sizes')\n", r"FileNotFoundError: .*No such file.* \(line 2\)"),
        ("def get_config():\n    return {'seed': 0}\n", "returned dict, expected a ConfigDict"),
        (
            "from ml_collections import ConfigDict\n\n"
            "def get_config():\n    return ConfigDict({'seed': 0, 'what': object()})\n",
            "JSON",
        ),
    ],
)
def test_a_broken_file_is_named_with_the_reason(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_config([f"--config={path}"])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_differences():
    old = {"a": 1, "b": {"c": 2, "d": [1]}, "gone": True}
    assert differences(old, {"a": 1, "b": {"c": 3, "d": [1]}, "new": "x"}) == [
        "b.c: 2 -> 3",
        "gone: true -> null",
        'new: null -> "x"',
    ]
    assert differences(old, old) == []


def test_texts_of_a_list_are_split_at_commas(tmp_path):
    path = tmp_path / "lists.py"
    path.write_text(
        "from ml_collections import ConfigDict\n\n"
        "def get_config():\n    return ConfigDict({'names': ('a',), 'empty': (), 'weights': (1.0,)})\n"
    )
    overrides = ["--config.names=b, c,", "--config.empty=d,e", "--config.weights=0.5,2"]
    assert load_config([f"--config={path}", *overrides]) == {
        "names": ["b", "c"], "empty": ["d", "e"], "weights": [0.5, 2.0],
    }  # fmt: skip
    assert load_config([f"--config={path}", "--config.names="])["names"] == []
    assert load_config([f"--config={path}", "--config.names=('b',)"])["names"] == ["b"]


def test_a_config_file_may_import_its_neighbours(tmp_path, monkeypatch):
    (tmp_path / "neighbour_of_config.py").write_text("RATE = 0.25\n")
    path = tmp_path / "importing.py"
    path.write_text(
        "from ml_collections import ConfigDict\n\nfrom neighbour_of_config import RATE\n\n\n"
        "def get_config():\n    return ConfigDict({'rate': RATE})\n"
    )
    before = list(sys.path)
    assert load_config([f"--config={path}"]) == {"rate": 0.25}
    assert sys.path == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config=demo", "--config=llama3_8b"], r"--config is given 2 times \(demo, llama3_8b\); give one file"),
        (["--config="], "--config is missing"),
        (["--config=mine"], r"'mine' does not exist; .*; did you mean 'mine\.py'\?"),
        (["--config=c.yaml"], r"'c\.yaml' must be a Python file with get_config\(\)"),
        (["--config=a:b/mine.py"], "its path must not contain ':'"),
        (["--config=mine.py"], r"SystemExit: no luck \(line 2\)"),
    ],
)
def test_files_that_cannot_be_meant(tmp_path, monkeypatch, arguments, said):
    """A folder of the name of a shipped file, such as a run directory, is not taken for it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("import sys\nsys.exit('no luck')\n")
    (tmp_path / "c.yaml").write_text("batch: 3\n")
    (tmp_path / "a:b").mkdir()
    (tmp_path / "a:b/mine.py").write_text("")
    (tmp_path / "demo").mkdir()
    with pytest.raises(InputError, match=said):
        load_config(arguments)
    assert load_config(["--config=demo"])["model"]["source"] == "embedded:smollm2"

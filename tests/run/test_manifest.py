"""A manifest that is broken: one sentence with the field, never a traceback or another meaning."""

import json

import pytest

from aloe_jax.cli import main as cli
from aloe_jax.errors import InputError
from aloe_jax.run.manifest import Manifest, read_manifest

WHOLE = {
    "stage": "sft",
    "status": "finished",
    "inputs": {"dataset": "ab"},
    "config": {"model": {"source": "m"}, "sft": {"objective": "sft"}},
    "free": [{"sft": {"rows": 1}}],
    "versions": {"jax": "1"},
    "seed": 0,
    "counts": {"steps": 5},
    "seconds": 1.5,
    "outputs": {"metrics.jsonl": "cd"},
}
OTHERS = ["text", 7, -1.5, True, None, [], ["a"], [1], {}, {"a": 1}, {"a": "b"}, [{}]]
# Values of another type that a field may have all the same.
FINE = {
    "inputs": [{}, {"a": "b"}],
    "versions": [{}, {"a": "b"}],
    "config": [{}, {"a": 1}, {"a": "b"}],
    "counts": [{}, {"a": 1}, {"a": "b"}],
    "free": [[], [{}]],
    "seed": [7],
    "seconds": [7, -1.5],
    "outputs": [None, {}, {"a": "b"}],
    "stage": ["text"],
}


@pytest.mark.parametrize("field", WHOLE)
def test_a_field_of_another_type_is_named(tmp_path, field):
    path = tmp_path / "manifest.json"
    for value in OTHERS:
        path.write_text(json.dumps(WHOLE | {field: value}))
        if any(value == fine and type(value) is type(fine) for fine in FINE.get(field, ())):
            assert isinstance(read_manifest(tmp_path), Manifest)
            continue
        expected = "no manifest of a stage" if field == "stage" else f"{field} is .*, expected "
        with pytest.raises(InputError, match=rf"manifest.json: {expected}.*; restore the file"):
            read_manifest(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, '{"stage": "sft", "seed": ' + "9" * 6000 + "}", "\x00", '"stage"']
)
def test_a_file_that_is_none(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400"])
def test_seconds_that_are_no_number(tmp_path, number):
    (tmp_path / "manifest.json").write_text(json.dumps(WHOLE).replace("1.5", number))
    with pytest.raises(InputError, match=r"field 'seconds' is (NaN|Infinity|1e400); expected a finite number"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "changes", [{"config": {}}, {"config": {"model": {}}}, {"config": {"model": 3}}, {"status": 1}]
)
def test_an_export_names_what_the_manifest_lacks(tmp_path, capsys, changes):
    (tmp_path / "sft/checkpoints").mkdir(parents=True)
    (tmp_path / "sft/manifest.json").write_text(json.dumps(WHOLE | changes))
    code = cli.main(["export", str(tmp_path / "sft"), f"--out={tmp_path / 'out'}"])
    errors = capsys.readouterr().err
    assert (code, errors.count("\n")) == (2, 1)
    assert "manifest.json: " in errors

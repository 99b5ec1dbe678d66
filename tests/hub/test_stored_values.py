"""What a weights file may hold: values of its type, all finite, rounded to nothing narrower than its label."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aloe_jax.cli import main as cli
from aloe_jax.hub import importer
from helpers import hub_files

NAME = "model.layers.1.mlp.up_proj.weight"
WEIGHTS = "model.safetensors"


@pytest.fixture
def model(tmp_path):
    """A tiny model with a value at the end of one tensor, or all tensors in another type."""

    def make(value=None, dtype=np.float32):
        folder = hub_files.write_tiny(tmp_path / "m")
        stored = {name: array.astype(dtype) for name, array in load_file(folder / WEIGHTS).items()}
        if value is not None:
            stored[NAME][-1, -1] = value
        save_file(stored, folder / WEIGHTS)
        return folder

    return make


def refused(capsys, tmp_path, command, source, *arguments):
    code = cli.main([command, str(source), f"--out={tmp_path / 'out'}", *arguments])
    errors = capsys.readouterr().err
    assert (code, errors.count("\n")) == (2, 1), errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]
    return errors


@pytest.mark.parametrize("command", ["import", "export"])
@pytest.mark.parametrize("value", [65520.0, -1e30])
def test_a_value_beyond_float16(command, value, model, tmp_path, capsys):
    """65,504 is the largest; 65,520 would be rounded to infinity."""
    errors = refused(capsys, tmp_path, command, model(value), "--dtype=float16")
    assert f"tensor '{NAME}' has the value {abs(value):.4g}, beyond the 6.55e+04 of float16; choose" in errors
    assert cli.main([command, str(tmp_path / "m"), f"--out={tmp_path / 'wide'}", "--dtype=bfloat16"]) == 0


@pytest.mark.parametrize("command", ["import", "export"])
def test_the_largest_value_of_float16_is_kept(command, model, tmp_path):
    assert cli.main([command, str(model(65504.0)), f"--out={tmp_path / 'out'}", "--dtype=float16"]) == 0
    assert load_file(tmp_path / "out" / WEIGHTS)[NAME][-1, -1] == 65504.0


def test_a_value_beyond_bfloat16(model, tmp_path, capsys):
    """The largest f32 is nearer to infinity than to bfloat16's largest value."""
    errors = refused(capsys, tmp_path, "import", model(3.4e38), "--dtype=bfloat16")
    assert f"tensor '{NAME}' has the value 3.4e+38, beyond the 3.39e+38 of bfloat16" in errors


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", None])
def test_a_value_that_is_none(value, dtype, model, tmp_path, capsys):
    errors = refused(capsys, tmp_path, "import", model(value), *([f"--dtype={dtype}"] if dtype else []))
    assert NAME in errors


def test_f64_is_kept_or_refused(model, tmp_path, capsys):
    """JAX rounds to f32, so an export cannot keep it; an import copies it."""
    folder = model(1 / 3, np.float64)
    errors = refused(capsys, tmp_path, "export", folder)
    assert "is float64 and was rounded to float32; choose --dtype=float32" in errors
    assert "tensor '" in errors
    importer.import_model(str(folder), tmp_path / "copy")
    assert load_file(tmp_path / "copy" / WEIGHTS)[NAME][-1, -1] == 1 / 3
    assert cli.main(["export", str(folder), f"--out={tmp_path / 'f32'}", "--dtype=float32"]) == 0
    assert load_file(tmp_path / "f32" / WEIGHTS)[NAME].dtype == np.float32

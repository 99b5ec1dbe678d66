"""What the stage `export` depends on."""

import pytest
from etils import epath

from aloe_jax.cli.experiment import load_experiment
from aloe_jax.run.progress import Progress
from aloe_jax.run.stage import Run
from aloe_jax.train.export import EXPORT
from helpers.aloe_command import ROOT


@pytest.mark.parametrize("model", ["sft", "preference"])
def test_it_needs_the_training_that_it_exports_and_no_other(model, tmp_path):
    """A run that ends with SFT has no preference training to wait for."""
    settings = load_experiment([f"--config={ROOT / 'configs/demo.py'}:debug", f"--config.export.model={model}"])
    assert EXPORT.reads(Run(epath.Path(tmp_path), settings, Progress())) == (model,)

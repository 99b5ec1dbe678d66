"""What the stage `export` depends on, and the results that a model card shows."""

import pytest
from etils import epath

from aloe_jax import files
from aloe_jax.cli.experiment import load_experiment
from aloe_jax.run.manifest import Manifest
from aloe_jax.run.progress import Progress
from aloe_jax.run.stage import Run
from aloe_jax.train.export import EXPORT, stage_card
from helpers.aloe_command import ROOT


@pytest.mark.parametrize("model", ["sft", "preference"])
def test_it_needs_the_training_that_it_exports_and_no_other(model, tmp_path):
    """A run that ends with SFT has no preference training to wait for."""
    settings = load_experiment([f"--config={ROOT / 'configs/demo.py'}:debug", f"--config.export.model={model}"])
    assert EXPORT.reads(Run(epath.Path(tmp_path), settings, Progress())) == (model,)


def test_a_card_shows_results_of_any_name(tmp_path):
    """The run's own models first, then others and controls."""
    run = epath.Path(tmp_path)
    config = {"model": {"source": "owner/model"}, "sft": {"objective": "sft"}}
    (run / "sft").mkdir()
    Manifest("sft", config=config).write(run / "sft")
    for name in ("big", "preference+no_history", "preference", "base"):
        files.write_json(run / "benchmark" / name / "metrics.json", {"AL": [2.0], "average": 2.0})
    card = stage_card(run / "sft")
    assert list(card.benchmark) == ["base", "preference", "big", "preference+no_history"]
    assert "| preference+no_history | 2 | 2 | - | - |" in card.text()

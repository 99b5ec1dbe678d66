"""What the figures of a compilation are kept under."""

import dataclasses
import itertools
import json

import jax
import pytest

from aloe_jax import files
from aloe_jax.cli.experiment import load_experiment
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.plan import program
from aloe_jax.plan.plan import make_plan
from aloe_jax.plan.settings import program_settings
from aloe_jax.train.forward import Compute
from aloe_jax.train.objectives import OBJECTIVES
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.settings import TrainingSettings
from aloe_jax.train.state import abstract_state
from aloe_jax.train.step import make_step
from aloe_jax.tree.pack import empty_row
from aloe_jax.tree.row import Capacity
from helpers.objective_samples import pairs, replies
from helpers.tiny import MODEL
from helpers.tiny_plan import COMPILED, needs_libtpu, planned


@needs_libtpu
class TestKept:
    """The key of a plan's figures."""

    @pytest.fixture
    def key(self, folder, monkeypatch):
        """The keys of the plan of a stage with some settings."""

        def call(stage, *settings):
            keys = []
            monkeypatch.setattr(program, "cached", lambda key, make: keys.append(files.canonical(key)) or COMPILED)
            sections = load_experiment([f"--config={folder / 'tiny.py'}", *settings])
            make_plan(planned(sections), stage, "v5e:2x2")
            return keys

        return call

    @pytest.mark.parametrize(
        ("stage", "changed"),
        [
            *itertools.product(("sft", "benchmark"), ("model.sizes.hidden_size=256", "lora.maps=query")),
            ("sft", "mesh.tensor=2"),
            ("benchmark", "decode.mesh.tensor=2"),
        ],
    )
    def test_model_mesh_and_adapters_count(self, key, stage, changed):
        for kept, other in zip(key(stage), key(stage, f"--config.{changed}"), strict=True):
            assert kept != other

    def test_settings_of_a_run_do_not(self, key):
        settings = (
            "keep=3",
            "keep_every=7",
            "held_out=0.1",
            "measure_every=9",
            "learning_rate=1.0",
            "async_checkpoint=False",
        )
        assert key("sft") == key("sft", *(f"--config.sft.{setting}" for setting in settings))

    def test_a_local_model_counts_with_its_content(self, key, folder, tmp_path):
        """The same sizes in a folder make the same program, other sizes in the same folder another one."""
        sizes = dict(load_experiment([f"--config={folder / 'tiny.py'}"])["model"].sizes)
        path = tmp_path / "config.json"
        path.write_text(json.dumps(sizes))
        source = f"--config.model.source={tmp_path}"
        first = key("sft", source)
        assert first == key("sft")
        path.write_text(json.dumps(sizes | {"intermediate_size": 512}))
        assert key("sft", source) != first


def read_by(kind, names):
    """A settings class like `kind` whose objects add to `names` each setting that is read."""
    known = {one.name for one in dataclasses.fields(kind)}

    class Read(kind):
        def __getattribute__(self, name):
            if name in known:
                names.add(name)
            return super().__getattribute__(name)

    return Read


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_plan_is_kept_under_all_that_its_program_reads(objective):
    """Except for what only changes its constants."""
    kind, names = TrainingSettings, set()
    given = {"objective": objective, "turn_buckets": 2, "turn_weights": (1.0, 0.5)}
    settings = read_by(kind, names)(**given)
    one_row, all_pairs = replies([0.0, 0.0]), pairs((0, 1))
    jax.eval_shape(lambda *arrays: OBJECTIVES[objective].function(*arrays, settings), one_row, all_pairs)
    optimizer = make_optimizer(settings, 1)
    if objective == "dpo":  # what is around an objective is the same for all
        mesh = make_mesh(fsdp=1, devices=jax.devices()[:1])
        rows = jax.tree.map(lambda leaf: leaf[None, None], empty_row(Capacity(32, 16, 4, 4)))
        step = make_step(MODEL, settings, Compute(attention="dense"), optimizer, mesh)
        jax.eval_shape(step, abstract_state(MODEL, optimizer, mesh), rows, 1)
    assert "turn_weights" in names
    assert names - {"learning_rate", "warmup", "weight_decay"} <= set(program_settings(kind(**given)))

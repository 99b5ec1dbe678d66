"""Data, programs and results of the small training, created once per session."""

import functools
import json

import pytest
from etils import epath

from aloe_jax import files
from aloe_jax.data.builder import IDS, FragmentSource, write_dataset
from aloe_jax.data.pipeline import Batches, micro_batch_rows
from aloe_jax.data.plan import pack_plan
from aloe_jax.train import loop
from aloe_jax.train.forward import make_score
from aloe_jax.train.loop import train
from aloe_jax.train.reference import reference_log_probs
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.trie import build_trie
from helpers.small_training import CAPACITY, COMPUTE, copied, training
from helpers.tiny import CHAT, MODEL, params
from helpers.tree_samples import aloe_tree


@pytest.fixture(scope="session", autouse=True)
def traced_once():
    """One jitted step per settings and plan: a new one in every training would be traced and lowered again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_optimizer", functools.cache(loop.make_optimizer))
        patch.setattr(loop, "make_step", functools.cache(loop.make_step))
        yield


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    trees = [aloe_tree(2, name=f"t{number}") for number in range(5)]
    write_dataset(
        [part for n, tree in enumerate(trees) for part in fragments(tree, build_trie(tree, CHAT), CAPACITY, n)], folder
    )
    files.write_lines(folder / IDS, (json.dumps({"id": tree.id, "source": "trees"}) for tree in trees))
    return FragmentSource(folder)


@pytest.fixture(scope="session")
def batches(source, one_device):
    plan = pack_plan(source.sizes, source.conversation, CAPACITY, batch=2, unit="pairs", seed=0, epochs=1)
    return Batches(source, plan, CAPACITY, micro_batch_rows(1, one_device))


@pytest.fixture(scope="session")
def reference(batches, one_device, tmp_path_factory):
    folder = epath.Path(tmp_path_factory.mktemp("reference"))
    return reference_log_probs(params(), make_score(MODEL, COMPUTE), batches, one_device, folder, {"model": "tiny"})


@pytest.fixture(scope="session")
def whole(batches, reference, one_device, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    state = train(training(batches, reference, one_device, folder), copied)
    return folder, state

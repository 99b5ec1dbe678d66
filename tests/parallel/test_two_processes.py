"""Training as several processes over `jax.distributed`, on loopback."""

import os
import subprocess
import sys

import numpy as np
import pytest

from aloe_jax.data.builder import write_dataset
from aloe_jax.errors import InputError
from aloe_jax.parallel import hosts
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.trie import build_trie
from helpers.aloe_command import HELPERS, ROOT, free_port
from helpers.gradient_agreement import assert_agree
from helpers.on_policy import ALL
from helpers.small_training import CAPACITY
from helpers.tiny import CHAT
from helpers.tree_samples import aloe_tree

DEADLINE = 500  # seconds; each of the three compiles ten programs


def advantaged(tree):
    """The tree, its preferred replies with the advantage 1 and the others with -1."""
    sides = {"good": 1.0, "poor": -1.0}
    nodes = [node.model_copy(update={"advantage": sides.get(node.id[:4])}) for node in tree.nodes]
    return tree.model_copy(update={"nodes": tuple(nodes)})


@pytest.fixture(scope="module")
def gradients(tmp_path_factory):
    """The results of one process with one device, and of each of two with four devices: (alone, first, second)."""
    folder = tmp_path_factory.mktemp("gradients")
    trees = [advantaged(aloe_tree(2, name=f"t{number}")) for number in range(5)]
    parts = [part for n, tree in enumerate(trees) for part in fragments(tree, build_trie(tree, CHAT), CAPACITY, n)]
    write_dataset(parts, folder)
    script, port = HELPERS / "step_of_two_processes.py", free_port()
    path = os.pathsep.join(str(ROOT / part) for part in ("", "tests"))
    started = []
    for count, number in ((1, 0), (2, 0), (2, 1)):
        arguments = [folder, folder / f"{count}-{number}.npz", port, count, number]
        command = [sys.executable, script, *map(str, arguments)]
        # Compiled as in production: the bound is that of its arithmetic.
        devices = {"XLA_FLAGS": "" if count == 1 else "--xla_force_host_platform_device_count=4"}
        environment = os.environ | devices | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        started.append((process, arguments[1]))
    for process, _ in started:
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, errors
    return [dict(np.load(file)) for _, file in started]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "trained"), [("sft", "full"), ("sft", "lora"), ("dpo", "full"), ("dpo", "lora"), (ALL, "full")]
)
def test_losses_and_gradients_are_those_of_one_device(gradients, objective, trained):
    """Each of two processes reads every other row."""
    alone, *both = gradients
    names = [name for name in alone if name.startswith(f"{objective} {trained}")]
    assert len(names) > 3
    assert [found["rows"].tolist() for found in both] == [[0, 2], [1, 3]]
    for found in both:
        assert (found["steps"], found["stop"]) == (alone["steps"], True)  # the second one was asked to stop
        assert_agree(*({name: arrays[name] for name in names} for arrays in (found, alone)))


@pytest.mark.parametrize(
    ("where", "named"),
    [("nonsense", "is not ADDRESS:PORT"), ("host,2,0", "is not ADDRESS:PORT"), ("host:1,2,2", "number 2 of 2")],
)
def test_what_is_no_place(where, named):
    with pytest.raises(InputError, match=named):
        hosts.connect(where)

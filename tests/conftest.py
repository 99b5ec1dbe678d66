"""Shared by all tests: eight virtual CPU devices, so that meshes can be compared in one process, a cache of compiled
programs and of bytecode, a folder common to all workers, and an order with the longest files first."""

import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

from helpers import xla_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Servers of tests are on this machine. JAX warns of the variable at each start, so it is set only beside a proxy.
if any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ):
    os.environ.setdefault("NO_PROXY", "127.0.0.1,localhost")

# Most of the time goes to XLA, so programs compiled by one process of the session are loaded by the others: the
# workers, which inherit the environment, and the commands that they start. Each session has a new folder.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags.devices(8)}"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="aloe-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# Where Python is told to write no bytecode, as in many containers, every process would compile jax and the libraries
# again, which takes longer than most commands that the tests start. The session's folder leaves theirs as they are.
if sys.dont_write_bytecode:
    os.environ.setdefault("PYTHONPYCACHEPREFIX", os.path.join(os.environ["JAX_COMPILATION_CACHE_DIR"], "bytecode"))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"]
    sys.dont_write_bytecode = False

import jax
import pytest

from aloe_jax.parallel.mesh import make_mesh
from helpers.aloe_in_process import aloe_in_process

# By measured time: a worker takes the next file when it has finished one, so long files must not come last.
LONGEST = (
    "run/test_interruptions.py",
    "train/test_step.py",
    "run/test_several_hosts.py",
    "parallel/test_two_processes.py",
    "parallel/test_exit_codes.py",
    "run/test_pipeline.py",
    "train/test_while_training.py",
    "train/test_loop.py",
    "plan/test_make_plan.py",
    "run/test_killed_training.py",
    "hub/test_remote_sources.py",
    "eval/viewer/test_viewer_browser.py",
    "train/test_tree_equals_path.py",
    "train/test_broken_checkpoints.py",
    "decode/test_engine.py",
    "run/test_adapters.py",
)


def pytest_collection_modifyitems(items):
    """The longest files first; the others stay in the order in which they were collected."""
    rank = {Path(__file__).parent / file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(LONGEST)))


def pytest_collection_finish():
    """Exempts what the imports made from garbage collection: a run collects after every stage and checkpoint.

    From here on this process writes no bytecode, which Python takes for that of any file of equal name, size and
    second of change, as a config file that a test writes twice may be.
    """
    gc.collect()
    gc.freeze()
    sys.dont_write_bytecode = True


def pytest_unconfigure():
    if "PYTEST_XDIST_WORKER" not in os.environ:  # the process that made it, after its workers
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory, worker_id):
    """A folder of the session, common to all workers."""
    folder = tmp_path_factory.getbasetemp()
    return folder if worker_id == "master" else folder.parent


@pytest.fixture(scope="session")
def one_device():
    return make_mesh(devices=jax.devices()[:1])


@pytest.fixture
def aloe(capsys):
    """The command in this process, which has JAX loaded: `aloe(*arguments)` returns exit code, stdout and stderr."""
    with aloe_in_process(capsys) as call:
        yield call

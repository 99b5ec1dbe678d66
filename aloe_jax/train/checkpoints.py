"""Orbax checkpoints of a training run: parameters, optimiser state and the data iterator's state, as one unit."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import jax
import numpy as np
from etils import epath
from orbax.checkpoint import v1 as ocp

from aloe_jax import files, memory
from aloe_jax.errors import InputError
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Params, abstract_params
from aloe_jax.parallel import hosts
from aloe_jax.parallel.sharding import placed
from aloe_jax.train.state import TrainState, split_params

policies = ocp.training.preservation_policies


class Checkpoints:
    """Checkpoints under a folder, named by their step. The newest `keep` stay, and of the older ones those of every
    `keep_every`-th step (0: none). All processes of a run call the same methods together. Use in a `with` block."""

    def __init__(self, directory: epath.PathLike, keep: int = 1, keep_every: int = 0, beside: bool = True) -> None:
        """`beside` writes while training goes on, from a copy of the state in this host's memory."""
        self._directory = epath.Path(directory).resolve()  # Orbax wants an absolute path
        self._directory.mkdir(parents=True, exist_ok=True)
        kept = [policies.LatestN(keep), *([policies.EveryNSteps(keep_every)] if keep_every else [])]
        self._saving: Any = None
        self._beside = beside
        self._quiet = contextlib.ExitStack()
        # A save that was killed leaves a temporary folder behind, which is never taken for a checkpoint.
        self._checkpointer = ocp.training.Checkpointer(
            self._directory,
            preservation_policy=policies.AnyPreservationPolicy(kept),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> Checkpoints:
        self._quiet.enter_context(_unlogged())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._quiet:
            try:
                self._checkpointer.close()
            except Exception:  # it raises again what a failed save raised, which is on its way already
                if error is None:
                    raise

    @property
    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        found = self._checkpointer.latest
        return None if found is None else found.step

    def save(self, state: TrainState, iterator: dict[str, int]) -> None:
        """Save the state and the iterator's state, which may change afterwards; waits for the save before. Raises
        ResumableError if there was no room, for this one or, written beside the steps, for the one before; the last
        whole checkpoint stays."""
        self.wait()
        parts = {
            "params": state.params,
            "optimizer": {"step": state.step, "state": state.opt_state},
            "data": {name: np.asarray(value) for name, value in iterator.items()},
        }
        with self._writing():
            self._saving = self._checkpointer.save_checkpointables_async(int(state.step), parts)
        if not self._beside:
            self.wait()

    def wait(self) -> None:
        """Return when what was saved is complete on disk. Raises as `save` does."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            with self._writing():
                saving.result()
            memory.release()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # tensorstore tells of a full disk in a ValueError
            if isinstance(error, OSError) or files.disk_full(error):
                raise files.failed_write(self._directory, error) from error
            raise

    def restore(self, abstract: TrainState, step: int) -> tuple[TrainState, dict[str, int]]:
        """The checkpoint of a step, in the shardings of `abstract`, and the iterator's state; what is frozen is not in
        it. InputError if it cannot be read."""
        optimizer = {"step": abstract.step, "state": abstract.opt_state}
        older = "move that folder away, and the same command goes on from the checkpoint before it, or from the start"
        with _reading(self._directory / str(step), older):
            parts = {"params": abstract.params, "optimizer": optimizer, "data": None}
            loaded = self._checkpointer.load_checkpointables(step, parts)
        state = TrainState(loaded["optimizer"]["step"], loaded["params"], loaded["optimizer"]["state"], {})
        return state, {name: int(value) for name, value in loaded["data"].items()}


def restore_params(directory: epath.PathLike, model: ModelConfig, shardings: Params) -> Params:
    """The trained parameters of the newest checkpoint in a folder (of a `model` with adapters, those alone), f32, in
    the `shardings` of all; nothing else is read. Only the processes whose devices these name take part. InputError if
    there is none or if it cannot be read."""
    folder = epath.Path(directory).resolve()
    alone = hosts.is_local(jax.tree.leaves(shardings)[0].mesh)
    steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    newest = max(steps, default=0)
    if not alone:
        newest = hosts.broadcast_from_primary(newest)
    if not newest:
        raise InputError(f"there is no checkpoint in '{folder}'; train first")
    trained, _ = split_params(placed(abstract_params(model), shardings), model)
    context = ocp.Context()
    if alone:
        own = context.multiprocessing
        mine = hosts.process_index()
        own.primary_host, own.active_processes, own.barrier_sync_key_prefix = mine, {mine}, "alone"
    with context, _reading(folder / str(newest), f"delete '{folder.parent}' and train again"):
        return ocp.load_checkpointables(folder / str(newest), {"params": trained})["params"]


@contextlib.contextmanager
def _reading(checkpoint: epath.Path, remedy: str) -> Iterator[None]:
    """InputError for a checkpoint with a file that is damaged or missing. Orbax has no type for what it makes of one,
    but what goes wrong on the devices, in memory or in another process is known by its cause."""
    try:
        yield
    except Exception as error:
        cause: BaseException = error
        while (before := cause.__cause__ or cause.__context__) is not None:
            cause = before
        if isinstance(cause, (jax.errors.JaxRuntimeError, MemoryError)):
            raise
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise InputError(f"checkpoint '{checkpoint}' cannot be read ({reason}); {remedy}") from error


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Each of Orbax's threads logs a write that failed with its traceback, and then it is raised as well."""
    logger = logging.getLogger("absl")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before

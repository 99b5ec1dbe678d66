"""Orbax checkpoints of a training run: parameters, optimiser state and the data iterator's state, as one unit."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import jax
import numpy as np
from etils import epath
from orbax.checkpoint import v1 as ocp

from aloe_jax import memory
from aloe_jax.bucket.places import stored_at
from aloe_jax.errors import InputError, disk_full, failed_write
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Params, abstract_params
from aloe_jax.parallel import hosts
from aloe_jax.parallel.sharding import placed
from aloe_jax.run.progress import Line, quiet
from aloe_jax.run.saved import complete_steps, saved_at
from aloe_jax.train.digests import verify, write_digests
from aloe_jax.train.state import TrainState, split_params

policies = ocp.training.preservation_policies


class Checkpoints:
    """Checkpoints in a folder, named by their step.

    The newest `keep` are kept, and of the older ones those of every `keep_every`-th step (0: none). All processes of a
    run call the same methods together. Use in a `with` block.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        keep: int = 1,
        keep_every: int = 0,
        asynchronous: bool = True,
        line: Line = quiet,
    ) -> None:
        """If `asynchronous`, a checkpoint is written while training goes on, from a copy of the state in host
        memory. `line` displays what was verified before a restore."""
        self._line = line
        self._directory = stored_at(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        kept = [policies.LatestN(keep), *([policies.EveryNSteps(keep_every)] if keep_every else [])]
        self._saving: Future[None] | None = None
        self._finishing = ThreadPoolExecutor(1, "aloe-checkpoint")
        self._asynchronous = asynchronous
        self._quiet = contextlib.ExitStack()
        # A killed save leaves a temporary folder behind, which is never taken for a checkpoint.
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
                if error is None:
                    self.wait()
                self._finishing.shutdown()
                self._checkpointer.close()
            except Exception:  # a failed save is raised a second time here, while its first error propagates
                if error is None:
                    raise

    @property
    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        found = self._checkpointer.latest
        return None if found is None else found.step

    def saved_at(self, step: int) -> float:
        """When the checkpoint of a step was complete, in seconds since the epoch."""
        return saved_at(self._directory / str(step))

    def save(self, state: TrainState, iterator: dict[str, int]) -> None:
        """Save the state and the iterator's state, both of which may change afterwards. Waits for the previous save.

        Raises ResumableError if the disk is full, for this save or, if asynchronous, for the previous one; the last
        complete checkpoint stays.
        """
        self.wait()
        parts = {
            "params": state.params,
            "optimizer": {"step": state.step, "state": state.opt_state},
            "data": {name: np.asarray(value) for name, value in iterator.items()},
        }
        with self._writing():
            step = int(state.step)
            written = self._checkpointer.save_checkpointables_async(step, parts)
            self._saving = self._finishing.submit(self._finish, written, step)
        if not self._asynchronous:
            self.wait()

    def _finish(self, written: ocp.AsyncResponse[None], step: int) -> None:
        """Write the digests of a checkpoint once it is complete."""
        written.result()
        if hosts.is_primary():
            write_digests(self._directory / str(step))

    def wait(self) -> None:
        """Wait until the last save and its digests are complete on disk. Raises as `save` does."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            with self._writing():
                saving.result()
            memory.release()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # tensorstore reports a full disk as a ValueError
            if isinstance(error, OSError) or disk_full(error):
                raise failed_write(self._directory, error) from error
            raise

    def restore(self, abstract: TrainState, step: int) -> tuple[TrainState, dict[str, int]]:
        """The train state of a step, in the shardings of `abstract` and without the frozen parameters, and the
        iterator's state. InputError if the checkpoint cannot be read or a file differs from its digest."""
        optimizer = {"step": abstract.step, "state": abstract.opt_state}
        older = "move that folder away, and the same command goes on from the checkpoint before it, or from the start"
        with _reading(self._directory / str(step), older), _verified(self._directory / str(step), self._line):
            parts = {"params": abstract.params, "optimizer": optimizer, "data": None}
            loaded = self._checkpointer.load_checkpointables(step, parts)
        state = TrainState(loaded["optimizer"]["step"], loaded["params"], loaded["optimizer"]["state"], {})
        return state, {name: int(value) for name, value in loaded["data"].items()}


def checkpoint_steps(directory: epath.PathLike) -> list[int]:
    """The steps of the complete checkpoints in a folder, in order."""
    return complete_steps(stored_at(directory))


def restore_params(
    directory: epath.PathLike, model: ModelConfig, shardings: Params, line: Line = quiet, step: int | None = None
) -> Params:
    """The trained parameters of the checkpoint of a step in a folder (None: the newest), f32; for a `model` with
    adapters, the adapters alone.

    `shardings` are those of all parameters of the model. Nothing but the parameters is read. Only the processes whose
    devices are in the shardings take part. `line` displays what was verified. InputError if there is no checkpoint, if
    it cannot be read, or if a file differs from its digest.
    """
    folder = stored_at(directory)
    alone = hosts.is_local(jax.tree.leaves(shardings)[0].mesh)
    steps = checkpoint_steps(folder)
    newest = max(steps, default=0) if step is None else step
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
    remedy, before = f"delete '{folder.parent}' and train again", [each for each in steps if each < newest]
    if before:
        remedy += f", or move that folder away to use the checkpoint of step {before[-1]}"
    found = folder / str(newest)
    with context, _reading(found, remedy), _verified(found, line, ("params",), alone):
        return ocp.load_checkpointables(folder / str(newest), {"params": trained})["params"]


@contextlib.contextmanager
def _reading(checkpoint: epath.Path, remedy: str) -> Iterator[None]:
    """Turn the error for a damaged or missing file of a checkpoint into an InputError. Orbax has no exception type of
    its own for these, but failures of devices, memory or other processes are recognised by their cause."""
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
def _verified(checkpoint: epath.Path, line: Line, parts: Sequence[str] = (), alone: bool = False) -> Iterator[None]:
    """Compare the checkpoint's files with their digests before the block reads them; `line` gets the share of the
    time that this took."""
    start = time.monotonic()
    verified = verify(checkpoint, parts, alone)
    yield
    line(verified.line(checkpoint, time.monotonic() - start))


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Silence Orbax's threads, each of which logs the traceback of a failed write that is raised as well."""
    logger = logging.getLogger("absl")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before

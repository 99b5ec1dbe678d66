"""Trackers: what shows the figures of a training beside `metrics.jsonl`, each an entry of `TRACKERS`."""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.manifest import find_manifest
from aloe_jax.train.settings import LoggingSettings

WANDB_ID = "wandb_id.txt"  # in the training's folder: the run that a continued training goes on with


class Tracker(Protocol):
    """Gets every line of `metrics.jsonl`, on the primary process."""

    def show(self, step: int, figures: Mapping[str, float]) -> None:
        """Show the figures of a step, all finite; more of the same step may follow."""

    def close(self) -> None:
        """Write what is still held back. Called once."""


@dataclass(frozen=True)
class _Kind:
    """A tracker by the name of its setting: the package it needs, and how to open it in a training's folder for the
    steps after `step`."""

    package: str
    open: Callable[[LoggingSettings, epath.Path, int], Tracker]


def check_trackers(settings: LoggingSettings) -> None:
    """Raise InputError for a tracker whose package is missing."""
    for name, kind in _asked(settings):
        if importlib.util.find_spec(kind.package) is None:
            raise InputError(
                f"config.logging.{name}: the package {kind.package} is missing; `pip install 'aloe_jax[{name}]'`"
            )


def open_trackers(settings: LoggingSettings, directory: epath.Path, step: int) -> list[Tracker]:
    """The trackers that the settings ask for, of the training in `directory`, which goes on after `step`. Raises
    InputError as `check_trackers` does and for one that does not let this machine in."""
    check_trackers(settings)
    return [kind.open(settings, directory, step) for _, kind in _asked(settings)]


def _asked(settings: LoggingSettings) -> list[tuple[str, _Kind]]:
    return [(name, kind) for name, kind in TRACKERS.items() if getattr(settings, name)]


class _TensorBoard:
    """Event files in DIR/<stage>/tensorboard; events of later steps, which an interrupted run left, are hidden."""

    def __init__(self, settings: LoggingSettings, directory: epath.Path, step: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1)

    def show(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """A run of Weights & Biases. A continued training goes on with the same run; steps that are computed again are
    there twice, with equal figures but for times. Figures are drawn over `step`, since a log of wandb cannot go back.
    """

    def __init__(self, settings: LoggingSettings, directory: epath.Path, step: int) -> None:
        import wandb

        identity = directory / WANDB_ID
        if not identity.exists():
            files.write_text(identity, secrets.token_hex(8))
        manifest = find_manifest(directory)
        try:
            if not wandb.setup().settings._offline and wandb.api.api_key is None:  # wandb would ask in the terminal
                raise wandb.errors.UsageError("there is no key")
            self._run = wandb.init(
                project=settings.wandb,
                id=files.read_text(identity).strip(),
                resume="allow",
                name=f"{directory.parent.name}/{directory.name}",
                dir=str(directory),
                config=dict(manifest.config) if manifest else None,
                settings=wandb.Settings(silent=True, console="off"),
            )
        except wandb.errors.Error as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"config.logging.wandb: no run can be opened ({reason}); run `wandb login`, set WANDB_MODE=offline, or "
                "leave the setting empty"
            ) from None
        self._run.define_metric("*", step_metric="step")

    def show(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({"step": step, **figures})

    def close(self) -> None:
        self._run.finish()


TRACKERS: Mapping[str, _Kind] = {
    "tensorboard": _Kind("tensorboardX", _TensorBoard),
    "wandb": _Kind("wandb", _Wandb),
}

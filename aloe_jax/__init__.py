"""Train language models that align with each user during the conversation: `import aloe_jax as aloe`.

The names in `__all__` are the public interface (docs/python.md); everything else may change without notice. A name is
imported when it is first used, so that `import aloe_jax` takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aloe_jax.api.figures import Metrics, ScoreRecord, metrics
    from aloe_jax.api.models import Model, Reply, ReplyScore, TreeRow, load
    from aloe_jax.api.records import Conversation, Message, Node, Preference, read_trees, write_trees
    from aloe_jax.api.training import Trained, train_model
    from aloe_jax.errors import AloeError, InputError, ResumableError

__all__ = [
    "AloeError",
    "Conversation",
    "InputError",
    "Message",
    "Metrics",
    "Model",
    "Node",
    "Preference",
    "Reply",
    "ReplyScore",
    "ResumableError",
    "ScoreRecord",
    "Trained",
    "TreeRow",
    "load",
    "metrics",
    "read_trees",
    "train_model",
    "write_trees",
]
_MODULES = {
    "aloe_jax.api.figures": ("Metrics", "ScoreRecord", "metrics"),
    "aloe_jax.api.models": ("Model", "Reply", "ReplyScore", "TreeRow", "load"),
    "aloe_jax.api.records": ("Conversation", "Message", "Node", "Preference", "read_trees", "write_trees"),
    "aloe_jax.api.training": ("Trained", "train_model"),
    "aloe_jax.errors": ("AloeError", "InputError", "ResumableError"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'aloe_jax' has no attribute '{name}'; its public names are {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""What a checkpoints folder holds, told without Orbax."""

from __future__ import annotations

from etils import epath

# In a bucket a checkpoint is written in its own folder, where this file is the last one; elsewhere a folder gets its
# name when it is complete (orbax.checkpoint, `CommitFileTemporaryPath` and `AtomicRenameTemporaryPath`).
COMPLETE = "commit_success.txt"


def complete_steps(folder: epath.Path) -> list[int]:
    """The steps of the complete checkpoints in a folder, in order; none if it is missing."""
    if not folder.is_dir():
        return []
    steps = [path for path in folder.iterdir() if path.name.isdigit()]
    return sorted(int(path.name) for path in steps if "://" not in str(folder) or (path / COMPLETE).exists())


def saved_at(checkpoint: epath.Path) -> float:
    """When a checkpoint was complete, in seconds since the epoch."""
    return float((checkpoint / COMPLETE if "://" in str(checkpoint) else checkpoint).stat().mtime)

"""The files of a round: `online/rounds/NNNN/`.

Trees are rolled out in batches, each stored whole as `batch-NN.jsonl`: one that a kill interrupts is done again, and
what is stored is never sampled a second time. Once all batches are there and the advantages are known, `trees.jsonl`
has all trees, and the batches are deleted. `spread.json` is the running spread of values up to this round, which the
next one goes on from, and `measures.json` what the trees say in metrics.jsonl.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aloe_jax import files
from aloe_jax.tree.schema import Conversation, read_trees, write_records
from data_gen.online.spread import Plain
from data_gen.run_files import TREES

ROUNDS, SPREAD, MEASURES = "rounds", "spread.json", "measures.json"
SO_FAR = "sampled_tokens_so_far"


class RoundFiles:
    """The files of round `number`, from 1, of the stage in `directory`."""

    def __init__(self, directory: Path, number: int) -> None:
        self.number = number
        self._stage, self._folder = directory, directory / ROUNDS / f"{number:04d}"

    def batch(self, number: int) -> list[Conversation] | None:
        """The stored trees of a batch; None if it is still to be rolled out."""
        path = self._batch(number)
        return list(read_trees(path)) if path.exists() else None

    def store_batch(self, number: int, trees: Sequence[Conversation]) -> None:
        """Store the trees of a batch, all or none."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_records(self._batch(number), trees)

    def trees(self) -> list[Conversation] | None:
        """The trees of the round with their advantages; None if it is not complete."""
        path = self._folder / TREES
        return list(read_trees(path)) if path.exists() else None

    def finish(self, trees: Sequence[Conversation], spread: Plain, measured: Mapping[str, float]) -> None:
        """Store the trees with their advantages, the running spread with which these were computed, and what they
        measured."""
        files.write_json(self._folder / SPREAD, spread)
        so_far = self.before().sampled_so_far() + measured["sampled_tokens"]
        files.write_json(self._folder / MEASURES, {**measured, SO_FAR: so_far})
        write_records(self._folder / TREES, trees)
        for path in self._folder.glob("batch-*.jsonl"):
            path.unlink()

    def spread(self) -> Plain:
        """The running spread up to this round; empty before the first."""
        path = self._folder / SPREAD
        return files.read_object(path) if path.exists() else {}

    def measured(self) -> dict[str, float]:
        """What the trees of the round measured."""
        return files.read_object(self._folder / MEASURES)

    def sampled_so_far(self) -> float:
        """The sampled tokens of this round and of all before it; 0 before the first."""
        return self.measured().get(SO_FAR, 0.0) if (self._folder / MEASURES).exists() else 0.0

    def before(self) -> RoundFiles:
        """The files of the round before."""
        return RoundFiles(self._stage, self.number - 1)

    def forget(self) -> None:
        """Delete the trees of the round; its spread stays."""
        (self._folder / TREES).unlink(missing_ok=True)

    def _batch(self, number: int) -> Path:
        return self._folder / f"batch-{number:02d}.jsonl"

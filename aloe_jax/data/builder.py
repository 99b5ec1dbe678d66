"""The training dataset on disk: row fragments as a TFDS dataset of ArrayRecord files, without TensorFlow.

Each fragment is stored as the columns of its `TreeRow` and the index of the source that it came from; the names of the
sources are in the dataset's metadata. The conversations' ids stand beside the shards in `conversations.jsonl`, one line
per index: `{"id": ..., "source": ...}`.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.prune import Chooses, pruned
from aloe_jax.tree.row import TreeRow, make_row

ORIGIN = "origin"  # the feature with the index of the source that a fragment came from
IDS = "conversations.jsonl"
SHARDS = "aloe_trees/*/*.array_record*"
NAMED = 3  # conversations that a message names at most


def write_dataset(
    fragments: Iterable[TreeRow | tuple[int, TreeRow]], directory: epath.PathLike, sources: Sequence[str] = ("trees",)
) -> int:
    """Write fragments, in their order, under `directory`; returns their number.

    A fragment comes with the index of its source in `sources`; without one it belongs to the first. `FragmentSource`
    ignores a half-written dataset of an interrupted call, which is written again. Raises InputError if there is
    nothing to write.
    """
    import tensorflow_datasets as tfds  # takes a second, which commands without a dataset do not have to spend

    from aloe_jax.data.tfds_builder import AloeTrees

    tfds.display_progress_bar(False)
    rows = (item if isinstance(item, tuple) else (0, item) for item in fragments)
    first = next(rows, None)
    if first is None:
        raise InputError(f"there is no fragment to write to '{directory}': the conversations hold no reply")
    builder = AloeTrees(itertools.chain([first], rows), sources, data_dir=str(directory))
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints about a download; there is none
        builder.download_and_prepare()
    return builder.info.splits["train"].num_examples


class FragmentSource:
    """Random access to the fragments of a dataset, with the figures of each that the pack plan needs.

    With `chooses`, each fragment is only the part of it that an objective trains on, which may be nothing.

    Attributes:
        sizes: int [N, 4]: tokens, targets, replies and pairs.
        conversation: int [N], index over all sources.
        origin: int [N], index of its source in `sources`.
        sources: names of the sources.
        directory: the folder that was given.
    """

    def __init__(self, directory: epath.PathLike, chooses: Chooses | None = None) -> None:
        """Open the dataset in `directory`; raises InputError if it is not complete, or if a file of it is damaged."""
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.dataset_info import DatasetInfoFileError

        from aloe_jax.data.tfds_builder import AloeTrees

        self.directory, self._chooses = str(directory), chooses
        try:
            # With the columns that it was written with, which may be fewer than those of today.
            builder = tfds.builder_from_directory(AloeTrees(data_dir=self.directory).data_dir)
            self._source = builder.as_data_source(split="train")
            self.sources = tuple(builder.info.metadata["sources"])
        except (AssertionError, FileNotFoundError, ValueError, KeyError, DatasetInfoFileError) as error:
            raise InputError(
                f"'{directory}' holds no complete dataset ({type(error).__name__}); run the stage `dataset` again"
            ) from None
        facts = np.array([self._facts(number) for number in range(len(self))], np.int64)
        self.sizes, self.conversation, self.origin = facts[:, :4], facts[:, 4], facts[:, 5]

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number: int) -> TreeRow:
        return self._fragment(self._record(number))

    def names(self, conversations: Sequence[int]) -> str:
        """The first few conversations by id and source (by index where the dataset has no ids), and how many more
        there are: for messages."""
        path = epath.Path(self.directory) / IDS
        known = files.read_json_lines(path) if path.exists() else []
        named = [
            f"'{known[index]['id']}' ({known[index]['source']})" if index < len(known) else f"number {index}"
            for index in conversations[:NAMED]
        ]
        more = len(conversations) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")

    def _facts(self, number: int) -> tuple[int, ...]:
        """Sizes, conversation and origin of a fragment; none of them is kept, as there may be many."""
        record = self._record(number)
        return (*self._fragment(record).sizes, int(record["conversation"][0]), int(record[ORIGIN]))

    def _fragment(self, record: Mapping[str, np.ndarray]) -> TreeRow:
        fragment = make_row(record)
        return fragment if self._chooses is None else pruned(fragment, self._chooses(fragment))

    def _record(self, number: int) -> Mapping[str, np.ndarray]:
        try:
            return self._source[number]
        except Exception as error:  # the reader raises no particular type for a damaged file
            raise InputError(
                f"'{self.directory}' is damaged: fragment {number} cannot be read ({_first_line(error)}); delete the "
                "folder and run the stage `dataset` again"
            ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

"""The training dataset on disk: row fragments as a TFDS dataset of ArrayRecord files, without TensorFlow.

Besides the arrays of a `TreeRow`, a fragment stores the index of its source; the names of the sources are in the
dataset's metadata. The conversations' ids are in `conversations.jsonl` next to the shards, one line per conversation:
`{"id": ..., "source": ...}`.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.row import FIELDS, FLOAT_FIELDS, TreeRow

ORIGIN = "origin"  # the feature with the index of a fragment's source
IDS = "conversations.jsonl"
NAMED = 3  # number of conversations that a message names
Example = dict[str, np.ndarray | int]  # a fragment by feature


def _features() -> tfds.features.FeaturesDict:
    """One feature per `TreeRow` field; every axis is ragged, since fragments are not padded."""
    fields = {
        name: tfds.features.Tensor(
            shape=(None, 2) if name == "pairs" else (None,), dtype=np.float32 if name in FLOAT_FIELDS else np.int32
        )
        for name in FIELDS
    }
    return tfds.features.FeaturesDict(fields | {ORIGIN: tfds.features.Scalar(dtype=np.int32)})


class AloeTrees(tfds.core.GeneratorBasedBuilder):
    """Conversation trees as row fragments: tokens, tree structure, targets, replies and pairs (aloe_jax.tree.row)."""

    VERSION = tfds.core.Version("2.0.0")

    def __init__(
        self, fragments: Iterable[tuple[int, TreeRow]] = (), sources: Sequence[str] = (), **kwargs: object
    ) -> None:
        self._fragments, self._sources = fragments, sources
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        # Fragments keep the order of the sources' files; the pack plan shuffles.
        metadata = tfds.core.MetadataDict({"sources": list(self._sources)}) if self._sources else None
        return tfds.core.DatasetInfo(builder=self, features=_features(), disable_shuffling=True, metadata=metadata)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[int, Example]]]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, Example]]:
        for number, (origin, fragment) in enumerate(self._fragments):
            yield number, {ORIGIN: origin} | {name: np.asarray(getattr(fragment, name)) for name in FIELDS}


def write_dataset(
    fragments: Iterable[TreeRow | tuple[int, TreeRow]], directory: epath.PathLike, sources: Sequence[str] = ("trees",)
) -> int:
    """Write fragments, in their order, to `directory`; returns their number.

    A fragment is given with the index of its source in `sources`, or alone for the first source. `FragmentSource`
    ignores a half-written dataset of an interrupted call, and the next call writes it again. Raises InputError if there
    is nothing to write.
    """
    tfds.display_progress_bar(False)
    rows = (item if isinstance(item, tuple) else (0, item) for item in fragments)
    first = next(rows, None)
    if first is None:
        raise InputError(f"there is no fragment to write to '{directory}': the conversations hold no reply")
    builder = AloeTrees(itertools.chain([first], rows), sources, data_dir=str(directory))
    with contextlib.redirect_stdout(io.StringIO()):  # it announces a download, and there is none
        builder.download_and_prepare()
    return builder.info.splits["train"].num_examples


class FragmentSource:
    """Random access to the fragments of a dataset, and the quantities of each that the pack plan reads.

    Attributes:
        sizes: int [N, 4]: tokens, targets, replies and pairs.
        conversation: int [N], index over all sources.
        origin: int [N], index of the source in `sources`.
        trained: int [N], tokens with a weight in supervised fine-tuning.
        rivals: int [N], replies that have an earlier sibling; 0 for a fragment without branches.
        sources: names of the sources.
        directory: the dataset's folder.
    """

    def __init__(self, directory: epath.PathLike) -> None:
        """Raises InputError if there is no complete dataset in `directory`, or if a file of it is damaged."""
        self.directory = str(directory)
        try:
            builder = AloeTrees(data_dir=self.directory)
            self._source = builder.as_data_source(split="train")
            self.sources = tuple(builder.info.metadata["sources"])
        except (AssertionError, FileNotFoundError, ValueError, KeyError) as error:
            raise InputError(
                f"'{directory}' holds no complete dataset ({type(error).__name__}); run the stage `dataset` again"
            ) from None
        facts = [_facts(self._record(number)) for number in range(len(self))]
        self.sizes = np.array([fact[:4] for fact in facts], np.int64)
        self.conversation, self.origin, self.trained, self.rivals = np.array([fact[4:] for fact in facts], np.int64).T

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number: int) -> TreeRow:
        record = self._record(number)
        return TreeRow(**{name: record[name] for name in FIELDS})

    def names(self, conversations: Sequence[int]) -> str:
        """Conversations as text for messages: id and source of the first few (their index if the dataset has no ids),
        and how many more there are."""
        path = epath.Path(self.directory) / IDS
        known = files.read_json_lines(path) if path.exists() else []
        named = [
            f"'{known[index]['id']}' ({known[index]['source']})" if index < len(known) else f"number {index}"
            for index in conversations[:NAMED]
        ]
        more = len(conversations) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")

    def _record(self, number: int) -> Mapping[str, np.ndarray]:
        try:
            return self._source[number]
        except Exception as error:  # the reader has no exception type for damaged files
            raise InputError(
                f"'{self.directory}' is damaged: fragment {number} cannot be read ({_first_line(error)}); delete the "
                "folder and run the stage `dataset` again"
            ) from None


def _facts(record: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """Sizes, conversation, origin, trained tokens and rivals of a fragment."""
    groups = len(np.unique(record["group"]))
    sizes = (record["tokens"].size, record["target"].size, record["length"].size, len(record["pairs"]))
    trained = int(np.count_nonzero(record["weight"]))
    return (*sizes, int(record["conversation"][0]), int(record[ORIGIN]), trained, sizes[2] - groups)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

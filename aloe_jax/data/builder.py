"""The training dataset on disk: row fragments as a TFDS dataset of ArrayRecord files, without TensorFlow."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from aloe_jax.errors import InputError
from aloe_jax.tree.row import FIELDS, FLOAT_FIELDS, TreeRow


def _features() -> tfds.features.FeaturesDict:
    """One entry a `TreeRow` field; every axis is ragged, since fragments are not padded."""
    return tfds.features.FeaturesDict(
        {
            name: tfds.features.Tensor(
                shape=(None, 2) if name == "pairs" else (None,), dtype=np.float32 if name in FLOAT_FIELDS else np.int32
            )
            for name in FIELDS
        }
    )


class AloeTrees(tfds.core.GeneratorBasedBuilder):
    """Conversation trees as row fragments: tokens, tree structure, targets, replies and pairs (aloe_jax.tree.row)."""

    VERSION = tfds.core.Version("1.1.0")

    def __init__(self, fragments: Iterable[TreeRow] = (), **kwargs: Any) -> None:
        self._fragments = fragments
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        # Kept in the order of trees.jsonl; the pack plan shuffles.
        return tfds.core.DatasetInfo(builder=self, features=_features(), disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Any]]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for number, fragment in enumerate(self._fragments):
            yield number, {name: np.asarray(getattr(fragment, name)) for name in FIELDS}


def write_dataset(fragments: Iterable[TreeRow], directory: epath.PathLike) -> int:
    """Write fragments, in their order, under `directory`; returns how many there are. A half-written dataset of an
    interrupted call is not seen by `FragmentSource` and is written again. Raises InputError if there is nothing to
    write."""
    tfds.display_progress_bar(False)
    first = next(rows := iter(fragments), None)
    if first is None:
        raise InputError(f"there is no fragment to write to '{directory}': the conversations hold no reply")
    builder = AloeTrees(itertools.chain([first], rows), data_dir=str(directory))
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of a download; there is none
        builder.download_and_prepare()
    return builder.info.splits["train"].num_examples


class FragmentSource:
    """Random access to the fragments of a dataset, with the sizes that the pack plan needs.

    `sizes` is int [N, 4]: tokens, targets, replies and pairs of each fragment; `conversation` int [N].
    """

    def __init__(self, directory: epath.PathLike) -> None:
        """Raises InputError if there is no complete dataset in `directory`."""
        try:
            self._source = AloeTrees(data_dir=str(directory)).as_data_source(split="train")
        except (AssertionError, FileNotFoundError, ValueError, KeyError) as error:
            raise InputError(
                f"'{directory}' holds no complete dataset ({type(error).__name__}); run the stage `dataset` again"
            ) from None
        fragments = [self[number] for number in range(len(self))]
        self.sizes = np.array(
            [[f.tokens.size, f.target.size, f.length.size, len(f.pairs)] for f in fragments], dtype=np.int64
        )
        self.conversation = np.array([f.conversation[0] for f in fragments], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number: int) -> TreeRow:
        return TreeRow(**self._source[number])

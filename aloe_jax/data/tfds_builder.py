"""The TFDS builder of the training dataset: ArrayRecord files, without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from aloe_jax.data.builder import ORIGIN
from aloe_jax.tree.row import COLUMNS, TreeRow


def _stored() -> list[str]:
    return [name for name, column in COLUMNS.items() if column.stored]


def _features() -> tfds.features.FeaturesDict:
    """The stored columns of a `TreeRow`, each of variable length, since fragments are not padded; and the origin."""
    columns = {
        name: tfds.features.Tensor(shape=(None, *COLUMNS[name].inner), dtype=COLUMNS[name].dtype) for name in _stored()
    }
    return tfds.features.FeaturesDict(columns | {ORIGIN: tfds.features.Scalar(dtype=np.int32)})


class AloeTrees(tfds.core.GeneratorBasedBuilder):
    """Conversation trees as row fragments: tokens, tree structure, targets, replies and pairs (aloe_jax.tree.row)."""

    VERSION = tfds.core.Version("2.0.0")

    def __init__(
        self, fragments: Iterable[tuple[int, TreeRow]] = (), sources: Sequence[str] = (), **kwargs: Any
    ) -> None:
        self._fragments, self._sources = fragments, sources
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        # Kept in the order of the sources' files; the pack plan shuffles.
        metadata = tfds.core.MetadataDict({"sources": list(self._sources)}) if self._sources else None
        return tfds.core.DatasetInfo(builder=self, features=_features(), disable_shuffling=True, metadata=metadata)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Any]]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, object]]]:
        for number, (origin, fragment) in enumerate(self._fragments):
            yield number, {ORIGIN: origin} | {name: np.asarray(getattr(fragment, name)) for name in _stored()}

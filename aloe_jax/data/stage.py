"""The stage `dataset`: writes the conversations of every source as rows on disk."""

from __future__ import annotations

from collections.abc import Sequence

from aloe_jax.data.builder import IDS, SHARDS
from aloe_jax.data.dataset_writer import DatasetWriter
from aloe_jax.data.mixture import sources_of
from aloe_jax.data.settings import TREES, DatasetSettings
from aloe_jax.errors import InputError
from aloe_jax.hub.folders import checked_tokenizer
from aloe_jax.run.manifest import Values
from aloe_jax.run.model import chat_format, model_config, model_folder, model_inputs, model_places
from aloe_jax.run.stage import Run, Stage


def _check(run: Run) -> None:
    settings = run.section("dataset", DatasetSettings)
    context = model_config(run).context
    checked_tokenizer(model_folder(run))
    if settings.max_path > context:
        raise InputError(
            f"config.dataset.max_path: {settings.max_path} is beyond the model's context, {context} tokens"
        )
    sources_of(settings)


def _work(run: Run) -> Values:
    settings = run.section("dataset", DatasetSettings)
    writer = DatasetWriter(
        sources_of(settings),
        run.directory("conversations") / "trees.jsonl",
        chat_format(run),
        settings.row,
        settings.max_path,
        model_config(run).vocab,
        lambda done, total: run.progress.update(done, total, "conversations"),
        lambda sentence: run.progress.line(f"dataset: {sentence}"),
    )
    counts = writer.write(run.directory("dataset"))
    for name, found in writer.counts.items():
        run.progress.line(f"dataset: {found.line(name)}")
    return counts


def _inputs(run: Run) -> dict[str, str]:
    """Hashes of the model, whose tokenizer and template are used, and of the files of other sources."""
    sources = sources_of(run.section("dataset", DatasetSettings))
    return model_inputs(run) | {f"source {source.name}": source.hash() for source in sources if source.paths}


def _places(run: Run) -> dict[str, Sequence[str]]:
    sources = sources_of(run.section("dataset", DatasetSettings))
    return {**model_places(run), **{f"source {source.name}": source.paths for source in sources}}


def _needs(run: Run) -> tuple[str, ...]:
    """The stage `conversations`, unless a file takes the place of its trees."""
    return () if run.section("dataset", DatasetSettings).sources[TREES].path else ("conversations",)


DATASET = Stage(
    "dataset",
    _needs,
    ("model", "template", "dataset"),
    _work,
    _inputs,
    (IDS, SHARDS),
    check=_check,
    places=_places,
)

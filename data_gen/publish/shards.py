"""Conversations that several machines have grown, one shard each, as one run."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub.folders import new_folder
from aloe_jax.run.config import differences
from aloe_jax.run.manifest import MANIFEST, Manifest, Values, check_outputs, read_manifest
from aloe_jax.run.stage import CONFIG
from aloe_jax.tree.schema import parse
from data_gen.calls.store import CALLS, LEDGERS, check_lines
from data_gen.game.counts import conversation_counts
from data_gen.game.scheduler import identities, parse_shard, put_in_order
from data_gen.publish.stored import StoredCounts, StoredTrials
from data_gen.run_files import JUDGE, TREES

SHARD = "shard"  # the input that tells shards of one run apart


def merge(sources: Sequence[str], out: str) -> Values:
    """Make the run directory `out` of run directories that each hold a finished shard of its conversations; returns the
    counts of its manifest.

    Raises InputError, before anything is written, unless the sources are all shards of the same run (equal config,
    personas and templates), each given once, and no conversation is in two of them; for a file that is not as its stage
    wrote it, or cannot be read; and if `out` is not empty.
    """
    manifests = [_manifest(Path(source)) for source in sources]
    _check_same(sources, manifests)
    for source, manifest in zip(sources, manifests, strict=True):
        check_outputs(Path(source) / "conversations", manifest)
        check_lines(Path(source) / "conversations")
        _check_run(Path(source), manifest)
    shards = {
        parse_shard(manifest.inputs[SHARD]): Path(source) for source, manifest in zip(sources, manifests, strict=True)
    }
    if len(shards) < len(sources):
        raise InputError("two of the folders hold the same shard; name each shard once")
    counts = {count for _, count in shards}
    missing = sorted(set(range(max(counts))) - {number for number, _ in shards})
    if len(counts) > 1 or missing:
        raise InputError(
            f"the folders are no whole set of shards; missing: {', '.join(map(str, missing)) or 'unknown'}"
        )
    ordered = [shards[key] for key in sorted(shards)]
    _check_overlap(ordered)
    with new_folder(Path(out)) as target:
        return _write(target, ordered, manifests)


def _write(target: Path, ordered: Sequence[Path], manifests: Sequence[Manifest]) -> Values:
    conversations = target / "conversations"
    conversations.mkdir(parents=True)
    shutil.copytree(ordered[0] / "personas", target / "personas")
    shutil.copy(ordered[0] / CONFIG, target / CONFIG)
    shutil.copy(ordered[0] / "conversations" / JUDGE, conversations / JUDGE)
    for name in (TREES, *(f"{ledger}.jsonl" for ledger in (CALLS, *LEDGERS))):
        _concatenate([source / "conversations" / name for source in ordered], conversations / name)
    put_in_order(conversations / TREES)
    wanted = sum(StoredCounts.of(manifest).wanted or 0 for manifest in manifests)
    whole = dataclasses.replace(
        manifests[0],
        inputs=_without_shard(manifests[0].inputs),
        counts=conversation_counts(conversations, wanted),
        seconds=sum(manifest.seconds for manifest in manifests),
        outputs={TREES: files.hash_file(conversations / TREES)},
    )
    whole.write(epath.Path(conversations))
    return whole.counts


def _manifest(source: Path) -> Manifest:
    """The manifest of a finished shard. InputError for anything else."""
    folder = source / "conversations"
    files.existing(folder / MANIFEST, "finished conversations:")
    manifest = read_manifest(folder)
    if not manifest.finished:
        raise InputError(f"{source}: its conversations are not finished; run the same `aloe run` again")
    if SHARD not in manifest.inputs:
        raise InputError(f"{source}: its conversations were grown without --shard; there is nothing to merge")
    return manifest


def _check_run(source: Path, conversations: Manifest) -> None:
    """InputError if a run's config or the trial of its judge cannot be read, or if its personas are not those that the
    conversations were grown from."""
    files.read_object(source / CONFIG)
    trials = files.read_object(source / "conversations" / JUDGE)
    parse(StoredTrials, json.dumps(trials), str(source / "conversations" / JUDGE))
    personas = read_manifest(source / "personas")
    if personas.identity != conversations.inputs.get("personas"):
        raise InputError(
            f"{source / 'personas'}: these are not the personas that the conversations were grown from; restore the "
            "folder from a copy"
        )
    check_outputs(source / "personas", personas)


def _without_shard(inputs: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in inputs.items() if name != SHARD}


def _check_same(sources: Sequence[str], manifests: Sequence[Manifest]) -> None:
    for source, manifest in zip(sources[1:], manifests[1:], strict=True):
        found = differences(manifests[0].config, manifest.config)
        ours, theirs = (_without_shard(each.inputs) for each in (manifests[0], manifest))
        found += differences(ours, theirs, "input")
        if found:
            raise InputError(
                f"{source} and {sources[0]} are no shards of one run ({'; '.join(found)}); merge equal ones"
            )


def _check_overlap(sources: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for source in sources:
        for name in identities(source / "conversations" / TREES):
            if name in seen:
                raise InputError(f"conversation '{name}' is in {seen[name]} and in {source}; merge each shard once")
            seen[name] = source


def _concatenate(parts: Sequence[Path], target: Path) -> None:
    def lines() -> Iterator[str]:
        answered = set()
        for part in parts:
            for _, line in files.lines(part):
                if part.name == f"{CALLS}.jsonl":  # equal requests of two shards have the same id: one is kept
                    if (head := line[:80]) in answered:
                        continue
                    answered.add(head)
                yield line

    files.write_lines(target, lines())

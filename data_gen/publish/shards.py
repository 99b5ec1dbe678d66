"""Conversations that several machines have grown, each its shard, as one run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub.folders import new_folder
from aloe_jax.run.config import differences
from aloe_jax.run.stage import CONFIG, MANIFEST
from data_gen.calls.store import CALLS, LEDGERS
from data_gen.game.scheduler import identities, parse_shard, put_in_order
from data_gen.game.stage import JUDGE, TREES, conversation_counts


def merge(sources: Sequence[str], out: str) -> dict[str, Any]:
    """Make the run directory `out` of run directories that each have a finished shard of its conversations; returns
    the counts of its manifest.

    Raises InputError, before anything is written, unless the sources are all shards of one and the same growing (equal
    config, personas and templates), each once, and no conversation is in two of them; and if `out` is not empty.
    """
    manifests = [_manifest(Path(source)) for source in sources]
    _check_same(sources, manifests)
    shards = {
        parse_shard(manifest["inputs"]["shard"]): Path(source)
        for source, manifest in zip(sources, manifests, strict=True)
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


def _write(target: Path, ordered: Sequence[Path], manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    conversations = target / "conversations"
    conversations.mkdir(parents=True)
    shutil.copytree(ordered[0] / "personas", target / "personas")
    shutil.copy(ordered[0] / CONFIG, target / CONFIG)
    shutil.copy(ordered[0] / "conversations" / JUDGE, conversations / JUDGE)
    for name in (TREES, *(f"{ledger}.jsonl" for ledger in (CALLS, *LEDGERS))):
        _concatenate([source / "conversations" / name for source in ordered], conversations / name)
    put_in_order(conversations / TREES)
    wanted = sum(manifest["counts"]["wanted"] for manifest in manifests)
    manifest = {
        **manifests[0],
        "inputs": {name: value for name, value in manifests[0]["inputs"].items() if name != "shard"},
        "counts": conversation_counts(conversations, wanted),
        "seconds": sum(each["seconds"] for each in manifests),
        "outputs": {TREES: files.hash_file(conversations / TREES)},
    }
    files.write_json(conversations / MANIFEST, manifest)
    return manifest["counts"]


def _manifest(source: Path) -> dict[str, Any]:
    path = files.existing(source / "conversations" / MANIFEST, "finished conversations:")
    manifest = files.read_json(path)
    if manifest["status"] != "finished":
        raise InputError(f"{source}: its conversations are not finished; run the same `aloe run` again")
    if "shard" not in manifest["inputs"]:
        raise InputError(f"{source}: its conversations were grown without --shard; there is nothing to merge")
    return manifest


def _check_same(sources: Sequence[str], manifests: Sequence[dict[str, Any]]) -> None:
    for source, manifest in zip(sources[1:], manifests[1:], strict=True):
        found = differences(manifests[0]["config"], manifest["config"])
        ours, theirs = ({k: v for k, v in each["inputs"].items() if k != "shard"} for each in (manifests[0], manifest))
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
                if part.name == f"{CALLS}.jsonl":  # an answer stands once, under the hash of its request
                    if (head := line[:80]) in answered:
                        continue
                    answered.add(head)
                yield line

    files.write_lines(target, lines())

"""`aloe merge` of the shards of a run: refused, or one run with all that the shards hold."""

from __future__ import annotations

import functools
import json
import random
import shutil
import tempfile
from pathlib import Path

from aloe_jax.run.manifest import MANIFEST, read_manifest
from fuzz.case import Case, Result, aloe, command
from fuzz.targets.data import DEMO, strictly_read
from fuzz.targets.models import other_kind
from fuzz.targets.runs import mutate_file
from helpers.fake_server import MODEL, FakeServer, running

SHARDS = ("0", "1")
RUN = (f"--config.serve.model={MODEL}", "--config.conversations.trees=4", "--config.roles.responder.max_tokens=32")


@functools.cache
def _grown() -> tuple[Path, tuple[str, ...]]:
    """A folder with two finished shards of a run and what `aloe merge` makes of them, `whole`; and the arguments of
    that run."""
    root = Path(tempfile.mkdtemp(prefix="aloe-fuzz-shards-"))
    with running(FakeServer()) as url:
        call = ("run", DEMO, "--stages=personas,conversations", f"--config.serve.base_url={url}", *RUN)
        for number in SHARDS:
            result = aloe((*call, f"--workdir={root / number}", f"--shard={number}/{len(SHARDS)}"))
            assert result.code == 0, result
    result = aloe(("merge", *(str(root / number) for number in SHARDS), f"--out={root / 'whole'}"))
    assert result.code == 0, result
    return root, call


def merge(rng: random.Random, folder: Path) -> Case:
    """`aloe merge` of two shards, one with a changed file."""
    for number in SHARDS:
        shutil.copytree(_grown()[0] / number, folder / number)
    given, told, changed, refuses = list(SHARDS), "nothing", "", False
    kind = rng.choice(("file", "file", "file", "file", "manifest", "gone", "given"))
    if kind == "given":
        given = rng.choice((["0"], ["0", "0"], ["0", "1", "0"], ["1", "0"], ["0", "none"], ["0", "1/conversations"]))
        refuses, told = set(given) != set(SHARDS) or len(given) > len(SHARDS), f"given {given}"
    else:
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
        if kind == "manifest":
            files = [path for path in files if path.name == MANIFEST]
        path = rng.choice(files)
        told = f"{path.name}: {other_kind(rng, path)}" if kind == "gone" else mutate_file(rng, path)
        told, changed = f"{path.parent.relative_to(folder)} {told}", path.name
    call = ("merge", *given, "--out=out")
    return Case(
        command(*call), "aloe " + " ".join(call), told, writes=("out",), refuses=refuses,
        check=lambda result: _lost(folder / "out", changed),
    )  # fmt: skip


def _lost(out: Path, changed: str) -> str | None:
    """What of a merged run is not that of the unchanged shards; `changed` is the name of the file that was."""
    root, call = _grown()
    for path in sorted(path for path in (root / "whole").rglob("*") if path.is_file()):
        found = out / path.relative_to(root / "whole")
        if not found.is_file():
            return f"{found.name} is missing"
        if path.name == MANIFEST:
            if read_manifest(path.parent).identity != read_manifest(found.parent).identity:
                return f"{found} is that of another run"
        elif path.name == changed and path.suffix == ".jsonl":
            records = strictly_read(found.read_bytes())
            if records is None or not all(isinstance(record, dict) for record in records):
                return f"{found.name} has a line that is no JSON object"
        elif path.name == changed:
            json.loads(found.read_text())
        elif path.read_bytes() != found.read_bytes():
            return f"{found.name} is another than that of the unchanged shards"
    result: Result = aloe((*call, f"--workdir={out}"))
    skipped = result.err.count("finished before, skipped") == 2
    return None if skipped else f"`aloe run` does not go on from the merged run: {result.err[-1000:]}"

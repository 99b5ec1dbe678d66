"""What a run directory holds, read for the report. Anything may be missing: a run that stopped half-way has one too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aloe_jax.run.defaults import STAGES
from etils import epath
from pydantic import ConfigDict, Field

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Conversation, Persona, Record, parse, read_personas, read_trees
from eval.benchmark.metrics import Metrics, metrics
from eval.benchmark.scores import ScoreRecord, read_scores

MODELS = ("base", "sft", "preference")


class StageManifest(Record):
    """The parts of a stage's `manifest.json` that the report shows; the rest of the file is ignored."""

    model_config = ConfigDict(extra="ignore")

    counts: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, Any] = Field(default_factory=dict)
    seconds: float | None = None
    status: str | None = None


@dataclass(frozen=True)
class TreeSummary:
    """`conversations/trees.jsonl` in numbers, with its first few conversations whole."""

    conversations: int
    turns: int  # user turns on the longest path
    candidates: int  # most replies to one message
    replies: int
    preferences: int
    reply_tokens: int  # longest reply, 0 where no token ids are stored
    flags: dict[str, int]  # how many nodes carry each flag
    first: tuple[Conversation, ...]


@dataclass(frozen=True)
class ModelResult:
    """What the benchmark wrote for one model; `metrics` are computed from the scores where the file is missing."""

    scores: tuple[ScoreRecord, ...] = ()
    metrics: Metrics | None = None
    trees: tuple[Conversation, ...] = ()


@dataclass(frozen=True)
class Run:
    """Everything the report is made of; empty where the run directory has nothing."""

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    manifests: dict[str, StageManifest] = field(default_factory=dict)
    personas: tuple[Persona, ...] = ()
    trees: TreeSummary | None = None
    training: dict[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)  # stage -> one object a step
    results: dict[str, ModelResult] = field(default_factory=dict)


def read_run(workdir: epath.PathLike, conversations: int = 3) -> Run:
    """Read a run directory; `conversations` is how many training trees to keep whole.

    Raises InputError if the directory does not exist or a file in it is broken (with the line).
    """
    root = files.existing(workdir, "run directory")
    if not root.is_dir():
        raise InputError(f"run directory '{workdir}' is a file; name the --workdir of an `aloe run`")
    personas, trees, config = root / "personas/personas.jsonl", root / "conversations/trees.jsonl", root / "config.json"
    manifests = {stage: root / stage / "manifest.json" for stage in STAGES}
    training = {stage: root / stage / "metrics.jsonl" for stage in ("sft", "preference")}
    results = {model: root / "benchmark" / model for model in MODELS}
    return Run(
        name=root.name,
        config=_read_config(config) if config.exists() else {},
        manifests={stage: _read_manifest(path) for stage, path in manifests.items() if path.exists()},
        personas=tuple(read_personas(personas)) if personas.exists() else (),
        trees=summarise(read_trees(trees), conversations) if trees.exists() else None,
        training={stage: tuple(files.read_json_lines(path)) for stage, path in training.items() if path.exists()},
        results={model: _read_result(path) for model, path in results.items() if path.exists()},
    )


def _read_manifest(path: epath.Path) -> StageManifest:
    return parse(StageManifest, path.read_text(), str(path))


def _read_config(path: epath.Path) -> dict[str, Any]:
    config = files.read_json(path)
    if not isinstance(config, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(config).__name__}")
    return config


def _read_result(directory: epath.Path) -> ModelResult:
    scores_file, metrics_file, trees_file = (
        directory / name for name in ("scores.jsonl", "metrics.json", "trees.jsonl")
    )
    scores = tuple(read_scores(scores_file)) if scores_file.exists() else ()
    if metrics_file.exists():
        figures: Metrics | None = parse(Metrics, metrics_file.read_text(), str(metrics_file))
    else:
        figures = metrics(scores) if scores else None
    return ModelResult(scores, figures, tuple(read_trees(trees_file)) if trees_file.exists() else ())


def summarise(trees: Iterator[Conversation], keep: int) -> TreeSummary:
    """Count over all conversations, one at a time, and keep the first `keep` of them."""
    first: list[Conversation] = []
    flags: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for tree in trees:
        if len(first) < keep:
            first.append(tree)
        depth: dict[str | None, int] = {None: 0}
        siblings: Counter[str | None] = Counter()
        for node in tree.nodes:
            depth[node.id] = depth[node.parent] + (node.role == "user")
            flags.update(node.flags)
            if node.role == "assistant":
                siblings[node.parent] += 1
                most["tokens"] = max(most["tokens"], len(node.token_ids or ()))
        totals.update(conversations=1, replies=siblings.total(), preferences=len(tree.preferences))
        most["turns"] = max(most["turns"], *depth.values())
        most["candidates"] = max(most["candidates"], *siblings.values(), 0)
    return TreeSummary(
        conversations=totals["conversations"],
        turns=most["turns"],
        candidates=most["candidates"],
        replies=totals["replies"],
        preferences=totals["preferences"],
        reply_tokens=most["tokens"],
        flags=dict(flags),
        first=tuple(first),
    )

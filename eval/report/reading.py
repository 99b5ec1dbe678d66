"""Reads a run directory for the report. Anything in it may be missing: an interrupted run has a report too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from etils import epath
from pydantic import ConfigDict

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.inspect.statistics import STATISTICS, Statistics, read_statistics
from aloe_jax.run.manifest import Manifest, Values, find_manifest
from aloe_jax.train.names import CHAIN, ONLINE
from aloe_jax.tree.schema import Conversation, Persona, Record, parse, read_personas, read_trees
from data_gen.calls.store import CALLS
from eval.benchmark.cases import TREES
from eval.benchmark.general import General, read_general
from eval.benchmark.hacking import Hacking, read_hacking
from eval.benchmark.metrics import Metrics, metrics
from eval.benchmark.results import METRICS
from eval.benchmark.scores import SCORES, ScoreRecord, read_scores
from eval.benchmark.tasks import TaskResult, read_tasks
from eval.benchmark.truth import Truth, corrected_metrics, find_truth
from eval.report.names import ordered

NAME = "report"  # of the stage and its folder


@dataclass(frozen=True)
class TreeSummary:
    """`conversations/trees.jsonl` in numbers, with its first few conversations as they are."""

    conversations: int
    turns: int  # user turns on the longest path
    candidates: int  # largest number of replies to one message
    replies: int
    preferences: int
    reply_tokens: int  # of the longest reply; 0 if no token ids are stored
    flags: Mapping[str, int]  # nodes with each flag
    first: tuple[Conversation, ...]


class _Call(Record):
    """The part of a stored call that is counted."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: str
    tokens: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Tokens:
    """The calls to a model that are stored, and the tokens that they say were read and written."""

    calls: int
    read: int
    written: int


@dataclass(frozen=True)
class ModelResult:
    """The benchmark's files of one result; `metrics` are computed from the scores if their file is missing, and are
    corrected by the labels that there are now."""

    scores: tuple[ScoreRecord, ...] = ()
    metrics: Metrics | None = None
    trees: tuple[Conversation, ...] = ()
    manifest: Manifest | None = None
    tokens: Mapping[str, Tokens] = field(default_factory=dict)  # by role of the calls
    truth: Truth | None = None  # labels of the replies
    general: General | None = None  # its general ability, where it was measured
    tasks: Mapping[str, TaskResult] = field(default_factory=dict)  # of lm-eval, by name
    hacking: Hacking | None = None  # its follow-up questions, where they were probed

    @cached_property
    def dialogues(self) -> dict[str, Conversation]:
        """The dialogues by case."""
        return {tree.id: tree for tree in self.trees}


@dataclass(frozen=True)
class RunRecord:
    """The contents of a run directory, empty where it has nothing."""

    name: str
    config: Values = field(default_factory=dict)
    manifests: Mapping[str, Manifest] = field(default_factory=dict)  # of the stages that have started, in order
    missing: tuple[str, ...] = ()  # other stages, which have not started; not `online`, which most runs do without
    personas: tuple[Persona, ...] = ()
    trees: TreeSummary | None = None
    statistics: Statistics | None = None  # of the conversations that the dataset stage wrote
    training: Mapping[str, Sequence[Values]] = field(default_factory=dict)  # stage -> one object per step
    results: Mapping[str, ModelResult] = field(default_factory=dict)


def read_run(workdir: epath.PathLike, stages: Sequence[str], conversations: int = 3) -> RunRecord:
    """The contents of a run directory. `stages` are the names of the pipeline's stages, in order; `conversations` is
    how many training trees to keep whole.

    Raises InputError if the directory does not exist or a file in it is broken (with the line).
    """
    root = files.existing(workdir, "run directory")
    if not root.is_dir():
        raise InputError(f"run directory '{workdir}' is a file; name the --workdir of an `aloe run`")
    personas, trees, config = root / "personas/personas.jsonl", root / "conversations/trees.jsonl", root / "config.json"
    # The report does not list itself: while it is written, its stage is always running.
    found = {stage: find_manifest(root / stage) for stage in stages if stage != NAME}
    training = {stage: root / stage / "metrics.jsonl" for stage in CHAIN}
    statistics = root / "dataset" / STATISTICS
    return RunRecord(
        name=root.name,
        config=files.read_object(config) if config.exists() else {},
        manifests={stage: manifest for stage, manifest in found.items() if manifest is not None},
        missing=tuple(stage for stage, manifest in found.items() if manifest is None and stage != ONLINE),
        personas=tuple(read_personas(personas)) if personas.exists() else (),
        trees=summarise(read_trees(trees), conversations) if trees.exists() else None,
        statistics=read_statistics(statistics) if statistics.exists() else None,
        training={
            stage: files.read_json_lines(path, finite=False) for stage, path in training.items() if path.exists()
        },
        results=read_results(root / "benchmark"),
    )


def read_results(benchmark: epath.Path) -> dict[str, ModelResult]:
    """The results in the folder of a benchmark by name, in the order of `names.ordered`; empty if it does not exist."""
    found = [path.name for path in benchmark.iterdir() if is_result(path)] if benchmark.exists() else []
    return {name: read_result(benchmark / name) for name in ordered(found)}


def is_result(directory: epath.Path) -> bool:
    """Whether a folder has files of a result."""
    return directory.is_dir() and any((directory / name).exists() for name in (SCORES, METRICS, TREES))


def read_result(directory: epath.Path) -> ModelResult:
    """The result in a folder. InputError for a broken file."""
    scores_file, metrics_file, trees_file = (directory / name for name in (SCORES, METRICS, TREES))
    scores = tuple(read_scores(scores_file)) if scores_file.exists() else ()
    if metrics_file.exists():
        figures: Metrics | None = parse(Metrics, files.read_text(metrics_file), str(metrics_file))
    else:
        figures = metrics(scores) if scores else None
    truth = find_truth(directory)
    if figures is not None and scores:
        figures = corrected_metrics(figures, scores, truth)
    return ModelResult(
        scores,
        figures,
        tuple(read_trees(trees_file)) if trees_file.exists() else (),
        find_manifest(directory),
        _tokens(directory),
        truth,
        read_general(directory),
        read_tasks(directory),
        read_hacking(directory),
    )


def _tokens(directory: epath.Path) -> dict[str, Tokens]:
    """The tokens of the stored calls by role; calls whose server did not count them count without tokens."""
    path, totals = directory / f"{CALLS}.jsonl", dict[str, tuple[int, int, int]]()
    for number, line in files.lines(path) if path.exists() else ():
        call = parse(_Call, line, f"{path} line {number}")
        calls, read, written = totals.get(call.role, (0, 0, 0))
        totals[call.role] = (calls + 1, read + call.tokens[0], written + call.tokens[1])
    return {role: Tokens(*total) for role, total in totals.items()}


def summarise(trees: Iterator[Conversation], keep: int) -> TreeSummary:
    """Counts over all conversations, which are read one at a time; the first `keep` of them are kept whole."""
    first: list[Conversation] = []
    flags: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for tree in trees:
        if len(first) < keep:
            first.append(tree)
        depth: dict[str | None, int] = {None: 0}
        siblings: Counter[str | None] = Counter()
        for node in tree.dialogue:
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

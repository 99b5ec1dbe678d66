"""What a model reaches in tasks of lm-eval: `tasks/NAME.json` in the folder of its result.

A figure that is the mean of one number per document (accuracy, exact match) has a standard error over the documents,
and differences of two models are paired by document. Other figures (perplexities, F1) have a value alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from etils import epath
from pydantic import Field

from aloe_jax import files
from aloe_jax.tree.schema import Record, parse
from eval.benchmark.crossed import Estimate
from eval.benchmark.general import mean_per_token

TASKS = "tasks"  # the folder
ROUNDING = 1e-9  # between a mean of ours and lm-eval's


class Figure(Record):
    """A figure of a task. `name` is lm-eval's, such as `acc`, with its filter in brackets if it has one. `error`: the
    standard error; null if the figure is no mean over documents, or there is one document."""

    name: str
    value: float | None = Field(description="null where it is no finite number")
    error: float | None
    higher_is_better: bool | None


class Document(Record):
    """A document of a task with its numbers by figure. `hash` is of its content and its target."""

    id: int
    hash: str
    values: Mapping[str, float]


class TaskResult(Record):
    """Content of `tasks/NAME.json`. `limit` is how many documents were asked for (0: all), `cut` how many prompts were
    cut from the left because they were longer than the context."""

    lm_eval: str = Field(description="version")
    definition: str = Field(description="hash of the task's file; for a task that lm-eval has, its version there")
    shots: int
    limit: int
    cut: int
    figures: tuple[Figure, ...] = Field(min_length=1)
    documents: tuple[Document, ...] = Field(min_length=1)

    def covers(self, limit: int, file: str) -> bool:
        """Whether it has the documents that `limit` asks for, and was done with a file of this hash (empty: none)."""
        return (self.limit == 0 or 0 < limit <= self.limit) and file in ("", self.definition)


@dataclass(frozen=True)
class TaskDifference:
    """The difference of a figure of a task between two models, over the `documents` that both have."""

    task: str
    figure: str
    documents: int
    found: Estimate


def figures(
    values: Mapping[str, float], better: Mapping[str, bool | None], documents: Sequence[Document]
) -> tuple[Figure, ...]:
    """The figures with lm-eval's `values` and whether more of them is `better`, by name."""
    made = []
    for name, value in values.items():
        own = np.array([each.values[name] for each in documents if name in each.values])
        found = mean_per_token(own, np.ones(own.size, int)) if own.size == len(documents) else None
        error = found.error if found and abs(found.value - value) <= ROUNDING and np.isfinite(found.error) else None
        made.append(Figure(name=name, value=value if np.isfinite(value) else None, error=error,
                           higher_is_better=better.get(name)))  # fmt: skip
    return tuple(made)


def task_differences(first: Mapping[str, TaskResult], second: Mapping[str, TaskResult]) -> Iterator[TaskDifference]:
    """`first` minus `second`, for each task that both did alike and each figure that is a mean over documents in both;
    none of a task without a document in common (same number, content and target)."""
    for task, one in first.items():
        other = second.get(task)
        if other is None or (one.definition, one.shots) != (other.definition, other.shots):
            continue
        means = {each.name for each in other.figures if each.error is not None}
        theirs = {(each.id, each.hash): each.values for each in other.documents}
        for figure in one.figures:
            if figure.error is None or figure.name not in means:
                continue
            pairs = [
                each.values[figure.name] - theirs[each.id, each.hash][figure.name]
                for each in one.documents
                if (each.id, each.hash) in theirs
            ]
            if pairs:
                found = mean_per_token(np.array(pairs), np.ones(len(pairs), int))
                yield TaskDifference(task, figure.name, len(pairs), found)


def task_file(directory: epath.Path, task: str) -> epath.Path:
    """The file of a task in the folder of a result."""
    return directory / TASKS / f"{task}.json"


def read_tasks(directory: epath.Path) -> dict[str, TaskResult]:
    """What a result's folder has, by task in the order of names. InputError for a broken file."""
    folder = directory / TASKS
    paths = sorted(folder.glob("*.json")) if folder.exists() else []
    return {path.name.removesuffix(".json"): read_task(path) for path in paths}


def read_task(path: epath.Path) -> TaskResult:
    """The content of one file. InputError if it is broken."""
    return parse(TaskResult, files.read_text(path), str(path))

"""Has each model of this machine do the tasks of `config.benchmark.tasks` that it has not done, with our engine."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aloe_jax import files, memory
from aloe_jax.decode.engine import Engine
from aloe_jax.errors import AloeError, InputError
from aloe_jax.parallel import hosts
from aloe_jax.run.stage import Run
from aloe_jax.serve.local import stage_engine
from aloe_jax.tree.template import ChatFormat
from eval.benchmark.entries import task_names
from eval.benchmark.settings import BenchmarkSettings
from eval.benchmark.tasks import Document, TaskResult, figures, read_task, task_file

INSTALL = "pip install 'lm-eval>=0.4.13'"


def undone(run: Run) -> dict[str, dict[str, str]]:
    """By result the tasks, as in `task_names`, that are not done, or with fewer documents or another definition."""
    settings = run.section("benchmark", BenchmarkSettings)
    tasks = task_names(settings.tasks)
    hashes = {name: _file_hash(name, item) for name, item in tasks.items()}
    found: dict[str, dict[str, str]] = {}
    for entry in settings.entries:
        if entry.loaded:
            missing = {}
            for name, item in tasks.items():
                path = task_file(run.directory("benchmark") / entry.name, name)
                if not (path.exists() and read_task(path).covers(settings.task_limit, hashes[name])):
                    missing[name] = item
            found |= {entry.name: missing} if missing else {}
    return found


def _file_hash(name: str, item: str) -> str:
    """The hash of a task's file; empty for a task that lm-eval has."""
    return files.hash_file(files.existing(item, "config.benchmark.tasks: file"))[:16] if item != name else ""


def check_tasks(run: Run) -> None:
    """Raise InputError if lm-eval is needed and missing, or cannot load a task that is still to be done."""
    if hosts.is_primary():
        for item in {item for tasks in undone(run).values() for item in tasks.values()}:
            _load(item)


def do_tasks(run: Run) -> None:
    """Do what is undone; each file is written when its task is done. Raises InputError as `check_tasks`."""
    settings = run.section("benchmark", BenchmarkSettings)
    models = {entry.name: entry.loaded for entry in settings.entries}
    for result, tasks in undone(run).items():
        loaded = {name: _load(item) for name, item in tasks.items()}
        with stage_engine(run, models[result]) as opened:
            for name, task in loaded.items():
                done = _done(run, name, task, opened, settings.task_limit, _file_hash(name, tasks[name]))
                path = task_file(run.directory("benchmark") / result, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                files.write_json(path, done.model_dump(mode="json"))
        memory.release()


@functools.cache
def _manager(defaults: bool) -> Any:
    """lm-eval's loader of tasks, with or without its index of those that it has, which takes a while to read."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=defaults)


def _load(item: str) -> Any:
    """The task of lm-eval that an item names. InputError if there is none, or none alone."""
    if importlib.util.find_spec("lm_eval") is None:
        raise InputError(f"config.benchmark.tasks: lm-eval is not installed; run `{INSTALL}`, or leave the tasks out")
    from lm_eval.tasks import TaskManager

    if not hasattr(TaskManager, "load"):
        found = importlib.metadata.version("lm_eval")
        raise InputError(f"config.benchmark.tasks: lm-eval {found} is installed, expected a newer one; run `{INSTALL}`")
    try:
        tasks = _manager(defaults=item in task_names([item])).load([item])["tasks"]
    except Exception as error:  # whatever a task's file, its code or its data set raises
        raise InputError(f"config.benchmark.tasks: lm-eval cannot load '{item}' ({_reason(error)}); name a task of "
                         "`lm-eval ls tasks` whose data set can be reached, or mend the file") from error  # fmt: skip
    if len(tasks) != 1:
        raise InputError(f"config.benchmark.tasks: '{item}' is a group of {len(tasks)} tasks; name single ones")
    [task] = tasks.values()
    for flag, what in (("UNSAFE_CODE", "runs code that the model writes"), ("MULTIMODAL", "shows images")):
        if getattr(task, flag, False):
            raise InputError(f"config.benchmark.tasks: '{item}' {what}, which is not done here; leave it out")
    return task


def _done(run: Run, name: str, task: Any, opened: tuple[Engine, ChatFormat], limit: int, definition: str) -> TaskResult:
    """The result of a task by the model of an engine."""
    from lm_eval.defaults import DEFAULT_OTHER_SEED
    from lm_eval.evaluator import evaluate

    from eval.benchmark.task_model import EngineModel

    def tell(done: int, total: int) -> None:
        run.progress.update(done, total, f"requests, {name}")

    model = EngineModel(*opened, run.seed, tell)
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
    loaded: Any = {"tasks": {task.task_name: task}, "groups": {}, "group_map": {}}
    try:  # standard errors are ours: for lm-eval's a pool of processes is forked
        found: Any = evaluate(
            model, loaded, limit=limit or None, bootstrap_iters=0, apply_chat_template=True, fewshot_as_multiturn=True
        )
    except AloeError:
        raise
    except Exception as error:
        raise AloeError(f"config.benchmark.tasks: lm-eval failed on '{name}' ({_reason(error)})") from error
    if model.cut:
        run.progress.line(f"benchmark: {name}: {model.cut} prompts were longer than config.serve.context and were cut "
                          "from the left")  # fmt: skip
    result = task.task_name
    documents, metrics, better = _documents(found["samples"][result]), {}, {}
    for key, value in found["results"][result].items():
        metric, comma, kept = key.partition(",")
        if comma and not metric.endswith("_stderr") and (number := _number(value)) is not None:
            metrics[_named(metric, kept)] = number
            better[_named(metric, kept)] = found["higher_is_better"][result].get(metric)
    return TaskResult(
        lm_eval=importlib.metadata.version("lm_eval"),
        definition=definition or f"version {found['versions'].get(result)}",
        shots=int(found["n-shot"].get(result) or 0),
        limit=limit,
        cut=model.cut,
        figures=figures(metrics, better, documents),
        documents=documents,
    )


def _documents(samples: Sequence[Mapping[str, Any]]) -> tuple[Document, ...]:
    """The documents of lm-eval's samples, of which there is one per document and filter."""
    values: dict[tuple[int, str], dict[str, float]] = {}
    for sample in samples:
        key = sample["doc_id"], files.sha256(sample["doc_hash"], sample["target_hash"])[:16]
        numbers = {_named(metric, sample["filter"]): _number(sample[metric]) for metric in sample["metrics"]}
        found = {name: number for name, number in numbers.items() if number is not None and math.isfinite(number)}
        values.setdefault(key, {}).update(found)
    return tuple(Document(id=number, hash=digest, values=found) for (number, digest), found in sorted(values.items()))


def _number(value: object) -> float | None:
    """A number as it is, None for anything else, such as a pair of log-probability and words."""
    return float(value) if isinstance(value, (bool, int, float, np.number, np.bool_)) else None


def _named(metric: str, kept: str) -> str:
    """A figure's name, with the filter that answers went through unless that is none."""
    return metric if kept == "none" else f"{metric} ({kept})"


def _reason(error: Exception) -> str:
    """The first line of an exception, shortened."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"

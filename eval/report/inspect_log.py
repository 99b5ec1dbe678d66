"""A result of the benchmark as a log of inspect-ai, which `inspect view` opens (https://inspect.aisi.org.uk).

A case is a sample: its messages are the dialogue, its scores the means over its turns. The scores of single replies are
metadata of their messages. Format: `EvalLog`, version 2, as JSON.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from etils import epath

from aloe_jax import files
from aloe_jax.tree.schema import Conversation, Node
from eval.benchmark.dialogues import STORED, replies_of
from eval.benchmark.entries import TESTED
from eval.benchmark.metrics import ScaleMetrics
from eval.benchmark.scores import SCORES
from eval.report.findings import SCALES, metrics_on
from eval.report.reading import ModelResult

VERSION = 2  # of the format
TASK = "aloe"
FIGURES = ("average", "IR", "R2", "N_IR", "N_R2")
CRITERIA = {"overall": "shown"}  # criterion of a reply -> name in the log, where they differ
Values = dict[str, object]


def write_logs(results: Mapping[str, ModelResult], run: epath.Path, out: epath.Path) -> list[epath.Path]:
    """Write a log of each result with dialogues into `out`, named by the time of its scores as the viewer expects, and
    by run and result, so that reports of several runs may stand in one folder."""
    written = []
    for name, result in results.items():
        scores = run / "benchmark" / name / SCORES
        if not result.trees or not scores.exists():
            continue
        created = datetime.fromtimestamp(scores.stat().mtime, UTC).isoformat(timespec="seconds")
        # The viewer splits at underscores; no result has a "~", so that a_b and a-b stay apart.
        own = f"{run.name}+{name}".replace("_", "~")
        ending = f"_{TASK}_{own}.json"
        path = out / f"{created.replace(':', '-')}{ending}"
        for stale in out.glob(f"*{glob.escape(ending)}"):  # of fewer cases
            if stale.name != path.name:
                stale.unlink()
        files.write_json(path, eval_log(f"{run.name}/{name}", result, created))
        written.append(path)
    return written


def eval_log(model: str, result: ModelResult, created: str) -> Values:
    """The log of a result as JSON values. `created` is an ISO 8601 time."""
    manifest = result.manifest
    finished = manifest is None or manifest.finished
    turns = max((record.turn for record in result.scores), default=0)
    tokens = result.tokens.get(TESTED)
    usage = {}
    if tokens is not None:
        counts = {"input_tokens": tokens.read, "output_tokens": tokens.written}
        usage[model] = counts | {"total_tokens": tokens.read + tokens.written}
    return {
        "version": VERSION,
        "status": "success" if finished else "started",
        "eval": {
            "created": created,
            "task": TASK,
            "task_id": model,
            "dataset": {"name": "held-out personas", "samples": len(result.trees),
                        "sample_ids": [tree.id for tree in result.trees]},
            "model": model,
            "config": {"epochs": 1},
            "packages": dict(manifest.versions) if manifest else {},
            "metadata": {"seed": manifest.seed, "settings": manifest.config} if manifest else {},
        },
        "plan": {"name": "dialogue with a simulated user", "steps": [], "config": {}},
        "results": {
            "total_samples": len({record.case for record in result.scores}),
            "completed_samples": sum(len(replies_of(tree)) == turns for tree in result.trees),
            "scores": [
                _score(scale, metrics) for scale in SCALES if (metrics := metrics_on(result, scale)) is not None
            ],
        },
        "stats": {"started_at": created, "completed_at": created, "model_usage": usage},
        "samples": [_sample(tree, model) for tree in result.trees],
    }  # fmt: skip


def _score(scale: str, found: ScaleMetrics) -> Values:
    """The metrics of a scale; undefined ones are left out."""
    values = {name: getattr(found, name) for name in FIGURES}
    values |= {f"AL_{turn}": level for turn, level in enumerate(found.AL, start=1)}
    metrics = {name: {"name": name, "value": value} for name, value in values.items() if value is not None}
    return {"name": scale, "scorer": scale, "metrics": metrics, "metadata": {"unscored_replies": found.unscored}}


def _sample(tree: Conversation, model: str) -> Values:
    replies = replies_of(tree)
    messages = list(_messages(tree, model))
    last = next((message for message in reversed(messages) if message["role"] == "assistant"), None)
    output: Values = {"model": model, "choices": []}
    if last is not None:
        reason = "max_tokens" if replies and "truncated" in replies[-1].flags else "stop"
        output |= {"choices": [{"message": last, "stop_reason": reason}], "completion": last["content"]}
    persona = tree.persona
    return {
        "id": tree.id,
        "epoch": 1,
        "input": next((str(message["content"]) for message in messages if message["role"] == "user"), ""),
        "target": "",
        "messages": messages,
        "output": output,
        "scores": {name: {"value": sum(values) / len(values)} for name, values in _by_criterion(replies).items()},
        "metadata": {"profile": persona.profile, "personality": persona.personality} if persona else {},
    }


def _messages(tree: Conversation, model: str) -> Iterator[Values]:
    """The dialogue; a stored reply that was replayed after the model's own says so."""
    for node in tree.dialogue:
        message: Values = {"id": f"{tree.id}.{node.id}", "role": node.role, "content": node.text}
        if node.role == "assistant":
            if node.condition == STORED:
                message["metadata"] = {"replayed": True}
            else:
                message["model"] = model
                message["metadata"] = {"scores": _scores(node), "flags": list(node.flags)}
        yield message


def _scores(node: Node) -> dict[str, float | None]:
    return {CRITERIA.get(score.criterion, score.criterion): score.value for score in node.scores}


def _by_criterion(replies: Sequence[Node]) -> dict[str, list[float]]:
    """The scores that replies have, by criterion."""
    found: dict[str, list[float]] = {}
    for node in replies:
        for name, value in _scores(node).items():
            if value is not None:
                found.setdefault(name, []).append(value)
    return found

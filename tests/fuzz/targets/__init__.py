"""The targets by name: each makes a case of one kind of input."""

from __future__ import annotations

from fuzz.case import Target
from fuzz.targets import data, labels, models, requests, runs, servers, shards, trainings, weights

TARGETS: dict[str, Target] = {
    "records": data.records,
    "trees": data.trees,
    "paper": data.paper,
    "scores": data.scores,
    "labels": labels.labels,
    "pools": data.pools,
    "model": models.model,
    "score": models.score,
    "weights": weights.weights,
    "gguf": weights.gguf,
    "checkpoint": trainings.checkpoint,
    "requests": requests.requests,
    "answers": servers.answers,
    "probe": servers.probe,
    "config": runs.config,
    "status": runs.status,
    "report": runs.report,
    "compare": runs.compare,
    "publish": runs.publish,
    "viewer": runs.viewer,
    "resume": runs.resume,
    "store": runs.store,
    "merge": shards.merge,
}

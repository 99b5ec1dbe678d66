"""The records of `trees.jsonl` as plain JSON, which the viewer shows as it is; the schema's models are too slow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict


class JsonScore(TypedDict):
    """A judge's score of a reply."""

    judge: str
    criterion: str
    value: float | None


class JsonNode(TypedDict):
    """A message. `tokens` is the number of its token ids, in place of the ids themselves."""

    id: str
    parent: NotRequired[str | None]
    role: str
    text: str
    scores: NotRequired[list[JsonScore]]
    value: NotRequired[float | None]
    flags: NotRequired[list[str]]
    token_ids: NotRequired[list[int]]
    logprobs: NotRequired[list[float]]
    tokens: NotRequired[int]


class JsonPreference(TypedDict):
    """A judge's preference between two replies. A negative margin is a preference for the one called rejected."""

    chosen: str
    rejected: str
    margin: NotRequired[float]
    judge: NotRequired[str | None]


class JsonPersona(TypedDict):
    """A persona, perhaps by its id alone."""

    id: str
    profile: NotRequired[str]
    personality: NotRequired[str]
    facts: NotRequired[list[Mapping[str, str]]]
    traits: NotRequired[list[Mapping[str, str]]]


class JsonTree(TypedDict):
    """A conversation; unknown keys are shown as they are."""

    id: str
    nodes: list[JsonNode]
    persona: NotRequired[JsonPersona | None]
    preferences: NotRequired[list[JsonPreference]]


JsonReject = Mapping[str, object]  # a line of rejects.jsonl, which only the page reads


def judged(node: JsonNode) -> float | None:
    """The judge's score of a reply: the one called overall; otherwise the only one; otherwise its value in the tree."""
    scores = node.get("scores", [])
    for score in scores:
        if score["criterion"] == "overall":
            return score["value"]
    return scores[0]["value"] if len(scores) == 1 else node.get("value")


def without_tokens(tree: JsonTree) -> JsonTree:
    """The same tree with the number of token ids of each node in place of its ids and log-probabilities."""
    for node in tree["nodes"]:
        node.pop("logprobs", None)
        if (ids := node.pop("token_ids", None)) is not None:
            node["tokens"] = len(ids)
    return tree

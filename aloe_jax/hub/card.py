"""The model card (README.md) of an exported model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

CARD_FILE = "README.md"


class Figures(TypedDict, total=False):
    """The part of a `metrics.json` that a card shows."""

    AL: Sequence[float | None]  # alignment level by turn
    average: float | None
    IR: float | None
    R2: float | None
    ci: Mapping[str, Sequence[float | None]]  # [low, high] of the same keys


@dataclass(frozen=True)
class ModelCard:
    """The facts on the card of an exported folder.

    `benchmark` maps the name of a result (a model, or a control as in `sft+wrong_persona`) to its figures; those that
    are absent or null are shown as a dash.
    """

    name: str
    base_model: str
    data: str
    objective: str
    license: str | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    benchmark: Mapping[str, Figures] = field(default_factory=dict)

    def text(self) -> str:
        """The card as markdown, with the metadata block that model hubs read."""
        return "\n\n".join(filter(None, (self._metadata(), self._facts(), self._figures(), self._settings()))) + "\n"

    def _metadata(self) -> str:
        entries = {"base_model": self.base_model, "license": self.license, "pipeline_tag": "text-generation"}
        # JSON strings are YAML strings, so no value can break out of its line.
        rows = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items() if value]
        return "\n".join(["---", *rows, "tags: [preference-alignment, aloe]", "---"])

    def _facts(self) -> str:
        return (
            f"# {self.name}\n\n"
            "A language model trained to infer its user's unspoken preferences during the conversation and to fit its "
            "next replies to them (ALOE, arXiv 2410.03642).\n\n"
            f"- Base model: {self.base_model}\n- Data: {self.data}\n- Objective: {self.objective}"
        )

    def _figures(self) -> str:
        """A table of alignment levels by turn, their average and improvement rate with 95 % intervals, one row per
        model."""
        if not self.benchmark:
            return ""
        turns = max(len(metrics.get("AL") or []) for metrics in self.benchmark.values())
        head = ["model", *(f"AL({turn})" for turn in range(1, turns + 1)), "average", "IR", "R2"]
        rows = [head, ["---"] * len(head)]
        for name, metrics in self.benchmark.items():
            levels = list(metrics.get("AL") or [])
            levels += [None] * (turns - len(levels))
            totals = [_with_interval(metrics, "average"), _with_interval(metrics, "IR"), _with_interval(metrics, "R2")]
            rows.append([name, *(_number(level) for level in levels), *totals])
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        return f"## ALOE benchmark\n\nAlignment level AL(k) at turn k; brackets hold 95 % intervals.\n\n{table}"

    def _settings(self) -> str:
        if not self.config:
            return ""
        settings = json.dumps(dict(self.config), indent=2, ensure_ascii=False, default=str)
        return f"## Training configuration\n\n```json\n{settings}\n```"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _with_interval(metrics: Figures, key: Literal["average", "IR", "R2"]) -> str:
    interval = (metrics.get("ci") or {}).get(key)
    if not interval or None in interval:
        return _number(metrics.get(key))
    return f"{_number(metrics.get(key))} [{_number(interval[0])}, {_number(interval[1])}]"

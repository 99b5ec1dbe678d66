"""The model card (README.md) of an exported model: what happened, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

CARD_FILE = "README.md"
TAGS = ("aloe", "preference-alignment")
PLACE = "PATH-OR-HUB-ID"  # in the usage code: a card does not know where its folder will be
TRANSFORMERS = f"""from transformers import AutoModelForCausalLM, AutoTokenizer

name = "{PLACE}"  # of this model
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name, dtype="auto")
"""
ADAPTER = f"""from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

name = "{PLACE}"  # of this adapter, whose adapter_config.json names the base model
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoPeftModelForCausalLM.from_pretrained(name)
"""
ENDS = "model.generation_config = model.generation_config.from_pretrained(name)  # where its template ends replies\n"
REPLY = """messages = [{"role": "user", "content": "What shall I cook tonight?"}]
prompt = {prompt}
inputs = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt", **prompt)
output = model.generate(**inputs, max_new_tokens=128)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""


@dataclass(frozen=True)
class Origin:
    """A model as a card names it. `name` is no path; `note` says what is special about the files that were used;
    `metadata` has the entries that a derived model takes over."""

    name: str
    hub_id: str | None = None
    note: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)


class Figures(TypedDict, total=False):
    """The part of a `metrics.json` that a card shows."""

    AL: Sequence[float | None]  # alignment level by turn
    average: float | None
    IR: float | None
    R2: float | None
    ci: Mapping[str, Sequence[float | None]]  # [low, high] of the same keys
    cases: int


@dataclass(frozen=True)
class TrainedBy:
    """A training that led to the model: its name, its objective, its start, the step whose weights are taken, the steps
    in all if it has finished, and the settings that were in force."""

    name: str
    objective: str
    start: str
    step: int
    steps: int | None = None
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def progress(self) -> str:
        """The step in words."""
        if self.steps is None:
            return f"step {self.step:,} of a training that had not finished"
        return f"step {self.step:,} of {self.steps:,}"


@dataclass(frozen=True)
class ModelCard:
    """The facts on the card of an exported folder.

    `summary` is a sentence on what the model was trained for, `data` and `limits` are sentences. `trainings` are in
    order, the last one the exported one. `adapter` is the rank of an adapter that is exported alone, None for a whole
    model; `templated` if its chat template is not the base model's own. `variables` are those that the template had in
    training. `benchmark` maps the name of a result (a model, or a control as in `sft+wrong_persona`) to its figures;
    those that are absent or null are shown as a dash. The exported model's own result is the one named `result`.
    """

    name: str
    base: Origin
    summary: str
    data: Sequence[str]
    trainings: Sequence[TrainedBy]
    adapter: int | None = None
    templated: bool = False
    variables: Mapping[str, object] = field(default_factory=dict)
    limits: Sequence[str] = ()
    benchmark: Mapping[str, Figures] = field(default_factory=dict)
    result: str = ""

    def text(self) -> str:
        """The card as markdown, with the metadata block that model hubs read."""
        parts = (
            self._metadata(), f"# {self.name}", self._unfinished(), self.summary, self._facts(), self._usage(),
            self._figures(), self._settings(), self._limits(),
        )  # fmt: skip
        return "\n\n".join(filter(None, parts)) + "\n"

    def _metadata(self) -> str:
        entries = {
            **self.base.metadata,
            "library_name": "transformers" if self.adapter is None else "peft",
            "pipeline_tag": "text-generation",
            "tags": [*TAGS] if self.adapter is None else [*TAGS, "lora"],
        }
        if self.base.hub_id:
            relation = "finetune" if self.adapter is None else "adapter"
            entries |= {"base_model": self.base.hub_id, "base_model_relation": relation}
        return front_matter(entries)

    def _unfinished(self) -> str:
        last = self.trainings[-1]
        if last.steps is None:
            return f"> **Unfinished:** these are the weights of {last.progress}."
        return "" if last.step == last.steps else f"> These are the weights of {last.progress}, not of the last one."

    def _facts(self) -> str:
        base = self.base.hub_id or f"{self.base.name}, from files whose place on a hub is not known"
        base += f" ({self.base.note})" if self.base.note else ""
        rows = [f"- Base model: {base}", *(f"- Data: {sentence}" for sentence in self.data)]
        rows += [
            f"- Training `{each.name}`: objective `{each.objective}`, from {each.start}, {each.progress}"
            for each in self.trainings
        ]
        if self.adapter is not None:
            rows.append(f"- The folder holds low-rank adapters of rank {self.adapter} alone, for that base model")
        return "\n".join(rows)

    def _usage(self) -> str:
        base = self.base.hub_id or "PATH-OR-HUB-ID-OF-THE-BASE-MODEL"
        if self.adapter is None:
            load, serve = TRANSFORMERS, f"vllm serve {PLACE}"
        else:
            load = ADAPTER + ENDS if self.templated else ADAPTER
            own = f" --tokenizer={PLACE} --generation-config={PLACE}" if self.templated else ""
            serve = f"vllm serve {base}{own} --enable-lora --max-lora-rank={_lora_limit(self.adapter)} \\\n"
            serve += f"  --lora-modules aloe={PLACE}"
        reply = REPLY.replace("{prompt}", repr({"add_generation_prompt": True, **self.variables}))
        if self.variables:
            serve = f'# with each request: "chat_template_kwargs": {json.dumps(self.variables)}\n{serve}'
        return (
            f"## Use\n\nWith `transformers`{'' if self.adapter is None else ' and `peft`'}:\n\n"
            f"```python\n{load}\n{reply}\n```\n\nWith vLLM, over the OpenAI protocol:\n\n```sh\n{serve}\n```"
        )

    def _figures(self) -> str:
        """A table of alignment levels by turn, their average and improvement rate with 95 % intervals, one row per
        model."""
        if not self.benchmark:
            return ""
        turns = max(len(metrics.get("AL") or []) for metrics in self.benchmark.values())
        head = ["model", "cases", *(f"AL({turn})" for turn in range(1, turns + 1)), "average", "IR", "R2"]
        rows = [head, ["---"] * len(head)]
        for name, metrics in self.benchmark.items():
            levels = list(metrics.get("AL") or [])
            levels += [None] * (turns - len(levels))
            totals = [_with_interval(metrics, "average"), _with_interval(metrics, "IR"), _with_interval(metrics, "R2")]
            label = f"**{name}** (this model)" if name == self.result else name
            rows.append([label, str(metrics.get("cases", "-")), *(_number(level) for level in levels), *totals])
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        return (
            "## ALOE benchmark\n\nAlignment level AL(k) at turn k of dialogues with simulated users that no training "
            f"saw; IR is its slope per turn; brackets hold 95 % intervals over users.\n\n{table}"
        )

    def _settings(self) -> str:
        parts = []
        for each in self.trainings:
            if each.settings:
                rows = "\n".join(f"| `{key}` | {_cell(value)} |" for key, value in each.settings.items())
                parts.append(f"### {each.name}\n\n| setting | value |\n|---|---|\n{rows}")
        return "\n\n".join(["## Settings in force", *parts]) if parts else ""

    def _limits(self) -> str:
        return "## Limits\n\n" + "\n".join(f"- {sentence}" for sentence in self.limits) if self.limits else ""


def front_matter(entries: Mapping[str, object]) -> str:
    """A card's metadata block."""
    from huggingface_hub import CardData

    return f"---\n{CardData(ignore_metadata_errors=False, **entries).to_yaml()}\n---"


def read_metadata(card: str) -> dict[str, object]:
    """The metadata block of a card as values by name; empty without one. ValueError if it cannot be read."""
    from huggingface_hub import RepoCard

    try:
        return dict(RepoCard(card, ignore_metadata_errors=True).data.to_dict())
    except Exception as error:  # of the YAML library as well
        raise ValueError((str(error).strip() or type(error).__name__).splitlines()[0]) from error


def _lora_limit(rank: int) -> int:
    """The smallest value of vLLM's `--max-lora-rank` that takes an adapter of that rank."""
    return next((limit for limit in (8, 16, 32, 64, 128, 256, 320, 512) if rank <= limit), rank)


def _cell(value: object) -> str:
    """A setting in a cell of a table."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _with_interval(metrics: Figures, key: Literal["average", "IR", "R2"]) -> str:
    interval = (metrics.get("ci") or {}).get(key)
    if not interval or None in interval:
        return _number(metrics.get(key))
    return f"{_number(metrics.get(key))} [{_number(interval[0])}, {_number(interval[1])}]"

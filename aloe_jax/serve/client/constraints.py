"""What an answer has to be, and the forms in which different servers take that.

A request field alone is not to be relied on: servers refuse unknown fields, or drop them silently. So `probe.py` tries
each form, and every constrained answer is checked against its request.

| form | servers |
|---|---|
| `structured_outputs` | vLLM from 0.11, `aloe serve` |
| `guided_choice`, `guided_json` | vLLM before |
| `response_format` | OpenAI, vLLM, SGLang, llama.cpp, `aloe serve` |
| `regex`, `json_schema` | SGLang, llama.cpp |
| `grammar` | llama.cpp |
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.interface import JsonSchema
from aloe_jax.serve.client.named_choice import named_choice

Fields = dict[str, object]


def _response_format(schema: JsonSchema) -> Fields:
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": dict(schema), "strict": True},
        }
    }


# Best form first.
CHOICE_FORMS: dict[str, Callable[[Sequence[str]], Fields]] = {
    "structured_outputs": lambda choices: {"structured_outputs": {"choice": list(choices)}},
    "guided_choice": lambda choices: {"guided_choice": list(choices)},
    "grammar": lambda choices: {"grammar": "root ::= " + " | ".join(map(json.dumps, choices))},
    "regex": lambda choices: {"regex": f"({'|'.join(map(re.escape, choices))})"},
    # The answer is then a JSON string, with its quotes.
    "response_format": lambda choices: _response_format({"type": "string", "enum": list(choices)}),
}
SCHEMA_FORMS: dict[str, Callable[[JsonSchema], Fields]] = {
    "response_format": _response_format,
    "structured_outputs": lambda schema: {"structured_outputs": {"json": dict(schema)}},
    "guided_json": lambda schema: {"guided_json": dict(schema)},
    "json_schema": lambda schema: {"json_schema": dict(schema)},
}


def chosen(text: str, choices: Sequence[str], cut: bool = False) -> str | None:
    """The choice that an answer is or begins with; None if it is none. `cut`: the answer was cut off."""
    found = named_choice(text, choices, cut)
    return found[1] if found else None


def parsed(text: str | bytes) -> Any:
    """The JSON value of an answer, None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def broken(answer: Answer, choices: Sequence[str] | None, schema: JsonSchema | None) -> str | None:
    """The reason why an answer is not what a server that enforces these constraints gives; None if it is."""
    if choices and chosen(answer.text, choices, answer.truncated) is None:
        return f"the server ignored the choices {', '.join(choices)}: {answer.text[:40]!r}"
    if schema and not answer.truncated and parsed(answer.text) is None:
        return f"the server ignored the JSON schema: {answer.text[:40]!r}"
    return None


def probabilities(answer: Answer, choices: Sequence[str]) -> dict[str, float] | None:
    """The model's probability of each choice, or None if the answer is none of them.

    Computed from the most probable tokens at the place where the choices part: a token counts for the one choice that
    begins with it, and the sums are scaled to 1. Servers report the distribution without the constraint or with it;
    scaling makes both the same. Where the server reports no such tokens, or they do not tell the choices apart, the
    choice that was given has probability 1.
    """
    taken = chosen(answer.text, choices, answer.truncated)
    if taken is None:
        return None
    masses = _masses(answer, choices)
    total = sum(masses.values())
    if total <= 0.0:
        return {choice: float(choice == taken) for choice in choices}
    return {choice: masses[choice] / total for choice in choices}


def _masses(answer: Answer, choices: Sequence[str]) -> dict[str, float]:
    """Probability of the tokens that only one choice begins with, at the token where the answer names its choice."""
    masses = dict.fromkeys(choices, 0.0)
    found = named_choice("".join(answer.tokens or ()), choices, answer.truncated)
    before = ""
    for token, top in zip(answer.tokens or (), answer.top or (), strict=False):
        before += token
        if len(before) > found[0] if found else before.strip().strip('"'):
            for text, log_prob in top:
                begun = text.strip().strip('"')
                owners = [choice for choice in choices if begun and choice.startswith(begun)]
                if len(owners) == 1:
                    masses[owners[0]] += math.exp(log_prob)
            break
    return masses

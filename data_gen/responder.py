"""The model-backed responder: asks a chat server, with the hint in the system message or without one."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2.sandbox

from aloe_jax.serve.client import Client
from aloe_jax.tree.schema import Message
from data_gen.roles import Dialogue, Reply

TEMPLATE = "responder.jinja"


def hint_template() -> str:
    """Source of the template that turns a hint into a system message; part of what a record depends on."""
    return importlib.resources.files("data_gen").joinpath("templates", TEMPLATE).read_text()


@dataclass(frozen=True)
class ModelResponder:
    """Implements `Responder`. `sampling` holds temperature, top_p and max_tokens."""

    client: Client
    sampling: Mapping[str, Any]

    async def replies(self, dialogue: Dialogue, hint: str | None, n: int, seed: int) -> list[Reply]:
        """`n` candidates; without a hint the server sees the dialogue alone, as in training and in the benchmark."""
        messages = list(dialogue)
        if hint is not None:
            environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
            content = environment.from_string(hint_template()).render(hint=hint).strip()
            messages.insert(0, Message(role="system", content=content))
        answers = await self.client.chat(
            messages,
            seed=seed,
            n=n,
            temperature=self.sampling["temperature"],
            top_p=self.sampling["top_p"],
            max_tokens=self.sampling["max_tokens"],
        )
        return [
            Reply(
                text=answer.text,
                token_ids=answer.token_ids,
                logprobs=answer.logprobs if answer.token_ids is not None else None,  # whose they are is unknown
                tokenizer=answer.tokenizer,
                truncated=answer.finish_reason == "length",
                calls=(answer.call,),
            )
            for answer in answers
        ]

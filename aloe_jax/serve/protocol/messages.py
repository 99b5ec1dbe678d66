"""Messages as clients send them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from aloe_jax.tree.schema import Message, Role, content_text

# What SDKs leave in the history of a reply that called no tool: fields that say nothing where they are empty.
EMPTY = ("annotations", "audio", "function_call", "reasoning", "reasoning_content", "refusal", "tool_calls")
_ROLES = WithJsonSchema({"type": "string", "enum": ["system", "developer", "user", "assistant"]})
_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
_CONTENT = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _PART, "minItems": 1}]})


def _with_the_empty(schema: dict[str, Any]) -> None:
    schema["properties"] |= {key: {"enum": [None, [], ""]} for key in EMPTY}


class ChatMessage(Message):
    """A message as clients send it: the content is a string or a list of text parts, which are joined as in training
    data, and the role developer is another name of system. Fields of a reply that hold nothing are left aside."""

    model_config = ConfigDict(json_schema_extra=_with_the_empty)

    role: Annotated[Role, _ROLES]
    content: Annotated[str, _CONTENT]
    name: str | None = Field(None, description="not shown to the model")

    @model_validator(mode="before")
    @classmethod
    def _without_the_empty(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        empty = [key for key, each in value.items() if each is None or (key in EMPTY and each in ([], ""))]
        kept = {key: each for key, each in value.items() if key not in empty}
        if kept.get("role") == "assistant" and "content" in empty:  # a reply without text
            kept["content"] = ""
        return {**kept, "role": "system"} if kept.get("role") == "developer" else kept

    @field_validator("content", mode="before")
    @classmethod
    def _join_parts(cls, value: object) -> object:
        return content_text(value) if isinstance(value, list) else value

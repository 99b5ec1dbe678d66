"""The constraint on a reply, as OpenAI and vLLM spell it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aloe_jax.decode.requests import Constraint


class StructuredOutputs(BaseModel):
    """The constraint on a reply, as vLLM spells it: exactly one of the three is given."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    choice: list[str] | None = Field(None, min_length=1)
    regex: str | None = None
    json_schema: dict[str, object] | None = Field(None, alias="json")

    @model_validator(mode="after")
    def _one(self) -> StructuredOutputs:
        given = [name for name in ("choice", "regex", "json_schema") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("expected exactly one of choice, regex and json")
        return self

    @property
    def constraint(self) -> Constraint:
        if self.json_schema is not None:
            return Constraint.json(self.json_schema)
        return Constraint(choices=None if self.choice is None else tuple(self.choice), regex=self.regex)


class NamedSchema(BaseModel):
    """A JSON schema as OpenAI wraps it. It is always enforced, also with `strict: false`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    schema_: dict[str, object] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """The form of a reply, as OpenAI spells it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _schema_where_named(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema is given with type json_schema, and with no other")
        return self

    @property
    def constraint(self) -> Constraint | None:
        if self.type == "text":
            return None
        return Constraint.json({"type": "object"} if self.json_schema is None else self.json_schema.schema_)

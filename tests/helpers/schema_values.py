"""Values that fit a JSON schema as pydantic writes them, and values that nearly do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Schema = Mapping[str, Any]

_SMALL = 4  # most items of a list or an object without a limit of its own
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def values(schema: Schema, definitions: Mapping[str, Schema], fields: Mapping[str, st.SearchStrategy[Any]]) -> Any:
    """A strategy for values of the schema. A property that `fields` has gets its values from there."""
    if "$ref" in schema:
        return st.deferred(lambda: values(definitions[schema["$ref"].rpartition("/")[2]], definitions, fields))
    for name in ("anyOf", "oneOf"):
        if name in schema:
            return st.one_of([values(each, definitions, fields) for each in schema[name]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("type") == "object":
        return _object(schema, definitions, fields)
    if schema.get("type") == "array":
        items = values(schema.get("items", {}), definitions, fields)
        least = schema.get("minItems", 0)
        return st.lists(items, min_size=least, max_size=max(least, min(schema.get("maxItems", _SMALL), _SMALL)))
    return _plain(schema)


def nearly(schema: Schema, definitions: Mapping[str, Schema], fields: Mapping[str, st.SearchStrategy[Any]]) -> Any:
    """A strategy for values of the schema, of which some have one field made up, replaced or left out."""

    @st.composite
    def mutated(draw: st.DrawFn) -> Any:
        value = draw(values(schema, definitions, fields))
        if isinstance(value, dict) and value and draw(st.integers(0, 2)) == 0:
            name = draw(st.sampled_from([*value, "made_up"]))
            if draw(st.booleans()):
                value = {**value, name: draw(ANYTHING)}
            else:
                value.pop(name, None)
        return value

    return mutated()


def _object(schema: Schema, definitions: Mapping[str, Schema], fields: Mapping[str, st.SearchStrategy[Any]]) -> Any:
    made = {
        name: fields.get(name, values(each, definitions, fields)) for name, each in schema.get("properties", {}).items()
    }
    wanted = set(schema.get("required", ()))
    known = st.fixed_dictionaries(
        {name: each for name, each in made.items() if name in wanted},
        optional={name: each for name, each in made.items() if name not in wanted},
    )
    more = schema.get("additionalProperties")
    if not isinstance(more, dict):
        return known if made or more is False else st.dictionaries(st.text(max_size=6), ANYTHING, max_size=_SMALL)
    others = st.dictionaries(st.text(max_size=6), values(more, definitions, fields), max_size=_SMALL)
    return st.tuples(others, known).map(lambda pair: {**pair[0], **pair[1]})


def _plain(schema: Schema) -> Any:
    kind = schema.get("type")
    if kind == "string":
        least = schema.get("minLength", 0)
        return st.text(min_size=least, max_size=max(least, min(schema.get("maxLength", 20), 20)))
    if kind == "boolean":
        return st.booleans()
    if kind == "null":
        return st.none()
    low, high = (
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema.get("maximum", schema.get("exclusiveMaximum")),
    )
    if kind == "integer":
        return st.integers(low, high)
    if kind == "number":
        open_low, open_high = "exclusiveMinimum" in schema, "exclusiveMaximum" in schema
        return st.floats(
            low, high, exclude_min=open_low, exclude_max=open_high, allow_nan=False, allow_infinity=False
        ) | st.integers(0, 1)
    return ANYTHING

"""What a chat request may say."""

import json

import pytest

from aloe_jax.decode.requests import Constraint
from aloe_jax.serve.protocol import ApiError, parse_request

HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x", "name": "Ann"}]}, "messages.0.name"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": 2**64}, "seed"),
        ({"seed": -1}, "seed"),
        ({"top_k": 2**31}, "top_k"),
        ({"stop": ["\n"]}, "stop"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": {"type": "text", "json_schema": {"name": "x", "schema": {}}}}, "response_format"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": ["a", 1]}}, "structured_outputs.choice.1"),
        ({"structured_outputs": {"choice": ["a"], "regex": "a"}}, "structured_outputs"),
        ({"structured_outputs": {"json": [1]}}, "structured_outputs.json"),
        ({"structured_outputs": {"grammar": "root ::= x"}}, "structured_outputs.grammar"),
        (
            {"structured_outputs": {"choice": ["a"]}, "response_format": {"type": "json_object"}},
            "structured_outputs",
        ),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields, named):
    with pytest.raises(ApiError) as caught:
        parse_request(json.dumps({"model": "tiny", "messages": HELLO, **fields}).encode())
    assert caught.value.status == 400
    assert f"'{named}'" in str(caught.value)
    assert caught.value.body["error"]["param"] == named


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"NaN",
        b"[" * 5000,
        b'{"model": NaN}',
        b"\xff\xfe",
        b'{"model": "\\ud83d"}',
        b'{"model": "tiny", "messages": [{"role": "user", "role": "assistant", "content": "Hi"}]}',
    ],
)
def test_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(ApiError, match="JSON") as caught:
        parse_request(body)
    assert caught.value.status == 400


def test_two_names_of_the_limit_must_agree():
    def limit(**fields):
        return parse_request(json.dumps({"model": "tiny", "messages": HELLO, **fields}).encode()).limit

    assert limit() is None
    assert limit(max_tokens=3) == limit(max_completion_tokens=3) == limit(max_tokens=3, max_completion_tokens=3) == 3
    with pytest.raises(ApiError, match="max_tokens is 3 but max_completion_tokens is 4"):
        limit(max_tokens=3, max_completion_tokens=4)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        (
            {"structured_outputs": {"choice": ["A", "B"], "json": None}, "response_format": {"type": "text"}},
            ("structured_outputs", Constraint(choices=("A", "B"))),
        ),
        ({"structured_outputs": {"regex": "a+"}}, ("structured_outputs", Constraint(regex="a+"))),
        (
            {"structured_outputs": {"json": {"type": "object", "properties": {"b": {}, "a": {}}}}},
            (
                "structured_outputs",
                # The order of the properties is the order in which a reply has them.
                Constraint(json_schema='{"type": "object", "properties": {"b": {}, "a": {}}}'),
            ),
        ),
        (
            {"response_format": {"type": "json_object"}},
            ("response_format", Constraint(json_schema='{"type": "object"}')),
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "integer"}, "strict": True, "description": None},
                }
            },
            ("response_format", Constraint(json_schema='{"type": "integer"}')),
        ),
    ],
)
def test_constraints_as_openai_and_vllm_spell_them(fields, expected):
    request = parse_request(json.dumps({"model": "tiny", "messages": HELLO, **fields}).encode())
    assert request.constraint == expected

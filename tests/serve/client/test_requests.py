"""Requests as data: their content, byte for byte, is what stored answers are found under."""

import json

import pytest

from aloe_jax.serve.client.client import Client
from aloe_jax.serve.client.interface import call_id
from aloe_jax.tree.schema import Message

MESSAGES = [Message(role="system", content="be kind"), Message(role="user", content="héllo")]
HEAD = (
    '{"model": "tiny", "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "héllo"}], '
)
CONSTRAINED = {"n": 2, "temperature": 0.8, "top_p": 0.95, "max_tokens": 5, "token_ids": False, "top_logprobs": 20}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("how", "rest", "expected"),
    [
        (
            {"seed": 1},
            '"seed": 1, "n": 1, "temperature": 1.0, "top_p": 1.0, "max_tokens": 256, "logprobs": true, '
            '"return_token_ids": true}',
            "070c3a0f04d1f9240e436e20e7e9065734455d9e943e9f8e9ddba52d4701834f",
        ),
        (
            {"seed": 2**32 - 1, "choices": ("1", "2"), **CONSTRAINED},
            '"seed": 4294967295, "n": 2, "temperature": 0.8, "top_p": 0.95, "max_tokens": 5, "logprobs": true, '
            '"return_token_ids": false, "top_logprobs": 20, "choices": ["1", "2"]}',
            "f4ac84a39020d5d513185fef9787e3317f12c4e1a74b6478804b1fb6599c48fc",
        ),
        (
            {"seed": 7, "schema": SCHEMA, "logprobs": False, "token_ids": False},
            '"seed": 7, "n": 1, "temperature": 1.0, "top_p": 1.0, "max_tokens": 256, "logprobs": false, '
            '"return_token_ids": false, "schema": {"type": "object", "properties": {"a": {"type": "string"}}}}',
            "efff0e67c00f3ec506f39e0c3a4f8453440f684ec1585e2a1fae6a89254f30e1",
        ),
    ],
)
def test_a_request_and_its_id_are_fixed(how, rest, expected):
    """Stored calls of earlier versions are found by this id, so neither may change."""
    request = Client("http://127.0.0.1:1/v1", "tiny").request(MESSAGES, **how)
    assert json.dumps(request, ensure_ascii=False) == HEAD + rest
    assert call_id(request) == expected

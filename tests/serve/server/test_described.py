"""Requests made of the OpenAPI description, right ones and nearly right ones: the answer is what the description says,
or an OpenAI-shaped error, and the server goes on."""

import functools
import http.client
import json

import jax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.engine import Engine
from aloe_jax.models import decoder
from aloe_jax.serve.server.app import ENDPOINTS
from aloe_jax.serve.server.server import Server
from helpers.byte_model import TINY
from helpers.schema_values import nearly

pytestmark = pytest.mark.slow  # every kind of request compiles programs of its own
OPERATIONS = [operation for endpoint in ENDPOINTS for operation in endpoint.OPERATIONS]
# Of some fields most values are refused, or would take long; a few of each kind stay.
SMALL = st.integers(0, 3)
FIELDS = {
    "model": st.sampled_from(["tiny"] * 9 + ["other"]),
    "max_tokens": SMALL,
    "max_completion_tokens": SMALL,
    "min_tokens": st.sampled_from([0, 0, 0, 1]),
    "n": st.integers(0, 3),
    "regex": st.sampled_from(["[a-c]{1,3}", "a+", "(", ""]),
    "json": st.sampled_from([{"type": "boolean"}, {"enum": [1, "a"]}, {"type": "odd"}, {}]),
    "schema": st.sampled_from([{"type": "boolean"}, {"type": "odd"}]),
    "tokens": st.lists(st.integers(-1, TINY.vocab), max_size=4),
}


@pytest.fixture(scope="module")
def server(chat_format):
    ends = chat_format.tokenizer.end_of_turn_ids
    params = decoder.init_params(TINY, jax.random.key(0))
    engine = Engine(TINY, params, slots=3, context=96, end_of_turn=ends, grammar=Grammar(chat_format.tokenizer))
    with Server(engine, chat_format, "tiny") as server:
        yield server
        assert server.failure is None


def asked(server, method, path, body=None):
    """Status, media type and body of a response."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    connection.request(method.upper(), path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.status, response.getheader("Content-Type"), response.read()
    connection.close()
    return answer


@functools.cache
def description(address):
    """The server's own description."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request("GET", "/openapi.json")
    return json.loads(connection.getresponse().read())


def check_stream(operation, body):
    """Each event is a chunk, and the last one [DONE], or an error."""
    *events, last = [event.removeprefix("data: ") for event in body.decode().split("\n\n") if event]
    if last != "[DONE]":
        assert set(json.loads(last)["error"]) == {"message", "type", "param", "code"}
    for event in events:
        operation.chunk.model_validate_json(event)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path}")
def test_every_answer_is_described(server, operation):
    made = description((server.host, server.port))
    described = made["paths"][operation.path][operation.method]
    definitions, path = (
        made["components"]["schemas"],
        operation.path.replace("{name}", "tiny").replace("{model}", "tiny"),
    )
    schema = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")

    @settings(
        max_examples=50 if schema else 1,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(nearly(schema, definitions, FIELDS) if schema else st.none())
    def check(body):
        status, kind, answer = asked(server, operation.method, path, None if body is None else json.dumps(body))
        assert str(status) in described["responses"], answer
        if status >= 400:
            assert set(json.loads(answer)["error"]) == {"message", "type", "param", "code"}
            assert status < 500, answer
        elif kind.startswith("text/event-stream"):
            check_stream(operation, answer)
        else:
            operation.answer.model_validate_json(answer)

    check()
    assert asked(server, "GET", "/health")[0] == 200

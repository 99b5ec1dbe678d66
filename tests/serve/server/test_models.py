"""Several models on one server, and what the server says about itself."""

import http.client
import json

import openai
import pytest

from aloe_jax.serve.served_model import Loaded
from aloe_jax.serve.server.access import Access
from aloe_jax.serve.server.app import ENDPOINTS
from aloe_jax.serve.server.server import Server

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def engines(engine):
    return engine, type(engine)(engine.end_of_turn)


@pytest.fixture
def server(engines, chat_format):
    models = [Loaded(name, engine, chat_format) for name, engine in zip(("base", "org/tuned"), engines, strict=True)]
    with Server.of(models) as server:
        yield server


def get(server, path):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    connection.request("GET", path)
    reply = connection.getresponse()
    answer = reply.status, json.loads(reply.read())
    connection.close()
    return answer


def test_each_model_has_its_engine(sdk, engines):
    assert [card.id for card in sdk.models.list().data] == ["base", "org/tuned"]
    assert sdk.models.retrieve("org/tuned").id == "org/tuned"
    reply = sdk.chat.completions.create(model="org/tuned", messages=HELLO)
    assert reply.model == "org/tuned"
    assert (engines[0].submitted.qsize(), engines[1].submitted.qsize()) == (0, 1)
    with pytest.raises(openai.NotFoundError, match="'base', 'org/tuned'"):
        sdk.chat.completions.create(model="other", messages=HELLO)


def test_failure_of_one_engine_leaves_the_other(server, sdk, engines):
    engines[0].broken = True
    with pytest.raises(openai.InternalServerError):
        sdk.chat.completions.create(model="base", messages=HELLO)
    assert sdk.chat.completions.create(model="org/tuned", messages=HELLO).choices
    assert get(server, "/health") == (503, {"status": "unavailable"})


def test_version_is_that_of_the_package(server):
    status, told = get(server, "/version")
    assert status == 200
    assert set(told) == {"version"}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_route_is_described(endpoint):
    routes = endpoint.routes(Access([], 0))
    assert {route.path.replace(":path", "") for route in routes} == {each.path for each in endpoint.OPERATIONS}


def test_description_is_whole_and_says_what_requests_may_hold(server):
    _, told = get(server, "/openapi.json")
    schemas = told["components"]["schemas"]

    def references(part):
        if isinstance(part, dict):
            yield from ([part["$ref"]] if "$ref" in part else [])
            part = list(part.values())
        if isinstance(part, list):
            for each in part:
                yield from references(each)

    assert {reference.removeprefix("#/components/schemas/") for reference in references(told)} <= set(schemas)
    fields = schemas["ChatRequest"]["properties"]
    assert {"messages", "logit_bias", "chat_template_kwargs", "min_p", "stop"} <= set(fields)
    assert fields["tools"] == {"enum": [[], None]}
    assert {"type": "null"} in fields["temperature"]["anyOf"]
    assert set(schemas["ChatRequest"]["required"]) == {"model", "messages"}
    assert set(told["paths"]["/v1/completions"]["post"]["responses"]["200"]["content"]) == {
        "application/json",
        "text/event-stream",
    }

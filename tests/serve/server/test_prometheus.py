"""/metrics as Prometheus reads it, over the figures of requests that a real engine served."""

import http.client
import json

import jax
import openai
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from aloe_jax.decode.engine import Engine
from aloe_jax.models import decoder
from aloe_jax.serve.server.server import Server
from helpers.byte_model import TINY

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def server(chat_format):
    params = decoder.init_params(TINY, jax.random.key(0))
    engine = Engine(TINY, params, slots=3, context=96, end_of_turn=chat_format.tokenizer.end_of_turn_ids)
    with Server(engine, chat_format, "tiny") as server:
        yield server


def read(server, accept=""):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.request("GET", "/metrics", headers={"Accept": accept})
    response = connection.getresponse()
    assert response.status == 200
    return response.getheader("Content-Type"), response.read().decode()


def samples(server):
    """Value by name and labels, but for the model's, which is checked here."""
    found = {}
    for family in text_string_to_metric_families(read(server)[1]):
        assert family.documentation
        for sample in family.samples:
            assert sample.name.startswith(("aloe_", "process_"))
            labels = {**sample.labels}
            assert labels.pop("model_name", "tiny") == "tiny"
            found[sample.name, *labels.values()] = sample.value
    return found


def test_figures_of_two_requests(server):
    """A prompt of 30 bytes and special tokens twice, with n = 2 and a limit of 5 tokens: 4 completions of 5 tokens at
    most. The pages hold 64 tokens, so the second request finds all of its prompt that is looked up but the last token.
    """
    with openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as sdk:
        replies = [
            sdk.chat.completions.create(model="tiny", messages=HELLO, seed=1, n=2, max_tokens=5, stop=None)
            for _ in range(2)
        ]
        with pytest.raises(openai.BadRequestError):
            sdk.chat.completions.create(model="tiny", messages=HELLO, n=0)
        with pytest.raises(openai.NotFoundError):
            sdk.get("/../made-up/path", cast_to=object)
    found = samples(server)
    drawn = sum(reply.usage.completion_tokens for reply in replies)
    reasons = [choice.finish_reason for reply in replies for choice in reply.choices]
    assert found["aloe_generation_tokens_total",] == drawn
    assert found["aloe_prompt_tokens_total",] == sum(reply.usage.prompt_tokens for reply in replies)
    for reason in set(reasons):
        assert found["aloe_request_success_total", reason] == reasons.count(reason)
    assert found["aloe_http_requests_total", "/v1/chat/completions", "POST", "200"] == 2
    assert found["aloe_http_requests_total", "/v1/chat/completions", "POST", "400"] == 1
    assert found["aloe_http_requests_total", "none", "GET", "404"] == 1
    for name in ("time_to_first_token", "e2e_request_latency"):
        assert found[f"aloe_{name}_seconds_count",] == found[f"aloe_{name}_seconds_bucket", "+Inf"] == 2
        assert 0 < found[f"aloe_{name}_seconds_sum",] < 60
    assert found["aloe_request_time_per_output_token_seconds_count",] <= 4
    assert found["aloe_num_requests_running",] == found["aloe_num_requests_waiting",] == 0
    assert found["aloe_kv_cache_pages_used",] == found["aloe_kv_cache_usage_perc",] == 0
    assert found["aloe_kv_cache_pages_free",] > 0
    body = replies[0].usage.prompt_tokens - 1  # all but the last token is looked up, by each of the four
    assert found["aloe_prefix_cache_queries_total",] == 4 * body
    assert found["aloe_prefix_cache_hits_total",] == 3 * body


def test_both_text_formats(server):
    kind, text = read(server)
    assert kind.startswith("text/plain")
    kind, open_text = read(server, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    names = [
        {family.name for family in parse(each)}
        for parse, each in ((text_string_to_metric_families, text), (open_metrics, open_text))
    ]
    assert {name.removesuffix("_created") for name in names[0]} >= names[1]
    assert len(names[1]) > 15


def test_a_client_cannot_add_labels(server):
    read(server)  # so that its own series is there
    before = read(server)[1].count("aloe_http_requests_total{")
    for number in range(20):
        connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        connection.request(f"M{number}", f"/path/{number}", json.dumps({}))
        assert connection.getresponse().status == 404
        connection.close()
    assert read(server)[1].count("aloe_http_requests_total{") <= before + 1

"""Mutated answers: each is an answer that can be used and stored, or one sentence."""

import json
import random

import pytest

from aloe_jax.serve.client import constraints
from aloe_jax.serve.client.answers import Failure, answer
from aloe_jax.serve.client.endpoint import Endpoint
from aloe_jax.serve.client.refusals import RawResponse

TOKENS = [
    {"token": "1", "logprob": -1.0, "top_logprobs": [{"token": "1", "logprob": -0.1}]},
    {"token": "", "logprob": -1.0, "top_logprobs": []},
]
MESSAGE = {"role": "assistant", "content": "1", "reasoning_content": "Hm"}
CHOICE = {"index": 0, "message": MESSAGE, "finish_reason": "stop", "token_ids": [1, 2], "logprobs": {"content": TOKENS}}
WHOLE = {
    "id": "x",
    "created": 1,
    "model": "tiny",
    "choices": [CHOICE],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    "tokenizer_hash": "h",
    "error": None,
}
ODD = [
    None,
    True,
    0,
    -1,
    1e400,
    float("nan"),
    1.5,
    10**30,
    "",
    "x",
    "1",
    "\ud800",
    "</think>",
    "<think>",
    [],
    {},
    [None],
]
ODD += [[[]], {"a": 1}, ["text"], [{"type": "text", "text": "a"}], [{"type": "text", "text": 5}], {"message": "\ud83d"}]
ODD += [{"code": 503}, {"code": 400, "message": "seed unknown"}, {"detail": [{"loc": [1], "msg": None}]}]
STATUSES = [*[200] * 8, 302, 400, 401, 403, 404, 422, 429, 500]


def mutated(rng, value, share):
    if rng.random() < share:
        return rng.choice(ODD)
    if isinstance(value, dict):
        kept = {name: each for name, each in value.items() if rng.random() > share / 2}
        return {name: mutated(rng, each, share) for name, each in kept.items()}
    return [mutated(rng, each, share) for each in value] if isinstance(value, list) else value


def torn(rng, body):
    place = rng.randrange(len(body))
    return body[:place] + bytes(rng.randrange(256) for _ in range(rng.randrange(3))) + body[place + rng.randrange(3) :]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_a_server_answers(seed):
    rng, read = random.Random(seed), 0
    server = Endpoint("http://127.0.0.1:1/v1", "tiny", "NO_KEY", 1, 1.0)
    for _ in range(250):
        body = json.dumps(mutated(rng, WHOLE, rng.choice([0.01, 0.05, 0.2]))).encode()
        server.probed = rng.random() < 0.5
        raw = RawResponse(
            rng.choice(STATUSES),
            torn(rng, body) if rng.random() < 0.1 else body,
            rng.choice([None, "5", "soon", "Never, 99"]),
            rng.choice(["application/json", "text/html", ""]),
            rng.choice([None, "/elsewhere"]),
        )
        found = server.read(raw, {"seed": 1, "n": 1, "temperature": 0.0, "max_tokens": 3}, 1, 0.0)
        if isinstance(found, Failure):
            assert server.redact(found.reason).isprintable()
            continue
        read += 1
        given = answer(found.choices[0], found.tokenizer_hash, "call", ends=True)
        shares = constraints.probabilities(given, ("1", "2"))
        assert shares is None or sum(shares.values()) == pytest.approx(1.0)
        constraints.broken(given, ("1", "2"), {"type": "object"})
        json.dumps(vars(given), ensure_ascii=False, allow_nan=False).encode()
    assert read > 20

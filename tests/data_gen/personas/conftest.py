"""The sentence encoder, loaded once, and a cheap encoder of words for what does not depend on meaning."""

import zlib

import numpy as np
import pytest

from data_gen.personas.encoder import MiniLM
from data_gen.text import words


class WordEncoder:
    """Counts of hashed words at unit length: texts with the same words are near, without a model."""

    def encode(self, texts):
        vectors = np.zeros((len(texts), 512), np.float32)
        for row, text in enumerate(texts):
            for word in words(text):
                vectors[row, zlib.crc32(word.encode()) % 512] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="session")
def minilm():
    return MiniLM()


@pytest.fixture(scope="session")
def word_encoder():
    return WordEncoder()

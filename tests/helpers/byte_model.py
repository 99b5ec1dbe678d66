"""A tiny random model of bytes, for tests of serving."""

from aloe_jax.models.config import Layer, ModelConfig
from aloe_jax.models.rope import Rope

TINY = ModelConfig(
    family="llama",
    vocab=258,  # the 256 bytes and two special tokens of the chat format
    dim=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    mlp_dim=48,
    pattern=(Layer(Rope(10_000.0)),),
    norm_eps=1e-5,
    context=128,
    tied=True,
)

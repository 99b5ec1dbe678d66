"""What the families' config mappings share: reading a Hugging Face `config.json` with clear errors, and writing one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aloe_jax.errors import InputError
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.rope import LinearScaling, Llama3Scaling, Rope

FULL, SLIDING = "full_attention", "sliding_attention"  # Hugging Face's layer_types


class Fields:
    """The content of a `config.json`. `defaults` holds what Hugging Face's class assumes where a field is absent."""

    def __init__(self, config: Mapping[str, Any], architecture: str, **defaults: Any) -> None:
        self._config, self._defaults, self._architecture = config, defaults, architecture

    def get(self, name: str, default: Any = None) -> Any:
        """A field: what Hugging Face's class assumes where it is absent, `default` where it is null or unknown."""
        value = self._config.get(name, self._defaults.get(name))
        return default if value is None else value

    def number(self, name: str, default: float | None = None) -> float:
        """A field that has to be a number above 0. Raises InputError otherwise."""
        value = self.get(name, default)
        if value is None:
            raise InputError(f"config.json: field '{name}' is missing; it is needed for {self._architecture}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise InputError(f"config.json: {name} is {value!r}; expected a number above 0 for {self._architecture}")
        return value

    def size(self, name: str, default: int | None = None) -> int:
        """A field that has to be a whole number above 0. Raises InputError otherwise."""
        value = self.number(name, default)
        if value != int(value):
            raise InputError(f"config.json: {name} is {value!r}; expected a whole number for {self._architecture}")
        return int(value)

    def only(self, **supported: Any) -> None:
        """Raise InputError for the first field whose value is not the one supported."""
        for name, expected in supported.items():
            self.check(name, self.get(name, expected), expected)

    def check(self, name: str, value: Any, expected: Any) -> None:
        """Raise InputError if `value` of the field `name` is not the one supported."""
        if value != expected:
            raise InputError(
                f"config.json: {name} is {value!r}; only {expected!r} is supported for {self._architecture}"
            )

    def rope(self, kind: str | None = None) -> Rope:
        """The rotary embedding: `rope_theta` and `rope_scaling`, or `rope_parameters` as transformers 5 writes them,
        there by layer type where `kind` is given. Raises InputError for scalings that are not supported."""
        found = self.get("rope_parameters") or {}
        if kind is not None and isinstance(found.get(kind), Mapping):
            found = found[kind]
        elif self.get("rope_scaling") and kind != SLIDING:  # transformers scales full attention alone
            found = self.get("rope_scaling")
        fallback = self.number("rope_local_base_freq" if kind == SLIDING else "rope_theta", 10_000.0)
        part = Fields({f"rope {name}": value for name, value in found.items()}, self._architecture)
        theta = float(part.number("rope rope_theta", fallback))
        part.only(**{"rope partial_rotary_factor": 1.0})
        rope_type = found.get("rope_type", found.get("type", "default"))
        if rope_type == "default":
            return Rope(theta)
        if rope_type == "linear":
            return Rope(theta, LinearScaling(float(part.number("rope factor"))))
        if rope_type == "llama3":
            factor, low, high = (
                float(part.number(f"rope {name}")) for name in ("factor", "low_freq_factor", "high_freq_factor")
            )
            original = part.size("rope original_max_position_embeddings")
            return Rope(theta, Llama3Scaling(factor, low, high, original))
        raise InputError(
            f"config.json: rope type is {rope_type!r}; default, linear and llama3 are supported for "
            f"{self._architecture}"
        )

    def layer_types(self, otherwise: Sequence[str]) -> list[str]:
        """`layer_types`, or what the family assumes. Raises InputError for a wrong length or an unknown type."""
        types = list(self.get("layer_types") or otherwise)
        if len(types) != self.size("num_hidden_layers") or set(types) - {FULL, SLIDING}:
            raise InputError(
                f"config.json: layer_types is {types}; expected one of {FULL} and {SLIDING} for each of the "
                f"{self.size('num_hidden_layers')} layers"
            )
        return types

    def sizes(self) -> dict[str, Any]:
        """The fields of ModelConfig that every family has, but for the layers' pattern."""
        heads = self.size("num_attention_heads")
        kv_heads = self.size("num_key_value_heads", heads)
        if heads % kv_heads:
            raise InputError(
                f"config.json: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
            )
        dim = self.size("hidden_size")
        head_dim = self.size("head_dim", dim // heads)
        if head_dim % 2:
            raise InputError(f"config.json: head_dim is {head_dim}; expected an even number, whose halves rotate")
        return {
            "vocab": self.size("vocab_size"),
            "dim": dim,
            "layers": self.size("num_hidden_layers"),
            "heads": heads,
            "kv_heads": kv_heads,
            "head_dim": head_dim,
            "mlp_dim": self.size("intermediate_size"),
            "norm_eps": self.number("rms_norm_eps", 1e-6),
            "context": self.size("max_position_embeddings"),
            "tied": bool(self.get("tie_word_embeddings", False)),
        }


def shrunk(pattern: Sequence[Any]) -> tuple[Any, ...]:
    """The shortest pattern that gives the same layers when it repeats: equal models have equal configs."""
    return next(
        tuple(pattern[:length])
        for length in range(1, len(pattern) + 1)
        if all(layer == pattern[number % length] for number, layer in enumerate(pattern))
    )


def base_config(model: ModelConfig, architecture: str, model_type: str, dtype: str) -> dict[str, Any]:
    """The `config.json` fields that every family has; token ids and other tokenizer facts are added by the exporter."""
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": model.vocab,
        "hidden_size": model.dim,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "intermediate_size": model.mlp_dim,
        "rms_norm_eps": model.norm_eps,
        "max_position_embeddings": model.context,
        "tie_word_embeddings": model.tied,
        "torch_dtype": dtype,
    }


def rope_config(rope: Rope) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling`, which both transformers 4 and 5 read."""
    scaling = rope.scaling
    if scaling is None:
        return {"rope_theta": rope.theta, "rope_scaling": None}
    if isinstance(scaling, LinearScaling):
        return {"rope_theta": rope.theta, "rope_scaling": {"rope_type": "linear", "factor": scaling.factor}}
    return {
        "rope_theta": rope.theta,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context,
        },
    }

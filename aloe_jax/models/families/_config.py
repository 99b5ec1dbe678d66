"""Reading a Hugging Face `config.json` with clear errors and writing one: what the families' config mappings share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypedDict, TypeVar

from aloe_jax.errors import InputError
from aloe_jax.models.config import HfConfig, ModelConfig
from aloe_jax.models.families._table import Table, same, shown
from aloe_jax.models.rope import LinearScaling, Llama3Scaling, Rope, Scaling

FULL, SLIDING = "full_attention", "sliding_attention"  # Hugging Face's layer_types
LAYER_NORM_EPS = 1e-5  # of a family without the field: fixed in transformers
MOST = 2**31 - 1  # of a size: positions and windows are int32
MOST_LAYERS = 10_000  # lists are made of one item per layer before the weights are looked at
ROPE = ("rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor")
ORIGINAL, PARTIAL, LOCAL = "original_max_position_embeddings", "partial_rotary_factor", "rope_local_base_freq"
ROPE_TABLE_NEUTRAL: dict[str, tuple[object, ...]] = {"rope partial_rotary_factor": (1,), "rope attention_factor": (1,)}


T = TypeVar("T")


class Sizes(TypedDict):
    """The fields of ModelConfig that every family reads alike."""

    vocab: int
    dim: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_dim: int
    norm_eps: float
    context: int
    tied: bool


class Fields:
    """The content of a `config.json`, read field by field. `defaults` are those of Hugging Face's class.

    Raises InputError for a field that the `table` of the family does not know or allow, and for another `model_type`.
    """

    def __init__(self, config: HfConfig, table: Table, **defaults: object) -> None:
        self._config, self._defaults, self._table = config, defaults, table
        self._architecture = table.architecture
        table.check(config)
        if table.model_type:
            self.only(model_type=table.model_type)

    def get(self, name: str, default: object = None) -> object:
        """A field; if it is absent the default of Hugging Face's class, if that is unknown or null `default`."""
        assert name in self._table.used, f"{name} is missing in the table of {self._architecture}"
        value = self._config.get(name, self._defaults.get(name))
        return default if value is None else value

    def flag(self, name: str, default: bool = False) -> bool:
        """A field that must be true or false. Raises InputError otherwise."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A field that must be a number above 0. Raises InputError otherwise."""
        value = self.get(name, default)
        if value is None:
            raise InputError(f"config.json: field '{name}' is missing; it is needed for {self._architecture}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise self._wrong(name, value, "a number above 0")
        return value

    def size(self, name: str, default: int | None = None) -> int:
        """A field that must be a whole number above 0. Raises InputError otherwise."""
        value, most = self.number(name, default), MOST_LAYERS if name == "num_hidden_layers" else MOST
        if value != int(value):
            raise self._wrong(name, value, "a whole number")
        if value > most:
            raise self._wrong(name, value, f"at most {most:,}")
        return int(value)

    def _wrong(self, name: str, value: object, expected: str) -> InputError:
        return InputError(f"config.json: {name} is {shown(value)}; expected {expected} for {self._architecture}")

    def count(self, name: str, default: int) -> int:
        """A field that must be a whole number of at least 0. Raises InputError otherwise."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(name, value, "a whole number")
        return value

    def items(self, name: str) -> list[object]:
        """A field that must be a list, empty if it is absent. Raises InputError otherwise."""
        value = self.get(name) or []
        if not isinstance(value, (list, tuple)):
            raise self._wrong(name, value, "a list")
        return list(value)

    def table(self, name: str) -> HfConfig:
        """A field that must be an object, empty if it is absent. Raises InputError otherwise."""
        value = self.get(name) or {}
        if not isinstance(value, Mapping):
            raise self._wrong(name, value, "an object")
        return value

    def only(self, **supported: object) -> None:
        """Raise InputError for the first field whose value is not the supported one."""
        for name, expected in supported.items():
            self.check(name, self.get(name, expected), expected)

    def check(self, name: str, value: object, expected: object) -> None:
        """Raise InputError if the `value` of field `name` is not the supported one."""
        if not same(value, expected):
            raise InputError(
                f"config.json: {name} is {shown(value)}; only {expected!r} is supported for {self._architecture}"
            )

    def rope(self, kind: str | None = None, types: Mapping[str, RopeType] | None = None) -> Rope:
        """The rotary embedding: `rope_theta` and `rope_scaling`, or the `rope_parameters` of transformers 5, those of
        the layer type `kind` if it is given. `types` are those that the family has, by default `ROPE_TYPES`. Raises
        InputError for others."""
        found = self.table("rope_parameters")
        by_kind = None if kind is None else found.get(kind)
        if isinstance(by_kind, Mapping):
            found = by_kind
        elif self.get("rope_scaling") and kind != SLIDING:  # transformers scales full attention only
            found = self.table("rope_scaling")
        base = LOCAL if kind == SLIDING and LOCAL in self._table.used else "rope_theta"
        fallback = self.number(base, 10_000.0)
        name = found.get("rope_type", found.get("type", "default"))
        types = types or ROPE_TYPES
        if not isinstance(name, str) or name not in types:
            *most, last = types
            raise InputError(
                f"config.json: rope type is {shown(name)}; {', '.join(most)} and {last} are supported for "
                f"{self._architecture}"
            )
        known = {*ROPE, ORIGINAL, *types[name].fields}
        partial = PARTIAL in self._table.used
        names = frozenset(f"rope {field}" for field in known | ({PARTIAL} if partial else set()))
        table = Table(self._architecture, "", names, ROPE_TABLE_NEUTRAL)
        part = Fields({f"rope {field}": value for field, value in found.items()}, table)
        theta = float(part.number("rope rope_theta", fallback))
        share = part.number(f"rope {PARTIAL}", self.number(PARTIAL, 1.0)) if partial else 1.0
        return Rope(theta, types[name].read(self, part, theta), share)

    def layer_types(self, otherwise: Sequence[str]) -> list[str]:
        """`layer_types`, or the family's own where it is absent. Raises InputError for a wrong length or an unknown
        type."""
        types = [str(kind) for kind in self.items("layer_types") or otherwise]
        if len(types) != self.size("num_hidden_layers") or set(types) - {FULL, SLIDING}:
            raise InputError(
                f"config.json: layer_types is {shown(types)}; expected one of {FULL} and {SLIDING} for each of the "
                f"{self.size('num_hidden_layers')} layers"
            )
        return types

    def sizes(self) -> Sizes:
        """The sizes of the model. Raises InputError for those that are missing or do not fit each other."""
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
            "norm_eps": self.number("rms_norm_eps", 1e-6) if "rms_norm_eps" in self._table.used else LAYER_NORM_EPS,
            "context": self.size("max_position_embeddings"),
            "tied": self.flag("tie_word_embeddings"),
        }


class RopeType(NamedTuple):
    """A type of rotary embedding: the `fields` of its object beside `ROPE`, and a function of (the config's fields, the
    object's, theta) that reads its scaling."""

    fields: tuple[str, ...]
    read: Callable[[Fields, Fields, float], Scaling | None]


def _llama3(fields: Fields, rope: Fields, theta: float) -> Scaling:
    context = fields.size(ORIGINAL, fields.size("max_position_embeddings"))
    factor, low, high = (
        float(rope.number(f"rope {name}")) for name in ("factor", "low_freq_factor", "high_freq_factor")
    )
    return Llama3Scaling(factor, low, high, rope.size(f"rope {ORIGINAL}", context))


ROPE_TYPES = {
    "default": RopeType((), lambda fields, rope, theta: None),
    "linear": RopeType((), lambda fields, rope, theta: LinearScaling(float(rope.number("rope factor")))),
    "llama3": RopeType((), _llama3),
}


def shrunk(pattern: Sequence[T]) -> tuple[T, ...]:
    """The shortest pattern that repeats to the same layers, so that equal models have equal configs."""
    return next(
        tuple(pattern[:length])
        for length in range(1, len(pattern) + 1)
        if all(layer == pattern[number % length] for number, layer in enumerate(pattern))
    )


def base_config(model: ModelConfig, table: Table, dtype: str) -> dict[str, object]:
    """The `config.json` fields that every family has, without token ids, which the exporter adds."""
    return {
        "architectures": [table.architecture],
        "model_type": table.model_type,
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


def rope_config(rope: Rope) -> dict[str, object]:
    """`rope_theta` and `rope_scaling`, which both transformers 4 and 5 read."""
    return {"rope_theta": rope.theta, "rope_scaling": scaling_config(rope.scaling)}


def scaling_config(scaling: Scaling | None) -> dict[str, object] | None:
    """The content of `rope_scaling` for the types that every family has."""
    if scaling is None:
        return None
    if isinstance(scaling, LinearScaling):
        return {"rope_type": "linear", "factor": scaling.factor}
    assert isinstance(scaling, Llama3Scaling), "a family writes the scalings of its own"
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_context,
    }

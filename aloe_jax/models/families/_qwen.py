"""What Qwen2 and Qwen3 share: the layers with a sliding window."""

from __future__ import annotations

from aloe_jax.models.config import Layer, ModelConfig
from aloe_jax.models.families._config import FULL, SLIDING, Fields, rope_config, shrunk

WINDOWS = ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types")


def pattern(fields: Fields) -> tuple[Layer, ...]:
    """The layers. With `use_sliding_window` those that `layer_types` names have a window, without `layer_types` those
    from `max_window_layers` on."""
    rope, layers = fields.rope(), fields.size("num_hidden_layers")
    window = fields.size("sliding_window", 4096) if fields.flag("use_sliding_window") else None
    first = fields.count("max_window_layers", 28) if window else layers
    types = fields.layer_types([SLIDING if layer >= first else FULL for layer in range(layers)])
    return shrunk([Layer(rope, window if kind == SLIDING else None) for kind in types])


def window_config(model: ModelConfig) -> dict[str, object]:
    """Rotary embedding and windows as `config.json` fields."""
    layers = list(model.each_layer())
    windows = {layer.window for layer in layers if layer.window}
    rope = layers[0].rope
    assert rope
    return {
        **rope_config(rope),
        "use_sliding_window": bool(windows),
        "sliding_window": max(windows, default=None),
        # older than layer_types: the first `max_window_layers` layers are those without a window
        "max_window_layers": sum(layer.window is None for layer in layers),
        "layer_types": [SLIDING if layer.window else FULL for layer in layers],
    }

"""Weight tables: Hugging Face's names and shapes of the tensors of a ModelConfig."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from aloe_jax.models.config import LINEAR, ModelConfig, Weight

# Hugging Face's names of the linear maps of a layer, the same in every family so far
MODULES = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
# Hugging Face's names of the norms of a layer: before attention and MLP, as Llama has them
PRE_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}


def weight_table(
    model: ModelConfig, norms: Mapping[str, str], fused: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> list[Weight]:
    """Every tensor once. `norms` names the norms of a layer: our parameter -> Hugging Face's module; `fused` the linear
    maps, without biases, that are one module: Hugging Face's -> ours in their order."""
    layer = "model.layers.{}."
    table = [plain("model.embed_tokens.weight", ("embed",), (model.vocab, model.dim))]
    for module, names in fused.items():
        table += _fused(f"{layer}{module}.weight", model, names)
    parts = {name for names in fused.values() for name in names}
    for name, (inputs, outputs) in LINEAR.items():
        if name in parts:
            continue
        module, into, out = layer + MODULES[name], model.shape(inputs), model.shape(outputs)
        table.append(linear(f"{module}.weight", ("layers", name), into, out))
        if name in model.biases:
            table.append(vector(f"{module}.bias", ("layers", f"{name}_bias"), out))
    table += [plain(f"{layer}{module}.weight", ("layers", name), (model.dim,)) for name, module in norms.items()]
    if model.qk_norm:
        axes = ("head_dim",) if model.qk_norm == "head" else ("heads", "head_dim")
        table.append(vector(layer + "self_attn.q_norm.weight", ("layers", "query_norm"), model.shape(axes)))
        axes = ("head_dim",) if model.qk_norm == "head" else ("kv_heads", "head_dim")
        table.append(vector(layer + "self_attn.k_norm.weight", ("layers", "key_norm"), model.shape(axes)))
    if model.norm != "layer":
        table.append(plain("model.norm.weight", ("final_norm",), (model.dim,)))
    if not model.tied:
        table.append(linear("lm_head.weight", ("head",), (model.dim,), (model.vocab,)))
    return table


def plain(name: str, path: tuple[str, ...], shape: tuple[int, ...]) -> Weight:
    """A tensor with the same layout on both sides."""
    return Weight(name, path, shape, lambda array: array, lambda array: array)


def vector(name: str, path: tuple[str, ...], shape: tuple[int, ...]) -> Weight:
    """A vector on Hugging Face's side that has several axes here."""
    return Weight(name, path, (math.prod(shape),), lambda array: array.reshape(shape), lambda array: array.reshape(-1))


def linear(name: str, path: tuple[str, ...], inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Weight:
    """A linear map: [out, in] on Hugging Face's side, [*inputs, *outputs] here."""
    fan_in, fan_out = math.prod(inputs), math.prod(outputs)
    return Weight(
        name,
        path,
        (fan_out, fan_in),
        lambda array: array.T.reshape(inputs + outputs),
        lambda array: array.reshape(fan_in, fan_out).T,
    )


def _fused(name: str, model: ModelConfig, names: Sequence[str]) -> list[Weight]:
    """Linear maps of the same inputs in one tensor, each in rows of its own."""
    shapes = [(model.shape(LINEAR[each][0]), model.shape(LINEAR[each][1])) for each in names]
    rows = [math.prod(outputs) for _, outputs in shapes]
    whole = sum(rows), math.prod(shapes[0][0])

    def entry(number: int) -> Weight:
        begin, end = sum(rows[:number]), sum(rows[: number + 1])
        part = linear(name, ("layers", names[number]), *shapes[number])
        return dataclasses.replace(part, shape=whole, to_param=lambda array: part.to_param(array[begin:end]))

    return [entry(number) for number in range(len(names))]

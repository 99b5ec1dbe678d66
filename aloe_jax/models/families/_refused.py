"""Architectures of today that are not supported, by the reason: what the decoder would have to compute."""

from __future__ import annotations

from collections.abc import Mapping

# A tree row computes siblings beside each other, told apart by a mask. A recurrent state has no mask: it would carry
# one sibling into the next.
RECURRENT = "some of its layers keep a running state, which cannot be shared by the branches of a tree"
EXPERTS = "it is a mixture of experts, and the decoder is dense"
PER_LAYER = "it adds an embedding per layer, and layers share keys and values"
IMAGES = "it reads images or sound besides text; import the language model in it, if there is one on its own"

REFUSED: Mapping[str, tuple[str, ...]] = {
    PER_LAYER: (
        "Gemma3nForCausalLM",
        "Gemma3nForConditionalGeneration",
        "Gemma4ForCausalLM",
        "Gemma4ForConditionalGeneration",
    ),
    EXPERTS: (
        "Qwen2MoeForCausalLM",
        "Qwen3MoeForCausalLM",
        "MixtralForCausalLM",
        "OlmoeForCausalLM",
        "FlexOlmoForCausalLM",
        "PhimoeForCausalLM",
        "PhiMoEForCausalLM",
        "GptOssForCausalLM",
        "DeepseekV3ForCausalLM",
        "Llama4ForCausalLM",
        "Llama4ForConditionalGeneration",
    ),
    RECURRENT: (
        "Qwen3NextForCausalLM",
        "Qwen3_5ForCausalLM",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForCausalLM",
        "Qwen3_5MoeForConditionalGeneration",
        "OlmoHybridForCausalLM",
        "Phi4FlashForCausalLM",
        "FalconH1ForCausalLM",
        "GraniteMoeHybridForCausalLM",
        "NemotronHForCausalLM",
        "JambaForCausalLM",
        "BambaForCausalLM",
        "Zamba2ForCausalLM",
        "Lfm2ForCausalLM",
        "MambaForCausalLM",
        "Mamba2ForCausalLM",
    ),
    IMAGES: (
        "Gemma3ForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3VLForConditionalGeneration",
        "Phi3VForCausalLM",
        "Phi4MMForCausalLM",
        "Phi4MultimodalForCausalLM",
    ),
}
REASONS = {architecture: reason for reason, architectures in REFUSED.items() for architecture in architectures}

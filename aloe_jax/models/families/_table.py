"""What becomes of every field of a `config.json`: read by its family, without effect, or refused.

A field that a family neither reads nor names here is refused unless it is empty (`EMPTY`), so that no field that
changes the computation is skipped. `tests/models/test_config_fields.py` goes through the fields of the families'
classes in the installed `transformers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aloe_jax.errors import InputError

# Read for every family (`Fields.sizes`, `Fields.rope`).
EVERY = frozenset(
    {
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "intermediate_size",
        "max_position_embeddings",
        "tie_word_embeddings",
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
        "original_max_position_embeddings",
    }
)
# Names, versions, tokens, initialisation, labels, what a call returns, and how transformers computes or decodes.
IRRELEVANT = frozenset(
    [
        "architectures",
        "auto_map",
        "_name_or_path",
        "name_or_path",
        "_commit_hash",
        "transformers_version",
        "transformers.js_config",
        "unsloth_version",
        "unsloth_fixed",
        "torch_dtype",
        "dtype",
        "license",
        "model_name",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "unk_token_id",
        "sep_token_id",
        "mask_token_id",
        "decoder_start_token_id",
        "tokenizer_class",
        "prefix",
        "begin_suppress_tokens",
        "suppress_tokens",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "initializer_range",
        "initializer_factor",
        "id2label",
        "label2id",
        "num_labels",
        "problem_type",
        "finetuning_task",
        "task_specific_params",
        "output_hidden_states",
        "output_attentions",
        "output_scores",
        "output_router_logits",
        "return_dict",
        "return_dict_in_generate",
        "use_return_dict",
        "use_cache",
        "use_bfloat16",
        "torchscript",
        "keys_to_ignore_at_inference",
        "tie_last_hidden_states",
        "chunk_size_feed_forward",
        "pretraining_tp",
        "gradient_checkpointing",
        "cache_implementation",
        "_attn_implementation",
        "_attn_implementation_internal",
        "_attn_implementation_autoset",
        "attn_implementation",
        "_flash_attn_2_enabled",
        "is_llama_config",
        "_sliding_window_pattern",
        "neftune_noise_alpha",
        "do_sample",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
        "min_length",
        "max_length",
        "max_new_tokens",
        "num_beams",
        "num_beam_groups",
        "num_return_sequences",
        "early_stopping",
        "length_penalty",
        "repetition_penalty",
        "encoder_no_repeat_ngram_size",
        "no_repeat_ngram_size",
        "diversity_penalty",
        "bad_words_ids",
        "exponential_decay_length_penalty",
    ]
)
# Without effect at these values; of a list, if every item is one of them. No layer here has a dropout.
NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "attention_dropout": (0,),
    "hidden_dropout": (0,),
    "resid_pdrop": (0,),
    "embd_pdrop": (0,),
    "partial_rotary_factor": (1,),
    "rope_interleaved": (False,),
    "layer_types": ("full_attention",),
    "is_decoder": (True, False),
    "is_encoder_decoder": (False,),
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "logits_scaling": (1,),
    "logit_scale": (1,),
}
EMPTY: tuple[object, ...] = (False, 0, "", [], {})


@dataclass(frozen=True)
class Table:
    """The fields of one family: `used` are read by it, `neutral` have no effect at the values given."""

    architecture: str
    model_type: str
    used: frozenset[str]
    neutral: Mapping[str, tuple[object, ...]]

    def check(self, config: Mapping[str, object]) -> None:
        """Raise InputError for the first field of `config` that would be ignored although it may have an effect."""
        for name, value in config.items():
            if name in self.used or name in IRRELEVANT or value is None:
                continue
            if name not in self.neutral:
                if value in EMPTY:
                    continue
                raise InputError(
                    f"config.json: {name} is {shown(value)}, a field that {self.architecture} is not known to have; "
                    "remove it from config.json if it changes nothing, else the model is not supported"
                )
            allowed = self.neutral[name]
            if not all(any(same(item, each) for each in allowed) for item in _items(value)):
                values = " or ".join(map(repr, allowed))
                raise InputError(
                    f"config.json: {name} is {shown(value)}; only {values} is supported for {self.architecture}"
                )


def table(
    architecture: str, model_type: str, used: Iterable[str], neutral: Mapping[str, tuple[object, ...]] | None = None
) -> Table:
    """The table of a family that reads the fields `used` beside those that every family reads."""
    read = EVERY | {"model_type"} | frozenset(used)
    rest = {name: values for name, values in {**NEUTRAL, **(neutral or {})}.items() if name not in read}
    return Table(architecture, model_type, read, rest)


def same(value: object, expected: object) -> bool:
    """Whether two JSON values are equal; true is not 1 and false not 0."""
    return value == expected and isinstance(value, bool) == isinstance(expected, bool)


def shown(value: object) -> str:
    """A value for an error message, at most a line long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... of {len(text)} characters"


def _items(value: object) -> Iterable[object]:
    return value if isinstance(value, (list, tuple)) else (value,)

"""A GGUF file's vocabulary as the tokenizer files of a Hugging Face folder.

GGUF stores tokens, merges and the *name* of the pre-tokeniser; the rules behind each name are llama.cpp's
(`llama-vocab.cpp`, `llm_tokenizer_bpe`). Ids equal llama.cpp's on the golden strings of tests/fixtures/hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub.gguf_file import GGUFFile

CONTROL, USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type

LLAMA3_PATTERN = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class PreTokenizer:
    """How a named pre-tokeniser cuts text before merges. `whole_words`: a cut that is a token takes no merges;
    `bos`: the beginning-of-sequence token is added unless the file says otherwise."""

    steps: tuple[pre_tokenizers.PreTokenizer, ...]
    whole_words: bool = False
    bos: bool = False


def _byte_level(cut: bool) -> pre_tokenizers.PreTokenizer:
    """Bytes as printable characters; `cut` also splits by GPT-2's pattern."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut)


LLAMA3 = PreTokenizer(
    (pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated"), _byte_level(cut=False)),
    whole_words=True,
    bos=True,
)
PRE_TOKENIZERS = {
    "gpt-2": PreTokenizer((_byte_level(cut=True),)),
    "llama-bpe": LLAMA3,
    "llama3": LLAMA3,
    "smollm": PreTokenizer((pre_tokenizers.Digits(individual_digits=True), _byte_level(cut=True))),
}


def build_tokenizer(source: GGUFFile) -> Tokenizer:
    """The byte-level BPE tokenizer of a GGUF file.

    Raises InputError for another kind of vocabulary (SentencePiece) and for a pre-tokeniser that is not in the table.
    """
    kind, pre = source.require("tokenizer.ggml.model"), source.get("tokenizer.ggml.pre", "default")
    remedy = "import the model's Hugging Face folder instead"
    if kind != "gpt2":
        raise InputError(f"{source.path}: tokenizer.ggml.model is '{kind}'; only 'gpt2' is supported; {remedy}")
    if pre not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise InputError(f"{source.path}: tokenizer.ggml.pre is '{pre}'; supported are {known}; {remedy}")
    rules = PRE_TOKENIZERS[pre]
    tokens: list[str] = source.require("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in source.require("tokenizer.ggml.merges")]
    vocab = {token: number for number, token in enumerate(tokens)}
    try:
        tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=rules.whole_words))
    except Exception as error:  # the Rust binding raises bare Exception
        raise InputError(f"{source.path}: tokenizer.ggml.merges do not fit the tokens ({error})") from None
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(rules.steps))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = _post_processor(source, tokens, rules)
    kinds: list[int] = source.require("tokenizer.ggml.token_type")
    if len(kinds) != len(tokens):
        raise InputError(f"{source.path}: tokenizer.ggml.token_type has {len(kinds)} entries for {len(tokens)} tokens")
    tokenizer.add_special_tokens(_added(tokens, kinds, CONTROL))
    tokenizer.add_tokens(_added(tokens, kinds, USER_DEFINED))
    return tokenizer


def _added(tokens: list[str], kinds: list[int], wanted: int) -> list[AddedToken]:
    """The tokens that are found in text before anything else is cut."""
    special = wanted == CONTROL
    return [
        AddedToken(token, special=special, normalized=False)
        for token, kind in zip(tokens, kinds, strict=True)
        if kind == wanted
    ]


def _post_processor(source: GGUFFile, tokens: list[str], rules: PreTokenizer) -> Any:
    offsets = processors.ByteLevel(trim_offsets=False)
    if not source.get("tokenizer.ggml.add_bos_token", rules.bos):
        return offsets
    number = _special_id(source, "bos")
    if number is None:
        raise InputError(f"{source.path}: tokenizer.ggml.bos_token_id is missing, but the tokenizer adds that token")
    bos = tokens[number]
    template = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B:1", special_tokens=[(bos, number)]
    )
    return processors.Sequence([offsets, template])


def write_tokenizer(source: GGUFFile, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json, chat_template.jinja and generation_config.json into `folder`.

    Raises InputError as `build_tokenizer` does, and for a file without a chat template.
    """
    template = source.get("tokenizer.chat_template")
    if not template:
        raise InputError(f"{source.path}: tokenizer.chat_template is missing; use an instruct model")
    tokens: list[str] = source.require("tokenizer.ggml.tokens")
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    ids = {field: _special_id(source, key) for field, key in names.items()}
    files.write_text(folder / "tokenizer.json", build_tokenizer(source).to_str(pretty=True))
    files.write_text(folder / "chat_template.jinja", template)
    files.write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": source.size("context_length"),
            "clean_up_tokenization_spaces": False,
            **{field: tokens[number] for field, number in ids.items() if number is not None},
        },
    )
    files.write_json(folder / "generation_config.json", token_ids(source))


def token_ids(source: GGUFFile) -> dict[str, int | list[int]]:
    """The special token ids that config.json and generation_config.json state; several ends where the file has an
    end-of-turn token beside the end-of-sequence token."""
    ends = [number for name in ("eos", "eot") if (number := _special_id(source, name)) is not None]
    ends = list(dict.fromkeys(ends))
    ids = {
        "bos_token_id": _special_id(source, "bos"),
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "pad_token_id": _special_id(source, "padding"),
    }
    return {field: value for field, value in ids.items() if value is not None}


def _special_id(source: GGUFFile, name: str) -> int | None:
    """The id of a special token, None if the file has none; InputError for an id outside the vocabulary."""
    number = source.get(f"tokenizer.ggml.{name}_token_id")
    size = len(source.require("tokenizer.ggml.tokens"))
    if number is not None and not 0 <= number < size:
        raise InputError(f"{source.path}: tokenizer.ggml.{name}_token_id is {number}; the vocabulary has {size} tokens")
    return number

"""The vocabulary of a GGUF file as the tokenizer files of a Hugging Face folder.

A byte-level vocabulary has merges and the *name* of its pre-tokeniser; the rules of each name are llama.cpp's
(`llama-vocab.cpp`, `llm_tokenizer_bpe`). Ids equal llama.cpp's on the golden strings of tests/fixtures/hub. A
SentencePiece vocabulary has scores (sentencepiece.py).
"""

from __future__ import annotations

import collections
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub.gguf import sentencepiece
from aloe_jax.hub.gguf.file import GGUFFile
from aloe_jax.tree.tokenizer import TURN_ENDERS

UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 2, 3, 4, 5  # values of tokenizer.ggml.token_type
BYTE_LEVEL, SENTENCEPIECE = "gpt2", "llama"  # values of tokenizer.ggml.model

# llama.cpp's ids for a SentencePiece file that does not state them.
SENTENCEPIECE_IDS = {"unknown": 0, "bos": 1, "eos": 2}

REMEDY = "import the model's Hugging Face folder instead"


@dataclass(frozen=True)
class PreTokenizer:
    """The steps of a named pre-tokeniser before merges. `whole_words`: a part that is a token gets no merges; `bos`:
    the beginning-of-sequence token is added unless the file says otherwise; `composed`: text is converted to Unicode's
    composed form (NFC) first, as in the family's own tokenizer and not in llama.cpp."""

    steps: tuple[pre_tokenizers.PreTokenizer, ...]
    whole_words: bool = False
    bos: bool = False
    composed: bool = False


def _byte_level(cut: bool) -> pre_tokenizers.PreTokenizer:
    """Bytes as printable characters; `cut` also splits by GPT-2's pattern."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut)


def _words(digits: str) -> tuple[pre_tokenizers.PreTokenizer, ...]:
    """Llama 3's pattern, with `digits` for the digits of a number that stay together."""
    pattern = (
        r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + "|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated"), _byte_level(cut=False)


LLAMA3 = PreTokenizer(_words(r"\p{N}{1,3}"), whole_words=True, bos=True)
PRE_TOKENIZERS = {
    "gpt-2": PreTokenizer((_byte_level(cut=True),)),
    "llama-bpe": LLAMA3,
    "llama3": LLAMA3,
    "qwen2": PreTokenizer(_words(r"\p{N}"), composed=True),
    "smollm": PreTokenizer((pre_tokenizers.Digits(individual_digits=True), _byte_level(cut=True))),
}


@dataclass(frozen=True)
class Vocabulary:
    """The tokens by id, and the kind of each, without the padding of the embedding at the end."""

    tokens: list[str]
    kinds: list[int]

    @classmethod
    def of(cls, source: GGUFFile) -> Vocabulary:
        """The vocabulary of a file. Raises InputError for a token without a kind and for a duplicate."""
        tokens, kinds = source.require("tokenizer.ggml.tokens"), source.require("tokenizer.ggml.token_type")
        if len(kinds) != len(tokens):
            raise InputError(
                f"{source.path}: tokenizer.ggml.token_type has {len(kinds)} entries for {len(tokens)} tokens"
            )
        if len(set(tokens)) != len(tokens):
            (twice, _), *_ = collections.Counter(tokens).most_common(1)
            raise InputError(f"{source.path}: tokenizer.ggml.tokens has {twice!r} twice; download the file again")
        size = _size(kinds)
        return cls(tokens[:size], kinds[:size])

    def added(self, *kinds: int, special: bool) -> list[AddedToken]:
        """The tokens of these kinds, which are matched in text before the pre-tokeniser."""
        return [
            AddedToken(token, special=special, normalized=False)
            for token, kind in zip(self.tokens, self.kinds, strict=True)
            if kind in kinds
        ]


def _size(kinds: list[int]) -> int:
    """The number of tokens without the unused ones at the end."""
    return next((number for number in range(len(kinds), 0, -1) if kinds[number - 1] != UNUSED), 0)


def build_tokenizer(source: GGUFFile) -> Tokenizer:
    """The tokenizer of a GGUF file.

    Raises InputError for a kind of vocabulary or a pre-tokeniser that is not in the tables, and for a broken
    vocabulary.
    """
    kind, vocabulary = source.require("tokenizer.ggml.model"), Vocabulary.of(source)
    if kind == BYTE_LEVEL:
        tokenizer, bos = _byte_level_bpe(source, vocabulary)
    elif kind == SENTENCEPIECE:
        tokenizer, bos = _sentencepiece(source, vocabulary), True
    else:
        raise InputError(
            f"{source.path}: tokenizer.ggml.model is '{kind}'; supported are '{BYTE_LEVEL}' and '{SENTENCEPIECE}'; "
            + REMEDY
        )
    if template := _template(source, vocabulary.tokens, bos):
        before = tokenizer.post_processor
        tokenizer.post_processor = processors.Sequence([before, template]) if before else template
    tokenizer.add_special_tokens(vocabulary.added(CONTROL, UNKNOWN, special=True))
    tokenizer.add_tokens(vocabulary.added(USER_DEFINED, special=False))
    return tokenizer


def _byte_level_bpe(source: GGUFFile, vocabulary: Vocabulary) -> tuple[Tokenizer, bool]:
    """The tokenizer, and whether it adds BOS if the file does not state it."""
    pre = source.get("tokenizer.ggml.pre", "default")
    if pre not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise InputError(f"{source.path}: tokenizer.ggml.pre is '{pre}'; supported are {known}; {REMEDY}")
    rules = PRE_TOKENIZERS[pre]
    merges = [tuple(merge.split(" ", 1)) for merge in source.require("tokenizer.ggml.merges")]
    vocab = {token: number for number, token in enumerate(vocabulary.tokens)}
    try:
        tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=rules.whole_words))
    except Exception as error:  # the Rust binding raises bare Exception
        raise InputError(f"{source.path}: tokenizer.ggml.merges do not fit the tokens ({error})") from None
    if rules.composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(rules.steps))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer, rules.bos


def _sentencepiece(source: GGUFFile, vocabulary: Vocabulary) -> Tokenizer:
    tokens, scores = vocabulary.tokens, source.require("tokenizer.ggml.scores")
    if len(scores) < len(tokens):
        raise InputError(f"{source.path}: tokenizer.ggml.scores has {len(scores)} entries for {len(tokens)} tokens")
    space_prefix = source.get("tokenizer.ggml.add_space_prefix", True)
    return sentencepiece.build(tokens, scores, _special_id(source, "unknown"), space_prefix)


def _template(source: GGUFFile, tokens: list[str], bos: bool) -> processors.TemplateProcessing | None:
    """The post-processor that adds BOS and EOS as the file states, with the default `bos` for BOS; None if neither is
    added."""
    added: dict[str, int] = {}
    for name, default in (("bos", bos), ("eos", False)):
        if source.get(f"tokenizer.ggml.add_{name}_token", default):
            number = _special_id(source, name)
            if number is None:
                raise InputError(
                    f"{source.path}: tokenizer.ggml.{name}_token_id is missing, but the tokenizer adds that token"
                )
            added[name] = number
    if not added:
        return None
    before, after = ([tokens[added[name]]] if name in added else [] for name in ("bos", "eos"))
    return processors.TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[*before, "$A", *after, *before, "$B:1", *after],
        special_tokens=[(tokens[number], number) for number in added.values()],
    )


def write_tokenizer(source: GGUFFile, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json, generation_config.json and, except for base models, which have none,
    chat_template.jinja into `folder`. Raises InputError as `build_tokenizer` does."""
    tokenizer, tokens = build_tokenizer(source), source.require("tokenizer.ggml.tokens")
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    ids = {field: _special_id(source, key) for field, key in names.items()}
    files.write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    if template := source.get("tokenizer.chat_template"):
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
    """The special token ids for config.json and generation_config.json.

    There are several end tokens if the file has an end-of-turn token besides the end-of-sequence token. Many Gemma
    files name only the latter; then the vocabulary is searched for the texts of tokens that end a turn, as in
    llama.cpp.
    """
    tokens: list[str] = source.require("tokenizer.ggml.tokens")
    kinds: list[int] = source.require("tokenizer.ggml.token_type")
    ends = [number for name in ("eos", "eot") if (number := _special_id(source, name)) is not None]
    if not any(tokens[number] in TURN_ENDERS for number in ends):
        ends += [n for n, kind in enumerate(kinds) if kind == CONTROL and tokens[n] in TURN_ENDERS]
    ends = list(dict.fromkeys(ends))
    ids = {
        "bos_token_id": _special_id(source, "bos"),
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "pad_token_id": _special_id(source, "padding"),
    }
    return {field: value for field, value in ids.items() if value is not None}


def _special_id(source: GGUFFile, name: str) -> int | None:
    """The id of a special token, None if the file has none. Raises InputError for an id outside the vocabulary."""
    defaults = SENTENCEPIECE_IDS if source.get("tokenizer.ggml.model") == SENTENCEPIECE else {}
    number = source.get(f"tokenizer.ggml.{name}_token_id", defaults.get(name))
    size = _size(source.require("tokenizer.ggml.token_type"))
    if number is not None and not 0 <= number < size:
        raise InputError(f"{source.path}: tokenizer.ggml.{name}_token_id is {number}; the vocabulary has {size} tokens")
    return number

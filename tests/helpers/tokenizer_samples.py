"""Small tokenizers of every construction that published models use, trained on a few lines, without special tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = (
    "The quiet gardener waters the tomatoes before work and plays the cello in the evening.",
    "Her neighbour asks: how are you, and why? What would you like to hear about today?",
    "Be kind. Be short. Fine, and you? So. And now? Then that. It is here, go on, no end.",
    "1234 trains left at 12:45 on 3 May 2024;  two   of them were 100% full.\n\n\tdef f(x):\n\t\treturn x + 1\n",
    "Grüße aus Köln, naïve café, ça va? Привет, мир! 世界和平。 こんにちは 🌍🙂",
    "Sage User: Sage Assistant: ASKER: MACHINE: [ASK] [/ASK] [INST] [/INST] <<RULES>> Person Model <think> </think>",
)
# Splits of words in the manner of Llama 3, Qwen 2.5, and the vocabularies that split at capitals (Tekken, gpt-oss).
_LLAMA_3 = r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN = _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
_CASED = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{M}]*[\p{Ll}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}]+"
_CASED += r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_DEEPSEEK = (r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", r"[!-/:-~][A-Za-z]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
_FALLBACK = [f"<0x{number:02X}>" for number in range(256)]
_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())

Split = pre_tokenizers.PreTokenizer


def byte_level(
    *splits: Split,
    regex: bool = False,
    prefix: bool = False,
    normalizer: normalizers.Normalizer | None = None,
    more: Sequence[AddedToken | str] = (),
    size: int = 500,
    **model: Any,
) -> Tokenizer:
    """A BPE over bytes. `splits` come before them, with GPT-2's own behind those if `regex`, which is always there
    without any. `more` are added tokens that are not special."""
    backend = Tokenizer(models.BPE(**model))
    level = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex or not splits)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, level])
    backend.decoder = decoders.ByteLevel()
    if normalizer is not None:
        backend.normalizer = normalizer
    _train(backend, trainers.BpeTrainer(vocab_size=size, initial_alphabet=_BYTES, show_progress=False))
    backend.add_tokens(list(more))
    return backend


def pieces(
    scheme: str, *, unigram: bool = False, normalizer: Sequence[normalizers.Normalizer] = (), **model: Any
) -> Tokenizer:
    """A vocabulary of SentencePiece's kind with bytes to fall back to. `scheme` says where a space is put in front:
    "legacy" by the normaliser, "first", "always" or "never" by the pre-tokeniser; "replaced" nowhere, as in Gemma."""
    made = models.Unigram if unigram else models.BPE
    backend = Tokenizer(made(byte_fallback=True) if unigram else made(byte_fallback=True, fuse_unk=True, **model))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    chosen = trainers.UnigramTrainer if unigram else trainers.BpeTrainer
    more = {"unk_token": "<unk>"} if unigram else {"limit_alphabet": 90}
    _train(backend, chosen(vocab_size=600, special_tokens=["<unk>", *_FALLBACK], show_progress=False, **more))
    replace = normalizers.Replace(" ", "▁")
    if scheme in ("legacy", "replaced"):
        normalizer = [*normalizer, *[normalizers.Prepend("▁")] * (scheme == "legacy"), replace]
        backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous") if scheme == "replaced" else None
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=unigram)
    if normalizer:
        backend.normalizer = normalizers.Sequence(list(normalizer))
    last = [] if scheme in ("never", "replaced") else [decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *last])
    return backend


def words(kind: str) -> Tokenizer:
    """Vocabularies that do not give the text back: "wordpiece" as BERT's, "suffix" as GPT's first, "prefix", "word"."""
    model, trainer = {
        "wordpiece": (models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer),
        "suffix": (models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"), trainers.BpeTrainer),
        "prefix": (models.BPE(unk_token="[UNK]", continuing_subword_prefix="##"), trainers.BpeTrainer),
        "word": (models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer),
    }[kind]
    backend = Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer(lowercase=kind == "wordpiece")
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    more = {"suffix": {"end_of_word_suffix": "</w>"}, "prefix": {"continuing_subword_prefix": "##"}}.get(kind, {})
    _train(backend, trainer(vocab_size=400, special_tokens=["[UNK]"], show_progress=False, **more))
    return backend


def beginning_with(backend: Tokenizer, token: str) -> Tokenizer:
    """`backend` with a post-processor that puts `token` in front of every text, for which nobody asks here."""
    backend.add_special_tokens([token])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, backend.token_to_id(token))]
    )
    return backend


def with_tokens(backend: Tokenizer, *tokens: AddedToken) -> Tokenizer:
    """`backend` with special tokens of its own flags, before a template adds them without any."""
    backend.add_special_tokens(list(tokens))
    return backend


def _train(backend: Tokenizer, trainer: Any) -> None:
    backend.train_from_iterator(CORPUS, trainer)


def _split(*patterns: str) -> list[Split]:
    return [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]


def _flagged(*texts: str, **flags: bool) -> list[AddedToken]:
    return [AddedToken(text, special=True, **({"normalized": False} | flags)) for text in texts]


_DIGITS = pre_tokenizers.Digits(individual_digits=True)
_SPACES = [AddedToken(" " * number, normalized=True) for number in range(2, 9)]
_LINES = [AddedToken("\n" * number, normalized=False) for number in range(2, 5)]
_WHITE = [normalizers.NFKC(), normalizers.Replace(Regex(r"\s"), " "), normalizers.Strip(left=False, right=True)]
_WHITE += [normalizers.Replace(Regex(" {2,}"), " ")]
_PHI = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": byte_level,
    "prefix space": lambda: byte_level(prefix=True),
    "bytes alone": lambda: byte_level(size=256),
    "llama3": lambda: byte_level(*_split(_LLAMA_3), ignore_merges=True),
    "qwen": lambda: byte_level(*_split(_QWEN), normalizer=normalizers.NFC()),
    "capitals": lambda: byte_level(*_split(_CASED), ignore_merges=True),
    "deepseek": lambda: byte_level(*_split(*_DEEPSEEK)),
    "digits": lambda: byte_level(_DIGITS, regex=True),
    "punctuation": lambda: byte_level(pre_tokenizers.Punctuation("contiguous"), _DIGITS, regex=True),
    "spaces as tokens": lambda: byte_level(normalizer=normalizers.NFC(), more=_SPACES),
    "nfkc": lambda: byte_level(normalizer=normalizers.NFKC()),
    "lower case": lambda: byte_level(normalizer=normalizers.Lowercase(), more=["Sage"]),
    "byte normaliser": lambda: _byte_normaliser(),
    "beginning": lambda: beginning_with(byte_level(), "<|endoftext|>"),
    "rstrip": lambda: with_tokens(byte_level(), *_flagged(*_PHI, rstrip=True)),
    "lstrip": lambda: with_tokens(byte_level(), *_flagged("<|im_start|>", "<|im_end|>", lstrip=True, rstrip=True)),
    "single word": lambda: byte_level(more=[AddedToken("you", single_word=True), AddedToken("So", single_word=True)]),
    "legacy": lambda: pieces("legacy"),
    "legacy, rstrip": lambda: with_tokens(pieces("legacy"), *_flagged(*_PHI, rstrip=True)),
    "first": lambda: pieces("first"),
    "first, lines": lambda: _adding(pieces("first"), _LINES),
    "always": lambda: pieces("always"),
    "never": lambda: pieces("never"),
    "replaced": lambda: pieces("replaced"),
    "replaced, lines": lambda: _adding(pieces("replaced"), [*_LINES, *(AddedToken("▁" * n) for n in range(2, 6))]),
    "unigram": lambda: pieces("first", unigram=True),
    "unigram always": lambda: pieces("always", unigram=True),
    "unigram nfkc": lambda: pieces("always", unigram=True, normalizer=[normalizers.NFKC()]),
    "unigram, white space": lambda: pieces("always", unigram=True, normalizer=_WHITE),
    "wordpiece": lambda: words("wordpiece"),
    "suffix": lambda: words("suffix"),
    "prefix": lambda: words("prefix"),
    "word": lambda: words("word"),
}


def _adding(backend: Tokenizer, tokens: Sequence[AddedToken]) -> Tokenizer:
    backend.add_tokens(list(tokens))
    return backend


def _byte_normaliser() -> Tokenizer:
    """Bytes are made by the normaliser, and words are split behind it."""
    backend = byte_level()
    backend.normalizer = normalizers.ByteLevel()
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("Ġ?[^ĠĊ]+|Ċ+|Ġ+"), "isolated")
    return backend

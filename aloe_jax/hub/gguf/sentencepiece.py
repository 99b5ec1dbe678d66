"""A SentencePiece vocabulary of a GGUF file (Gemma 3, Llama 2) as a byte-pair encoding with byte fallback.

SentencePiece joins the two neighbours that form the token with the highest score; a byte-pair encoding joins the pair
that comes first in its list of merges. So the merges are all pairs of tokens that form a token, ordered by its score.
The other rules are llama.cpp's (`llama-vocab.cpp`, `llm_tokenizer_spm`): ids equal its own and SentencePiece's on
the golden strings of tests/fixtures/hub.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, normalizers

SPACE = "▁"  # SentencePiece's character for a space


def build(tokens: Sequence[str], scores: Sequence[float], unknown: int | None, space_prefix: bool) -> Tokenizer:
    """The tokenizer without its added tokens and post-processor.

    Args:
        tokens: the vocabulary, with byte tokens such as "<0x0A>".
        scores: one per token; tokens of higher scores are formed earlier.
        unknown: id of the token for text that is neither in the vocabulary nor covered by byte tokens.
        space_prefix: whether a space is prepended to text, at its start and after added tokens.
    """
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab,
            _merges(vocab, scores),
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    escape = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), escape]) if space_prefix else escape
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if space_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _merges(vocab: dict[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """The pairs of tokens that form a token, best first. Of several pairs for the same token, the one with the longer
    left part is first: in a run of equal characters that is the one further left, which SentencePiece prefers."""
    found = [
        (-scores[number], -cut, token)
        for token, number in vocab.items()
        for cut in range(1, len(token))
        if token[:cut] in vocab and token[cut:] in vocab
    ]
    return [(token[:-from_left], token[-from_left:]) for _, from_left, token in sorted(found)]

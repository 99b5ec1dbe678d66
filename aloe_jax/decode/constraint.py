"""Constrained decoding: the tokens that may come next, by llguidance's parser over the tokenizer's vocabulary.

A grammar defines the allowed texts, llguidance the allowed tokens: any whose bytes continue to an allowed text. Where
only one text can follow, the tokens of the tokenizer for it are the only ones. Tokens are bits, 32 per word, the lowest
bit first.

Axes: W words of 32 tokens of the tokenizer's vocabulary.
"""

from __future__ import annotations

import functools
import json

import numpy as np
from jaxtyping import UInt32
from llguidance import LLMatcher, LLTokenizer

from aloe_jax.decode.requests import MAX_CONSTRAINT, Constraint, ConstraintError
from aloe_jax.tree.tokenizer import Tokenizer

SILENT = 0  # llguidance's log level


class Matcher:
    """The state of one reply in its grammar: `allowed` holds the tokens that may come next. End-of-turn tokens are
    among them where the text may end, and they alone where it must."""

    def __init__(self, parser: LLMatcher, end_of_turn: UInt32[np.ndarray, W]) -> None:
        self._parser = parser
        self._end_of_turn = end_of_turn
        self.allowed = self._allowed()

    def copy(self) -> Matcher:
        """An independent matcher in the same state."""
        return Matcher(self._parser.deep_copy(), self._end_of_turn)

    def take(self, token: int) -> bool:
        """Advance by an allowed token that ends no turn; False if nothing can follow it."""
        self._parser.consume_token(token)
        self.allowed = self._allowed()
        return bool(self.allowed.any())

    def _allowed(self) -> UInt32[np.ndarray, W]:
        """No bit at all where the parser cannot continue. (llguidance would end the turn there, complete or not.)"""
        bits = np.frombuffer(self._parser.compute_bitmask(), np.uint32)[: len(self._end_of_turn)]  # it may pad
        if self._parser.is_error():
            return np.zeros_like(bits)
        # A vocabulary may declare an ordinary token as end of turn: inside the text it would cut the reply.
        return bits if self._parser.is_accepting() else bits & ~self._end_of_turn


class Grammar:
    """Makes matchers for the vocabulary of one tokenizer, which llguidance reads for the first one. Not thread-safe."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def matcher(self, constraint: Constraint) -> Matcher:
        """A matcher at the beginning of a reply. Raises ConstraintError for a constraint that is too large, where
        llguidance refuses it, or if no token of the vocabulary can begin such a text."""
        if (size := constraint.size) > MAX_CONSTRAINT:
            raise ConstraintError(f"{_name(constraint)}: {size} bytes; expected at most {MAX_CONSTRAINT}, shorten it")
        vocabulary, end_of_turn = self._vocabulary
        try:
            parser = LLMatcher(vocabulary, _source(constraint), log_level=SILENT)
        except ValueError as error:
            raise ConstraintError(f"{_name(constraint)}: {error}") from None
        if parser.is_error():
            raise ConstraintError(f"{_name(constraint)}: {_reason(parser.get_error())}")
        matcher = Matcher(parser, end_of_turn)
        if not matcher.allowed.any():
            raise ConstraintError(f"{_name(constraint)}: no token of the vocabulary begins such a text")
        return matcher

    @functools.cached_property
    def _vocabulary(self) -> tuple[LLTokenizer, UInt32[np.ndarray, W]]:
        ends = sorted(self._tokenizer.end_of_turn_ids)
        try:
            vocabulary = LLTokenizer(self._tokenizer.definition, eos_token=ends)
        except ValueError as error:
            raise ConstraintError(
                f"{self._tokenizer.name}: replies of this tokenizer cannot be constrained ({error})"
            ) from None
        bits = np.zeros(-(-vocabulary.vocab_size // 32) * 32, bool)
        bits[ends] = True
        return vocabulary, np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)


def _source(constraint: Constraint) -> str:
    """The constraint in llguidance's notation."""
    if constraint.choices is not None:
        literals = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in constraint.choices)
        return LLMatcher.grammar_from_lark(f"start: {literals}")
    if constraint.regex is not None:
        return LLMatcher.grammar_from_regex(constraint.regex)
    assert constraint.json_schema is not None
    return LLMatcher.grammar_from_json_schema(constraint.json_schema, defaults={"whitespace_flexible": False})


def _name(constraint: Constraint) -> str:
    if constraint.choices is not None:
        return "the choices"
    return "the regex" if constraint.regex is not None else "the JSON schema"


def _reason(message: str) -> str:
    """The line of llguidance's message that states the error; a regex is quoted in several lines."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])

"""The special tokens of a model folder: what its other files add to tokenizer.json, as `transformers` adds it.

Source: `PreTrainedTokenizerBase._from_pretrained` and `TokenizersBackend.__init__` of transformers 5. Where
tokenizer_config.json has `added_tokens_decoder`, the older special_tokens_map.json and added_tokens.json do not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import tokenizers
from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError

CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
# The names that chat templates get, and whose texts are tokens.
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class SpecialTokens:
    """What a folder says beside tokenizer.json: `named` texts, and `added` tokens with the ids stated for them."""

    named: Mapping[str, str]
    added: tuple[tuple[int | None, tokenizers.AddedToken], ...]
    config: Mapping[str, object]  # tokenizer_config.json

    def add_to(self, backend: tokenizers.Tokenizer, where: str) -> bool:
        """Add the tokens that `backend` lacks, and set the flags that added_tokens_decoder states; whether anything
        changed. A token that is only named keeps the flags that it has. Raises InputError if a token gets another id
        than the one stated for it."""
        before = _flags(backend)
        known = {token.content for token in backend.get_added_tokens_decoder().values()}
        backend.add_tokens([token for number, token in self.added if number is not None or token.content not in known])
        for number, token in self.added:
            if number is not None and (found := backend.token_to_id(token.content)) != number:
                raise InputError(
                    f"{where}: added_tokens_decoder gives {token.content!r} the id {number}, by tokenizer.json it is "
                    f"{found}; use the two files of one model"
                )
        return _flags(backend) != before


def read_special_tokens(folder: epath.Path, padding: Mapping[str, object] | None) -> SpecialTokens:
    """The special tokens of a folder; `padding` is that of tokenizer.json, which names a token if nothing else does.

    Raises InputError with file, field and value for a missing file and for a token that is neither text nor an object
    with its text as `content`.
    """
    path = folder / CONFIG
    config = files.read_object(path)
    stated, known = config, dict(_decoder(path, config))
    if config.get("added_tokens_decoder") is None:
        if (folder / MAP).exists():
            stated = {**config, **files.read_object(folder / MAP)}
        known = dict(_older(folder / ADDED, stated)) if (folder / ADDED).exists() else {}
    by_text = {token.content: token for token in known.values()}
    named: dict[str, str] = {}
    more: list[tokenizers.AddedToken] = []
    if padding is not None and stated.get("pad_token") is None:
        stated = {**stated, "pad_token": padding.get("pad_token")}
    extra = stated.get("extra_special_tokens") or stated.get("additional_special_tokens") or []
    if not isinstance(extra, (list, Mapping)):
        raise _wrong(path, "extra_special_tokens", extra, "a list or an object")
    for name in NAMES:
        if stated.get(name) is not None:
            token = _token(path, name, stated[name], special=True)
            named[name] = token.content
            more.append(by_text.get(token.content, token))
    own = {name: stated[name] for name in stated if name.endswith("_token") and isinstance(stated[name], str)}
    others: dict[str, object] = {name: text for name, text in own.items() if name not in NAMES}
    others |= extra if isinstance(extra, Mapping) else {}
    for name, value in others.items():
        more.append(_token(path, name, value, special=True))
        named[name] = more[-1].content
    if isinstance(extra, list):
        more += [_token(path, "extra_special_tokens", value, special=True) for value in extra]
    for token in more:
        token.special = True
    return SpecialTokens(named, (*sorted(known.items(), key=lambda item: item[0]), *((None, t) for t in more)), config)


def _flags(backend: tokenizers.Tokenizer) -> dict[int, str]:
    """The added tokens with their flags, as text, by id."""
    return {number: repr(token) for number, token in backend.get_added_tokens_decoder().items()}


def _decoder(path: epath.Path, config: Mapping[str, object]) -> Iterator[tuple[int, tokenizers.AddedToken]]:
    table = config.get("added_tokens_decoder") or {}
    if not isinstance(table, Mapping):
        raise _wrong(path, "added_tokens_decoder", table, "an object")
    for number, value in table.items():
        if not (isinstance(number, str) and number.isdecimal() and len(number) < 10 and isinstance(value, Mapping)):
            raise _wrong(path, f"added_tokens_decoder of {number!r}", value, "an id and an object with its content")
        yield int(number), _token(path, f"added_tokens_decoder of {number}", value, special=False)


def _older(path: epath.Path, stated: Mapping[str, object]) -> Iterator[tuple[int, tokenizers.AddedToken]]:
    """The tokens of added_tokens.json: text -> id."""
    special = {_token(path, name, stated[name], special=True).content for name in NAMES if stated.get(name) is not None}
    for text, number in files.read_object(path).items():
        if isinstance(number, bool) or not isinstance(number, int):
            raise _wrong(path, repr(text), number, "an id")
        yield number, tokenizers.AddedToken(text, normalized=text not in special, special=text in special)


def _token(path: epath.Path, name: str, value: object, *, special: bool) -> tokenizers.AddedToken:
    """A token from its text or its object."""
    if isinstance(value, str):
        return tokenizers.AddedToken(value, special=special)
    if not isinstance(value, Mapping) or not isinstance(value.get("content"), str):
        raise _wrong(path, name, value, "the text of a token, or an object with it as content")
    flags = {flag: value[flag] for flag in FLAGS if flag in value}
    for flag, found in flags.items():
        if not isinstance(found, bool):
            raise _wrong(path, f"{flag} of {name}", found, "true or false")
    return tokenizers.AddedToken(value["content"], **({"special": special} | flags))


def _wrong(path: epath.Path, name: str, value: object, expected: str) -> InputError:
    text = repr(value)
    return InputError(f"{path}: {name} is {text if len(text) < 80 else text[:60] + '...'}; expected {expected}")

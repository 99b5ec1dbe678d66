"""The tokenizer of a Hugging Face folder: exact ids, nothing added, the tokens that end a turn."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import tokenizers
from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.special_tokens import read_special_tokens

# Tokens that end a message in the chat formats of open models. Those of them that a vocabulary has count as end of turn
# beside the declared eos tokens: many folders declare the end of text only.
TURN_ENDERS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end_of_turn|>", "<|end|>")
# Around a special token's text inside a message: private-use characters, as in transformers' `sanitize_control_tokens`.
MARK, END_MARK = "\U000f0000", "\U000f0001"
_ANCHORS = ("\n", ".", "a")  # characters that a piece may be encoded behind
_THINKING = re.compile("think", re.IGNORECASE)  # tags that replies hold and templates look for: tokens also in messages
# Unicode's, which `lstrip` and `rstrip` of an added token swallow; Python's own set has four control characters more.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"


@dataclass(frozen=True)
class Tokenizer:
    """Maps text to token ids and back.

    Attributes:
        end_of_turn_ids: tokens that end a reply; decoding stops at them.
        end_of_turn_texts: their texts, in the order of the ids; the trie cuts rendered conversations after them.
        special: texts of the special tokens by the names that chat templates know, such as bos_token.
        hash: SHA-256 of `tokenizer.json` and of what other files add to it; stored token ids need an equal one.
        chat_template: source text of the folder's chat template.
        name: the folder, for error messages.
    """

    _backend: tokenizers.Tokenizer
    end_of_turn_ids: frozenset[int]
    end_of_turn_texts: tuple[str, ...]
    special: Mapping[str, str]
    hash: str
    chat_template: str
    name: str

    @classmethod
    def load(cls, folder: epath.PathLike, template: str = "") -> Tokenizer:
        """Load tokenizer.json, the special tokens of the other files, the chat template and the eos ids of
        generation_config.json. With `template` that text takes the place of the folder's chat template.

        Raises InputError if a file is missing or broken, if there is no chat template or no end-of-turn token, or if
        an end of turn is not one id.
        """
        path = epath.Path(folder)
        raw = files.read_text(files.existing(path / "tokenizer.json", "tokenizer file"))
        with _sentence(f"{path / 'tokenizer.json'}: not a readable tokenizer"):
            files.loads(raw)  # the library takes the last of two equal keys in silence
            backend = tokenizers.Tokenizer.from_str(raw)
        _check_distinct(path / "tokenizer.json", backend)
        special = read_special_tokens(path, backend.padding)
        # Stored settings for training would cut long histories, pad short ones, or give other ids at each call.
        backend.no_truncation()
        backend.no_padding()
        if getattr(backend.model, "dropout", None) is not None:
            backend.model.dropout = None
        backend.encode_special_tokens = split = _flag(path, special.config, "split_special_tokens")
        digest = files.hash_file(path / "tokenizer.json")
        if special.add_to(backend, str(path / "tokenizer_config.json")) or split:
            digest = files.sha256(digest, repr(backend.get_added_tokens_decoder()), str(split))
        enders = _end_of_turn(path, backend, special.named.get("eos_token"))
        found = cls(
            _backend=backend,
            end_of_turn_ids=frozenset(enders),
            end_of_turn_texts=tuple(enders.values()),
            special=special.named,
            hash=digest,
            chat_template=template or _chat_template(path, special.config),
            name=str(folder),
        )
        for number, text in enders.items():
            if (ids := found.encode(text)) != [number]:
                raise InputError(
                    f"{path}: the end of turn {text!r} has the ids {ids}, not the one id {number}, so the model could "
                    "never be trained to emit it; name it in added_tokens_decoder of tokenizer_config.json"
                )
        return found

    @property
    def bos_token(self) -> str | None:
        """Text of the begin-of-sequence token, None if there is none."""
        return self.special.get("bos_token")

    @property
    def eos_token(self) -> str | None:
        """Text of the end-of-sequence token, likewise."""
        return self.special.get("eos_token")

    @property
    def vocab_size(self) -> int:
        """Number of token ids, added tokens included."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @property
    def text_size(self) -> int:
        """The minimum vocabulary of a model: one more than the largest id of ordinary text and of the end of a turn.
        Other special tokens may lie beyond it, such as the image token of Gemma 3 trained on text alone."""
        added = self._backend.get_added_tokens_decoder()
        needed = [token for token, kind in added.items() if not kind.special] + list(self.end_of_turn_ids)
        return max(self._backend.get_vocab_size(with_added_tokens=False), 1 + max(needed))

    @functools.cached_property
    def special_tokens(self) -> dict[int, str]:
        """The tokens that are declared as special, id -> text, in the order of ids."""
        added = self._backend.get_added_tokens_decoder()
        return {number: added[number].content for number in sorted(added) if added[number].special}

    def entry(self, token: int) -> str | None:
        """The vocabulary's own notation of a token, such as "Ġriver" or "<0xE2>"; None for an id that it lacks."""
        return self._backend.id_to_token(token)

    def check_ids(self, ids: Iterable[int], vocab: int, where: str) -> None:
        """Raise InputError, beginning with `where`, if one of `ids` is beyond the `vocab` ids of a model: the lookup
        would give the embedding of another token."""
        if (largest := max(ids, default=0)) >= vocab:
            raise InputError(
                f"{where} has the token id {largest}: the tokenizer of {self.name} has {self.vocab_size} ids, the "
                f"model's vocab_size is {vocab}; use the tokenizer that belongs to the model, and no special tokens "
                "in texts that it does not know"
            )

    @property
    def definition(self) -> str:
        """The content of `tokenizer.json`, for other readers of that format; truncation and padding are off."""
        return self._backend.to_str()

    def marked(self, content: str) -> str:
        """A message's text with marks around the texts of special tokens, which `encode` then takes as ordinary text:
        what somebody writes about a token must not become that token."""
        bare = content.replace(MARK, "").replace(END_MARK, "")
        return self._control.sub(rf"{MARK}\g<0>{END_MARK}", bare)

    def encode(self, text: str, after: str = "") -> list[int]:
        """The ids of `text` as it is: nothing is added, and texts of special tokens in it are recognised, except those
        within marks (`marked`), which are ordinary text. Raises InputError where the vocabulary has no other ids for
        one.

        `after` is the text that precedes it, empty for the first piece of a sequence. SentencePiece tokenizers prepend
        a space to the beginning of a text, which a piece in the middle must not get. With such a tokenizer the piece
        is encoded behind an anchor (the special token that ends `after`, else its last character, or another one with
        which the piece does not merge) and the anchor's ids are dropped, which leaves the ids that the whole text has
        from this border on. White space behind a token that swallows it (`rstrip`) has no ids, here as in the whole
        text.

        Raises InputError for text that the tokenizer fails on.
        """
        if MARK in text or END_MARK in text:
            return self._marked_ids(text, after)
        if self._right_stripping and (kept := after.rstrip(WHITE_SPACE)).endswith(self._right_stripping):
            text, after = text.lstrip(WHITE_SPACE), kept
        if not after or not self._marks_beginning:
            return self._ids(text)
        special = next((token for token in self._special_texts if after.endswith(token)), None)
        for anchor in (special,) if special else (after[-1], *_ANCHORS):
            dropped, ids = self._ids(anchor), self._ids(anchor + text)
            if ids[: len(dropped)] == dropped:
                return ids[len(dropped) :]
        return self._ids(text)

    def encode_document(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text that is no piece of a conversation, with what `tokenizer.json` puts around every text, such
        as a begin-of-sequence token. Texts of special tokens in it are recognised. Raises InputError as `encode`."""
        return self._ids(text, add_special_tokens)

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of `ids`, without special tokens unless `skip_special` is False."""
        return self._backend.decode([int(token) for token in ids], skip_special_tokens=skip_special)

    def _marked_ids(self, text: str, after: str) -> list[int]:
        """The ids of a text with marks. The text is cut at them, as transformers does; a mark without its partner,
        which a template separated, only cuts. Behind a special token's text, which is no token, the next piece is
        encoded as behind any other text."""
        ids: list[int] = []
        for number, piece in enumerate(self._marks.split(text)):
            if not piece:
                continue
            if number % 2:
                ids += self._plain_ids(piece)
                after = piece[-1]
            else:
                ids += self.encode(piece, after=after)
                after += piece
        return ids

    def _plain_ids(self, token: str) -> list[int]:
        """The ids of a special token's text as ordinary text."""
        pipeline = self._backend
        anchor = "\n"  # keeps SentencePiece tokenizers from prepending the space of a beginning

        def ids(text: str) -> list[int]:
            normal = pipeline.normalizer.normalize_str(text) if pipeline.normalizer else text
            splits = [normal]
            if pipeline.pre_tokenizer is not None:
                splits = [split for split, _ in pipeline.pre_tokenizer.pre_tokenize_str(normal)]
            return [found.id for split in splits for found in pipeline.model.tokenize(split)]

        dropped, found = self._ids(anchor), ids(anchor + token)
        found = found[len(dropped) :] if found[: len(dropped)] == dropped else ids(token)
        if self._backend.token_to_id(token) in found:
            raise InputError(
                f"a message holds the text of the token '{token}', which the tokenizer of {self.name} has no other "
                "tokens for; remove it from the message"
            )
        return found

    @functools.cached_property
    def _control(self) -> re.Pattern[str]:
        """Matches the texts of special tokens and of ends of turn, longest first, but not those of thinking tags."""
        texts = {*self._special_texts, *self.end_of_turn_texts}
        kept = sorted((text for text in texts if not _THINKING.search(text)), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, kept)) or "(?!)")

    @functools.cached_property
    def _marks(self) -> re.Pattern[str]:
        return re.compile(f"{MARK}({self._control.pattern}){END_MARK}|[{MARK}{END_MARK}]")

    def _ids(self, text: str, add_special_tokens: bool = False) -> list[int]:
        with _sentence(f"{self.name}: its tokenizer.json fails on a text of {len(text)} characters"):
            return self._backend.encode(text, add_special_tokens=add_special_tokens).ids

    @functools.cached_property
    def _right_stripping(self) -> tuple[str, ...]:
        """The texts of tokens that swallow white space behind them."""
        return tuple(token.content for token in self._backend.get_added_tokens_decoder().values() if token.rstrip)

    @functools.cached_property
    def _marks_beginning(self) -> bool:
        """Whether something, such as a space, is put in front of a text that begins with a letter."""
        text, backend = "a", self._backend
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        if backend.pre_tokenizer is not None:
            text = "".join(split for split, _ in backend.pre_tokenizer.pre_tokenize_str(text))
        return text != "a"

    @functools.cached_property
    def _special_texts(self) -> tuple[str, ...]:
        """The texts of special tokens, longest first, so that a token is preferred to one that it ends with."""
        added = self._backend.get_added_tokens_decoder().values()
        return tuple(sorted((token.content for token in added if token.special), key=len, reverse=True))


@contextlib.contextmanager
def _sentence(what: str) -> Iterator[None]:
    """Turn what the Rust library raises into an InputError: bare exceptions, and panics, which are BaseExceptions."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{what} ({reason[:200]}); use the tokenizer.json of the model's repository") from None


def _check_distinct(path: epath.Path, backend: tokenizers.Tokenizer) -> None:
    """Raise InputError for two tokens with one id: which of them the id means would change from load to load."""
    vocabulary = backend.get_vocab(with_added_tokens=True)
    if len(set(vocabulary.values())) == len(vocabulary):
        return
    seen: dict[int, str] = {}
    for text, number in sorted(vocabulary.items()):
        if number in seen:
            raise InputError(
                f"{path}: {seen[number]!r} and {text!r} both have the id {number}, expected one each; use the "
                "tokenizer.json of the model's repository"
            )
        seen[number] = text


def _flag(path: epath.Path, config: Mapping[str, object], name: str) -> bool:
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        raise InputError(f"{path / 'tokenizer_config.json'}: {name} is {value!r}; expected true or false")
    return bool(value)


def _chat_template(path: epath.Path, config: Mapping[str, object]) -> str:
    """The default chat template of the folder, in any of the places where versions of `transformers` write it."""
    standalone, older = path / "chat_template.jinja", path / "chat_template.json"
    template = files.read_text(standalone) if standalone.exists() else config.get("chat_template")
    if template is None and older.exists():
        found = files.read_json(older)
        template = found.get("chat_template") if isinstance(found, dict) else found
    if isinstance(template, list) and all(isinstance(entry, dict) for entry in template):
        template = {str(entry.get("name")): entry.get("template") for entry in template}
    if isinstance(template, dict):
        template = template.get("default")
    if template is not None and not isinstance(template, str):
        raise InputError(f"{path}: chat_template is {str(template)[:60]!r}; expected its text, or a list of named ones")
    if template is not None and not template.strip():
        raise InputError(f"{path}: the chat template is empty; use that of the instruct version of the model")
    if not isinstance(template, str):
        raise InputError(
            f"{path} has no chat template; expected chat_template.jinja or the key chat_template in "
            "tokenizer_config.json (base models have none: start from the instruct version, or choose one with "
            "`aloe import --template`)"
        )
    return template


def _end_of_turn(path: epath.Path, backend: tokenizers.Tokenizer, eos: str | None) -> dict[int, str]:
    """The declared eos tokens, and the known turn enders among the added tokens: id -> text, in the order of ids."""
    added = {token.content: number for number, token in backend.get_added_tokens_decoder().items()}
    found = {added[text]: text for text in TURN_ENDERS if text in added}
    if eos is not None and (token := backend.token_to_id(eos)) is not None:
        found[token] = eos
    for token in _eos_ids(path / "generation_config.json"):
        text = backend.id_to_token(token)
        if text is None:
            raise InputError(f"{path / 'generation_config.json'}: eos_token_id {token} is not in the vocabulary")
        found[token] = text
    if not found:
        raise InputError(f"{path} names no end-of-turn token; set eos_token in tokenizer_config.json")
    return dict(sorted(found.items()))


def _eos_ids(path: epath.Path) -> list[int]:
    """The eos ids of a generation_config.json, none if it is missing or names none."""
    config = files.read_object(path) if path.exists() else {}
    declared = config.get("eos_token_id")
    ids = declared if isinstance(declared, list) else [] if declared is None else [declared]
    if any(isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < 2**31 for token in ids):
        raise InputError(f"{path}: eos_token_id is {str(declared)[:60]}; expected an id or a list of ids")
    return ids

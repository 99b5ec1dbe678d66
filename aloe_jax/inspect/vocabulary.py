"""A tokenizer's vocabulary: its size beside the model's, tokens that their own text does not give back, and where each
special token is declared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from etils import epath

from aloe_jax import files
from aloe_jax.inspect.tokens import UNFINISHED
from aloe_jax.tree.tokenizer import Tokenizer

EXAMPLES = 12
_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json")
_IDS = ("generation_config.json", "config.json")


@dataclass(frozen=True)
class Stray:
    """A token whose text the tokenizer gives other ids."""

    id: int
    entry: str
    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class RoundTrip:
    """How many tokens their own text gives back, of all `tokens`.

    `partial` are parts of a character, which no text is alone; `strays` all others that text never becomes, such as
    words that a merge rule cuts elsewhere, of which `examples` are the first few.
    """

    tokens: int
    whole: int
    partial: int
    strays: int
    examples: tuple[Stray, ...]


@dataclass(frozen=True)
class SpecialToken:
    """A special token. `id` is None if its text is not one token; `declared` lists the files and keys that name it."""

    text: str
    id: int | None
    ends_turn: bool
    in_model: bool
    declared: tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """The ids of the tokenizer beside the rows of the model's embedding. `spare` rows belong to no token."""

    tokens: int
    embeddings: int
    round_trip: RoundTrip
    special: tuple[SpecialToken, ...]

    @property
    def spare(self) -> int:
        """Rows of the embedding beyond the tokenizer's ids; negative where the tokenizer has more ids."""
        return self.embeddings - self.tokens


def view_vocabulary(folder: epath.Path, tokenizer: Tokenizer, embeddings: int) -> Vocabulary:
    """The vocabulary of a model folder, every token of it tried."""
    return Vocabulary(
        tokenizer.vocab_size, embeddings, round_trip(tokenizer), special_tokens(folder, tokenizer, embeddings)
    )


def round_trip(tokenizer: Tokenizer) -> RoundTrip:
    """Decodes every token and encodes its text, both in the middle of a text: behind a line break."""
    before = "\n"
    context = tokenizer.encode(before)
    known = tokenizer.decode(context, skip_special=False)
    whole = partial = strays = tokens = 0
    examples: list[Stray] = []
    for token in range(tokenizer.vocab_size):
        entry = tokenizer.entry(token)
        if entry is None:  # vocabularies may have gaps
            continue
        tokens += 1
        decoded = tokenizer.decode([*context, token], skip_special=False)
        text = decoded[len(known) :] if decoded.startswith(known) else UNFINISHED
        ids = tokenizer.encode(text, after=before) if text else []
        if ids == [token]:
            whole += 1
        elif UNFINISHED in text or "\ufffd" in text:
            partial += 1
        else:
            strays += 1
            if len(examples) < EXAMPLES:
                examples.append(Stray(token, entry, text, tuple(ids)))
    return RoundTrip(tokens, whole, partial, strays, tuple(examples))


def special_tokens(folder: epath.Path, tokenizer: Tokenizer, embeddings: int) -> tuple[SpecialToken, ...]:
    """The special tokens of `tokenizer.json` and all that the other files of the folder name, by id."""
    known = tokenizer.special_tokens
    own = {entry["content"] for entry in files.read_json(folder / "tokenizer.json").get("added_tokens") or ()}
    declared: dict[str, list[str]] = {text: ["tokenizer.json"] if text in own else [] for text in known.values()}
    for text, where in _declared(folder, tokenizer):
        if where not in declared.setdefault(text, []):
            declared[text].append(where)
    ids = {text: token for token, text in known.items()}
    found = []
    for text, places in declared.items():
        encoded = [ids[text]] if text in ids else tokenizer.encode(text)
        token = encoded[0] if len(encoded) == 1 else None
        ends = token is not None and token in tokenizer.end_of_turn_ids
        found.append(SpecialToken(text, token, ends, token is not None and token < embeddings, tuple(places)))
    return tuple(sorted(found, key=lambda token: (token.id is None, token.id or 0)))


def _declared(folder: epath.Path, tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    """(text, "file: key") of every special token that a file names by its text or its id."""
    for name in _CONFIGS:
        for key, value in _object(folder / name).items():
            if key == "added_tokens_decoder" and isinstance(value, dict):
                entries = [entry for entry in value.values() if isinstance(entry, dict) and entry.get("special")]
                yield from ((text, f"{name}: {key}") for text in _texts(entries))
            elif key.endswith("_token") or key.endswith("special_tokens"):
                yield from ((text, f"{name}: {key}") for text in _texts(value))
    for name in _IDS:
        for key, value in _object(folder / name).items():
            if key.endswith("_token_id"):
                for token in value if isinstance(value, list) else [value]:
                    text = tokenizer.entry(token) if isinstance(token, int) and token >= 0 else None
                    if text is not None:
                        yield text, f"{name}: {key}"


def _texts(value: object) -> list[str]:
    """The texts of a declaration: a string, an object with the string as its content, or a list or object of those."""
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, dict) and "content" in value:
        return _texts(value["content"])
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in _texts(item)]


def _object(path: epath.Path) -> dict[str, object]:
    """The JSON object in a file; empty if there is none."""
    value: object = files.read_json(path) if path.exists() else {}
    return {str(key): inner for key, inner in value.items()} if isinstance(value, dict) else {}

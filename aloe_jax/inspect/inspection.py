"""What a model makes of the conversations of a file, or of messages in general."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.formats.convert import read_conversations
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.source import resolve_model
from aloe_jax.inspect.conversation import UNLIMITED, ConversationView, view_conversation
from aloe_jax.inspect.statistics import Statistics, StatisticsOf
from aloe_jax.inspect.traits import Form, Trait, forms, sample, traits
from aloe_jax.inspect.vocabulary import Vocabulary, view_vocabulary
from aloe_jax.models.config import ModelConfig
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.schema import Conversation
from aloe_jax.tree.template import ChatFormat, SystemHandling
from aloe_jax.tree.trie import build_trie

LIMIT = 3  # conversations that are shown by default
COUNTED = 500  # conversations of which all are counted without being asked
NAMED = 5  # ids that a message names at most
_OPTIONS = {"config.template.system": "--system", "config.dataset.max_path": "--max-path"}
_RUN_TREES = "conversations/trees.jsonl"


@dataclass(frozen=True)
class Template:
    """A model folder alone: traits of its template, the forms that it refuses, its vocabulary."""

    traits: tuple[Trait, ...]
    forms: tuple[Form, ...]
    vocabulary: Vocabulary


@dataclass(frozen=True)
class Inspection:
    """What is shown: conversations of a file under a model or, with `template`, a sample of our own.

    `total` is the number of conversations in the file `trees`; `turns` the number of turns to show, None for all.
    `statistics` are those of all conversations; they are `uncounted` where the file has many and nobody asked.
    """

    model: str
    family: str
    context: int
    trees: str
    total: int
    turns: int | None
    conversations: tuple[ConversationView, ...]
    template: Template | None = None
    statistics: Statistics | None = None
    uncounted: bool = False


def inspect_model(model: str, system: SystemHandling = "keep") -> Inspection:
    """The traits of a model folder's template and vocabulary, and a sample conversation. No weights are read.

    Raises InputError as `resolve_model` and `read_chat_model` do.
    """
    folder = resolve_model(model)
    config, chat = read_chat_model(folder, system=system)
    template = Template(tuple(traits(chat)), tuple(forms(chat)), view_vocabulary(folder, chat.tokenizer, config.vocab))
    shown: tuple[ConversationView, ...] = ()
    if not template.forms[0].refused:
        shown = (view_conversation(sample(chat), chat),)
    return Inspection(model, config.family, config.context, "", 0, None, shown, template)


def inspect_trees(
    model: str,
    trees: epath.PathLike,
    *,
    conversation: str | None = None,
    limit: int = LIMIT,
    turns: int | None = None,
    max_path: int | None = None,
    system: SystemHandling = "keep",
    statistics: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inspection:
    """What training makes of conversations of a file that `aloe convert` reads, or of a run directory's trees.

    Args:
        conversation: id of the one to show; by default the first `limit` of the file.
        turns: number of turns to show; all of them are computed.
        max_path: maximum tokens of a path, as `config.dataset.max_path`; by default the model's context.
        statistics: count all conversations even if there are more than COUNTED, or if one is named.
        progress: called with the conversations counted and those in all.

    Raises InputError for a broken file, an id that it does not have, a number below 1, and as `read_chat_model` and
    `build_trie` do.
    """
    for name, value in (("--turns", turns), ("--limit", limit), ("--max-path", max_path)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; expected at least 1")
    path = _trees_of(trees)
    found = list(read_conversations(path).trees)
    chosen = found[:limit] if conversation is None else [_named(found, conversation, path)]
    config, chat = read_chat_model(resolve_model(model), system=system)
    if max_path is not None and max_path > config.context:
        raise InputError(f"--max-path is {max_path}, beyond the model's context of {config.context} tokens; lower it")
    longest = max_path or config.context
    views = tuple(_view(tree, config, chat, longest) for tree in chosen)
    asked = statistics or (conversation is None and len(found) <= COUNTED)
    counted = _statistics(found, chat, longest, progress) if asked else None
    uncounted = conversation is None and counted is None
    return Inspection(
        model, config.family, config.context, str(path), len(found), turns, views, None, counted, uncounted
    )


def _statistics(
    trees: Sequence[Conversation], chat: ChatFormat, longest: int, progress: Callable[[int, int], None]
) -> Statistics:
    found = StatisticsOf(longest)
    for done, tree in enumerate(trees, start=1):
        try:
            trie = build_trie(tree, chat, longest)
        except InputError as error:
            raise InputError(_as_options(str(error))) from None
        found.add(tree, trie, fragments(tree, trie, UNLIMITED, 0))
        progress(done, len(trees))
    return found.read()


def _view(tree: Conversation, config: ModelConfig, chat: ChatFormat, longest: int) -> ConversationView:
    try:
        view = view_conversation(tree, chat, longest)
    except InputError as error:
        raise InputError(_as_options(str(error))) from None
    ids = (token.id for piece in view.pieces for token in piece.tokens)
    chat.tokenizer.check_ids(ids, config.vocab, f"conversation '{tree.id}'")
    return view


def _as_options(sentence: str) -> str:
    """A sentence whose remedy is a setting of a run, with the option of this command in its place."""
    for setting, option in _OPTIONS.items():
        sentence = sentence.replace(setting, option)
    return sentence


def _trees_of(path: epath.PathLike) -> epath.Path:
    """The file itself, or the trees of a run directory."""
    found = files.existing(path, "file of conversations")
    if not found.is_dir():
        return found
    if not (found / _RUN_TREES).exists():
        raise InputError(f"folder '{path}' has no {_RUN_TREES}; expected a file of conversations or a run directory")
    return found / _RUN_TREES


def _named(trees: Sequence[Conversation], name: str, path: epath.Path) -> Conversation:
    for tree in trees:
        if tree.id == name:
            return tree
    known = ", ".join(f"'{tree.id}'" for tree in trees[:NAMED])
    more = f" and {len(trees) - NAMED} more" if len(trees) > NAMED else ""
    raise InputError(f"--conversation is '{name}', which {path} does not have; it has {known}{more}")

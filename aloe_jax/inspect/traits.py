"""What a chat template does with system messages, thinking, dates and unusual orders of messages, found by rendering
small conversations with it as training does."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

from aloe_jax.errors import InputError
from aloe_jax.inspect.conversation import view_conversation
from aloe_jax.tree.schema import Conversation, Message, Node, Preference, Role
from aloe_jax.tree.template import ChatFormat
from aloe_jax.tree.trie import build_trie

PROBE = "probe"  # id of the conversations that are tried
SYSTEM, QUESTION, ANSWER, NEXT, LAST = (
    "Answer like a sailor.",
    "Where is the old harbour?",
    "Behind the mill.",
    "And the lighthouse?",
    "On the far rock.",
)
THOUGHT = "It is near the mill."
THINKING = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"
OTHER_DATE = "03 Feb 2001"
_WHERE = re.compile(rf"^conversation '{PROBE}' node '\w+': ")
# Orders of messages: s(ystem), u(ser), a(ssistant).
_ROLES: dict[str, Role] = {"s": "system", "u": "user", "a": "assistant"}
_FORMS = {
    "a user message and a reply": "ua",
    "a system message first": "sua",
    "two turns": "uaua",
    "a system message and no user message": "sa",
    "a reply first": "aua",
    "two user messages in a row": "uua",
    "two replies in a row": "uaa",
}


@dataclass(frozen=True)
class Trait:
    """A finding about a template; `shown` is the text that the template writes, where there is one to show."""

    name: str
    finding: str
    shown: str = ""


@dataclass(frozen=True)
class Form:
    """An order of messages; `refused` is the sentence that refuses it and `lost` the texts that it drops, both empty
    where it is taken as it is."""

    name: str
    refused: str = ""
    lost: tuple[str, ...] = ()


def traits(chat: ChatFormat) -> list[Trait]:
    """The findings about a chat format, in the order of a reader's interest."""
    return [
        _system(chat),
        _opening(chat),
        _generation_prompt(chat),
        _reply(chat),
        Trait(
            "end of turn",
            ", ".join(f"{text} (id {token})" for token, text in _enders(chat)) + "; decoding stops at each of them",
        ),
        _begin(chat),
        _thinking(chat),
        _history(chat),
        _space(chat),
        _date(chat),
    ]


def forms(chat: ChatFormat) -> list[Form]:
    """Which orders of messages, and which empty ones, the template refuses or drops texts of."""
    texts = (SYSTEM, QUESTION, ANSWER, NEXT, LAST)
    found = []
    for name, letters in _FORMS.items():
        given = [Message(role=_ROLES[letter], content=text) for letter, text in zip(letters, texts, strict=False)]
        found.append(_form(chat, name, given))
    found.append(_form(chat, "an empty user message", messages(("user", ""), ("assistant", ANSWER))))
    found.append(_form(chat, "an empty reply", messages(("user", QUESTION), ("assistant", ""))))
    return found


def messages(*given: tuple[Role, str]) -> list[Message]:
    """Messages from (role, text) pairs."""
    return [Message(role=role, content=text) for role, text in given]


def chain(given: Sequence[Message]) -> Conversation:
    """A conversation without branches."""
    nodes = [
        Node(id=str(number), parent=str(number - 1) if number else None, role=message.role, text=message.content)
        for number, message in enumerate(given)
    ]
    return Conversation(id=PROBE, nodes=tuple(nodes))


def sample(chat: ChatFormat) -> Conversation:
    """A conversation of two turns with two replies each, to show a template by; with a system message where the
    template takes one."""
    rows: list[tuple[str, str | None, Role, str]] = [("system", None, "system", SYSTEM)]
    if refusal(chat, messages(("system", SYSTEM), ("user", QUESTION), ("assistant", ANSWER))):
        rows = []
    rows += [
        ("user1", "system" if rows else None, "user", QUESTION),
        ("good1", "user1", "assistant", ANSWER),
        ("poor1", "user1", "assistant", "I cannot say."),
        ("user2", "good1", "user", NEXT),
        ("good2", "user2", "assistant", LAST),
        ("poor2", "user2", "assistant", "It is a lighthouse."),
    ]
    return Conversation(
        id="sample",
        nodes=tuple(Node(id=name, parent=parent, role=role, text=text) for name, parent, role, text in rows),
        preferences=tuple(Preference(chosen=f"good{turn}", rejected=f"poor{turn}") for turn in (1, 2)),
    )


def refusal(chat: ChatFormat, given: Sequence[Message]) -> str:
    """The sentence with which the trie refuses a chain of messages, empty if it takes them."""
    try:
        build_trie(chain(given), chat)
    except InputError as error:
        return _sentence(chat, error)
    return ""


def _sentence(chat: ChatFormat, error: InputError) -> str:
    """The sentence of a refusal without the probe and the folder, which decide nothing of it."""
    said = _WHERE.sub("", str(error)).replace(chat.template.name, "the template")
    return said.replace(f"the tokenizer of {chat.tokenizer.name}", "the tokenizer")


def _form(chat: ChatFormat, name: str, given: Sequence[Message]) -> Form:
    if refused := refusal(chat, given):
        return Form(name, refused)
    rendered = chat.template.render(given, add_generation_prompt=False)
    return Form(name, lost=tuple(message.content for message in given if message.content not in rendered))


def _system(chat: ChatFormat) -> Trait:
    name = "system message"
    first = messages(("system", SYSTEM), ("user", QUESTION))
    later = [*first, *messages(("assistant", ANSWER), ("user", NEXT))]
    if refused := refusal(chat, [*later, *messages(("assistant", LAST))]):
        return Trait(name, f"refused: {refused}")
    once, twice = (chat.template.render(given, add_generation_prompt=True) for given in (first, later))
    if twice.find(SYSTEM) > twice.find(QUESTION):
        return Trait(name, "moves to a later message as the conversation grows, which rewrites the history", twice)
    if chat.template.system == "fold_into_first_user":
        return Trait(name, "put in front of the first user message (system=fold_into_first_user)", once)
    return Trait(name, "taken", once)


def _opening(chat: ChatFormat) -> Trait:
    """What stands before the first user message's text if there is no system message."""
    name, given = "without a system message", messages(("user", QUESTION))
    if refused := refusal(chat, [*given, *messages(("assistant", ANSWER))]):
        return Trait(name, f"refused: {refused}")
    rendered = chat.template.render(given, add_generation_prompt=False)
    return Trait(name, "the text before the first user message is", rendered.partition(QUESTION)[0])


def _generation_prompt(chat: ChatFormat) -> Trait:
    name, given = "generation prompt", messages(("user", QUESTION))
    try:
        bare, prompt = (chat.template.render(given, add_generation_prompt=wanted) for wanted in (False, True))
    except InputError as error:
        return Trait(name, f"refused: {_sentence(chat, error)}")
    if prompt == bare:
        return Trait(name, "none: a reply begins right behind the user message")
    if not prompt.startswith(bare):
        return Trait(name, "changes the text before it; the whole prompt is", prompt)
    return Trait(name, "the text before each reply is", prompt[len(bare) :])


def _reply(chat: ChatFormat) -> Trait:
    """What is trained on, the template's additions to the reply's text included, and what it writes behind it."""
    name, given = "reply", messages(("user", QUESTION), ("assistant", ANSWER))
    if refused := refusal(chat, given):
        return Trait(name, f"refused: {refused}")
    piece = next(piece for piece in view_conversation(chain(given), chat).pieces if piece.replies)
    rendered = chat.template.render(given, add_generation_prompt=False)
    behind = rendered[rendered.rfind(piece.text) + len(piece.text) :] if piece.text in rendered else ""
    more = f" ({behind!r}, which the template writes behind it, is no part of it)" if behind else ""
    return Trait(name, f"the trained text of '{ANSWER}'{more} is", piece.text)


def _enders(chat: ChatFormat) -> list[tuple[int, str]]:
    return list(zip(sorted(chat.tokenizer.end_of_turn_ids), chat.tokenizer.end_of_turn_texts, strict=True))


def _begin(chat: ChatFormat) -> Trait:
    name, bos = "begin of sequence", chat.template.bos
    if bos is None:
        return Trait(name, "the tokenizer declares no bos_token, and none is added")
    try:
        ids = chat.prompt_ids(messages(("user", QUESTION)))
    except InputError as error:
        return Trait(name, f"refused: {_sentence(chat, error)}")
    known = chat.tokenizer.encode(bos)
    if ids[: len(known)] != known:
        return Trait(name, f"{bos} is declared; the template does not begin with it, and none is added")
    twice = ids[len(known) : 2 * len(known)] == known
    more = " and then repeats it" if twice else ""
    return Trait(name, f"the template begins with {bos} (id {', '.join(map(str, known))}){more}; nothing else is added")


def _thinking(chat: ChatFormat) -> Trait:
    """What becomes of a reply with a `<think>` block as the last message and in history."""
    name = "thinking"
    last = messages(("user", QUESTION), ("assistant", THINKING))
    later = [*last, *messages(("user", NEXT), ("assistant", LAST))]
    if refused := refusal(chat, last):
        return Trait(name, f"a reply that begins with <think> is refused: {refused}")
    kept = THOUGHT in chat.template.render(last, add_generation_prompt=False)
    finding = f"a reply's <think> block is {'kept' if kept else 'dropped'} in the last message"
    if refused := refusal(chat, later):
        return Trait(name, f"{finding}; with such a reply in history, the next one is refused: {refused}")
    rendered = chat.template.render(later[:-1], add_generation_prompt=True)
    remembered = THOUGHT in rendered
    cost = (
        "" if remembered or not kept else ": the next turn is a branch of its own, with weight 0 for the reply's copy"
    )
    return Trait(name, f"{finding} and {'kept' if remembered else 'dropped'} in history{cost}", rendered)


def _history(chat: ChatFormat) -> Trait:
    """Whether a plain reply keeps its tokens when the conversation goes on, so that turns share them."""
    name = "history"
    given = messages(("user", QUESTION), ("assistant", ANSWER), ("user", NEXT), ("assistant", LAST))
    if refused := refusal(chat, given):
        return Trait(name, f"two turns are refused: {refused}")
    view = view_conversation(chain(given), chat)
    if not any(piece.rewrites for piece in view.pieces):
        return Trait(name, "kept: a reply has the same tokens in later turns, so all turns share them")
    branch = next(piece for piece in view.pieces if piece.rewrites)
    return Trait(name, "rewritten: in later turns the reply is other tokens, which are computed again", branch.text)


def _space(chat: ChatFormat) -> Trait:
    name, given = "white space around texts", messages(("user", f" {QUESTION} "), ("assistant", f" {ANSWER} "))
    if refused := refusal(chat, given):
        return Trait(name, f"refused: {refused}")
    rendered = chat.template.render(given, add_generation_prompt=False)
    user, reply = (f" {text} " in rendered for text in (QUESTION, ANSWER))
    words = {True: "kept", False: "trimmed"}
    return Trait(name, f"{words[user]} in user messages, {words[reply]} in replies")


def _date(chat: ChatFormat) -> Trait:
    """Whether a rendered text depends on the date, with and without a system message."""
    name, date = "date", chat.template.date
    other = dataclasses.replace(chat.template, date=OTHER_DATE if date != OTHER_DATE else "04 Mar 2002")
    user = messages(("user", QUESTION))
    for given in (user, [*messages(("system", SYSTEM)), *user]):
        try:
            rendered = [template.render(given, add_generation_prompt=True) for template in (chat.template, other)]
        except InputError:
            continue
        if rendered[0] != rendered[1]:
            return Trait(name, f"written into the prompt; config.template.date fixes it to '{date}'", rendered[0])
    return Trait(name, "not used")

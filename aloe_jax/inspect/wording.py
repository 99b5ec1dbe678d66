"""The sentences of an inspection, which the text and the page have in common."""

from __future__ import annotations

from collections.abc import Iterator

from aloe_jax.inspect.amounts import counted
from aloe_jax.inspect.conversation import ConversationView, PieceView, ReplyView, Token
from aloe_jax.inspect.inspection import Inspection
from aloe_jax.inspect.tokens import UNFINISHED, visible
from aloe_jax.inspect.traits import Form
from aloe_jax.inspect.vocabulary import RoundTrip, SpecialToken, Stray, Vocabulary

LEGEND = f"⏎ is a line break, {UNFINISHED} a token that ends inside a character."
KINDS = {
    "prompt": "a prompt: computed, never a target",
    "trained": "a reply with a weight in supervised fine-tuning",
    "target": "a reply with weight 0 there: a target in preference training, or none where it is in no pair",
}


def title(inspection: Inspection) -> str:
    """The first line: the model, and the file."""
    model = f"{inspection.model} ({inspection.family}, context {inspection.context:,} tokens)"
    if not inspection.trees:
        return f"{model}: template and vocabulary"
    return f"{inspection.trees}, {counted(inspection.total, 'conversation')}, under {model}"


def more(count: int) -> str:
    """How to see the conversations that are not shown."""
    return f"{counted(count, 'more conversation')} in the file; --conversation=ID shows one, --limit=N the first N."


def uncounted(total: int) -> str:
    """How to see the statistics where they were not computed."""
    return f"Statistics of all {total:,} conversations: add --statistics."


def summary(view: ConversationView, turns: int | None) -> Iterator[str]:
    """The figures of a conversation."""
    if not view.replies:
        yield "It has no reply, so nothing of it is computed or trained on."
        return
    replies = counted(len(view.replies), "reply")
    yield (
        f"{counted(view.turns, 'turn')}, {replies}, {counted(len(view.pairs), 'pair')}; "
        f"{counted(view.tree_tokens, 'token')}, {view.trained_tokens:,} of them trained on in SFT"
    )
    yield (
        f"sharing factor {view.sharing:.2f}: one sequence per reply would take {view.path_tokens:,} tokens; "
        + (f"takes {counted(view.rows, 'row')} of the default size" if view.rows else f"too large: {view.too_large}")
    )
    if view.turns_cut:
        yield f"{counted(view.turns_cut, 'turn')} cut from the left, summed over the replies"
    rewritten = {node for piece in view.pieces for node in piece.rewrites}
    if rewritten:
        yield f"the template rewrites history: {counted(len(rewritten), 'reply')} in other tokens there"
    if turns is not None and turns < view.turns:
        yield f"{'turn 1' if turns == 1 else f'turns 1 to {turns}'} of {view.turns} shown"


def reply(reply: ReplyView, piece: PieceView) -> str:
    """The heading of a reply."""
    verdict = "" if reply.verdict == "none" else f", {wording_of_verdict(reply)}"
    ids = {"text": "", "stored": ", as sampled", "other tokenizer": ", stored ids of another tokenizer not used"}
    flags = f", flags {visible(', '.join(reply.flags))}" if reply.flags else ""
    turn = f"turn {reply.turn}" if reply.turn else "no turn"
    return (
        f"reply {visible(reply.node)}, {turn}{verdict}, weight {reply.weight:g}, "
        f"{counted(reply.tokens, 'token')}, {piece.span}{ids[reply.ids]}{flags}"
    )


def wording_of_verdict(reply: ReplyView) -> str:
    """Its side in the pairs."""
    return "chosen and rejected" if reply.verdict == "both" else reply.verdict


def notes(piece: PieceView) -> Iterator[str]:
    """Why a piece is a branch of its own."""
    if piece.turns_cut:
        yield f"{counted(piece.turns_cut, 'turn')} cut from the left: what follows begins later ({piece.span})"
    if piece.rewrites:
        names = visible(", ".join(piece.rewrites))
        yield f"history rewritten: the template renders {names} in other tokens here; weight 0 ({piece.span})"


def reply_table(view: ConversationView, turns: int | None) -> Iterator[str]:
    """A line per reply with its length and its path's, as columns."""
    shown = [reply for reply in view.replies if turns is None or 0 < reply.turn <= turns]
    if not shown:
        return
    width = max(len("reply"), *(len(visible(reply.node)) for reply in shown))
    yield f"{'reply':<{width}}  turn  tokens  on its path  turns cut  weight  in pairs"
    for item in shown:
        verdict = "" if item.verdict == "none" else wording_of_verdict(item)
        yield (
            f"{visible(item.node):<{width}}  {item.turn or '-':>4}  {item.tokens:>6}  {item.path_tokens:>11}  "
            f"{item.turns_cut:>9}  {item.weight:>6g}  {verdict}"
        ).rstrip()


def form(form: Form) -> str:
    """The verdict on a form of messages."""
    if form.refused:
        return f"refused: {form.refused}"
    if form.lost:
        return "taken, but not rendered: " + ", ".join(f"'{text}'" for text in form.lost)
    return "taken"


def sizes(vocabulary: Vocabulary) -> str:
    """The tokenizer's ids beside the embedding's rows."""
    found = f"{counted(vocabulary.tokens, 'token')}, {vocabulary.embeddings:,} rows in the model's embedding"
    if vocabulary.spare > 0:
        return f"{found} ({vocabulary.spare:,} of them belong to no token)"
    return f"{found} ({-vocabulary.spare:,} ids have no row)" if vocabulary.spare else found


def round_trip(found: RoundTrip) -> Iterator[str]:
    """How many tokens are found again from their own text."""
    yield f"{found.whole:,} of {counted(found.tokens, 'token')} are what their own text becomes"
    if found.partial:
        yield f"{found.partial:,} are parts of a character, which no text is alone"
    if found.strays:
        shown = "" if found.strays == len(found.examples) else f"; the first {len(found.examples)}"
        yield f"{found.strays:,} have a text that becomes other tokens{shown}:"


def stray(stray: Stray) -> str:
    """A token that its text does not give back."""
    text = visible(stray.text).replace("⏎\n", "⏎")
    becomes = ", ".join(map(str, stray.ids)) or "nothing"
    return f"id {stray.id} {visible(stray.entry)}: its text '{text}' becomes {becomes}"


def special(token: SpecialToken) -> str:
    """A special token with its id and what is remarkable about it."""
    where = "not one token" if token.id is None else f"id {token.id}"
    remarks = [where, *(["ends a turn"] if token.ends_turn else [])]
    if token.id is not None and not token.in_model:
        remarks.append("beyond the model's embedding")
    return f"{visible(token.text)} ({', '.join(remarks)})"


def kind(piece: PieceView) -> str:
    """Which of `KINDS` a piece is."""
    return "prompt" if not piece.replies else "trained" if piece.trained else "target"


def kind_of_token(token: Token, piece: str) -> str:
    """Which of `KINDS` a token of a piece of the kind `piece` is."""
    return piece if token.weight is None else "trained" if token.weight else "target"


def shown(token: Token) -> str:
    """The text of a token as it is displayed, never empty."""
    return visible(token.text) or UNFINISHED

"""An inspection as text for a terminal: colours where there are any, marks between tokens where there are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from aloe_jax.inspect import wording
from aloe_jax.inspect.conversation import ConversationView, PieceView, ReplyView, Token
from aloe_jax.inspect.inspection import Inspection, Template
from aloe_jax.inspect.layout import Chain, Fork, layout, runs
from aloe_jax.inspect.statistics import Statistics
from aloe_jax.inspect.statistics_wording import sentences, table
from aloe_jax.inspect.tokens import visible

MARK = "·"  # between tokens, where there are no colours
# Two styles in turn for each kind of token, by name of a terminal's colour system.
_SIXTEEN = {
    "prompt": ("white on black", "bright_white on bright_black"),
    "trained": ("black on green", "black on bright_green"),
    "target": ("black on yellow", "black on bright_yellow"),
}
_MANY = {
    "prompt": ("#e4e6ea on #30353c", "#e4e6ea on #454c56"),
    "trained": ("#10301c on #8fd19e", "#10301c on #c2e8ca"),
    "target": ("#40200f on #e8b4a0", "#40200f on #f3d5c8"),
}
_BARS = {"prompt": "▏ ", "trained": "█ ", "target": "░ "}
_GUTTER = 6  # columns with the position of the first token of a line
_VERDICTS = {"chosen": "green", "rejected": "red", "both": "yellow", "none": ""}


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Print an inspection; lines are folded to the width of a terminal and left whole elsewhere."""
    printer = _Printer(console)
    printer.line(Text(wording.title(inspection), style="bold"))
    if inspection.template is not None:
        _template(printer, inspection.template)
    if inspection.statistics is not None:
        _statistics(printer, inspection.statistics)
    elif inspection.uncounted:
        printer.line(Text(wording.uncounted(inspection.total)))
    printer.line()
    printer.line(Text(wording.LEGEND + ("" if printer.colours else f" {MARK} stands between tokens.")))
    for line in _legend(printer):
        printer.line(line)
    for view in inspection.conversations:
        printer.line()
        _conversation(printer, view, inspection.turns)
    if (more := inspection.total - len(inspection.conversations)) > 0 and inspection.trees:
        printer.line()
        printer.line(Text(wording.more(more)))


class _Printer:
    """Prints lines with an indent, which folded lines repeat."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.colours = console.is_terminal and not console.no_color and console.color_system is not None
        self._styles = _SIXTEEN if console.color_system == "standard" else _MANY

    def style(self, kind: str, number: int) -> str:
        """The style of the token `number` of a kind; empty without colours."""
        return self._styles[kind][number % 2] if self.colours else ""

    def line(self, text: Text | None = None, indent: str = "", first: str | None = None) -> None:
        """Print lines behind `indent`, the first one behind `first`."""
        for part in text.split("\n", allow_blank=True) if text else [Text()]:
            width = max(20, self._console.width - len(indent))
            # Only what is too long is wrapped, as that drops white space at the ends of lines.
            folded = self._console.is_terminal and part.cell_len > width
            for row in part.wrap(self._console, width, overflow="fold") if folded else [part]:
                self._console.print(Text(indent if first is None else first) + row, soft_wrap=True)
                first = None


def _legend(printer: _Printer) -> Iterator[Text]:
    for kind, meaning in wording.KINDS.items():
        yield Text.assemble("  ", _BARS[kind], (meaning, printer.style(kind, 0)))


def _template(printer: _Printer, template: Template) -> None:
    for trait in template.traits:
        printer.line()
        printer.line(Text.assemble((trait.name, "bold"), ": ", trait.finding))
        if trait.shown:
            printer.line(Text(visible(trait.shown).removesuffix("\n"), style="cyan"), "    ")
    printer.line()
    printer.line(Text("messages", style="bold"))
    for form in template.forms:
        style = "red" if form.refused else "yellow" if form.lost else ""
        printer.line(Text.assemble("  ", f"{form.name}: ", (wording.form(form), style)))
    vocabulary = template.vocabulary
    printer.line()
    printer.line(Text.assemble(("vocabulary", "bold"), ": ", wording.sizes(vocabulary)))
    for sentence in wording.round_trip(vocabulary.round_trip):
        printer.line(Text(sentence), "  ")
    for stray in vocabulary.round_trip.examples:
        printer.line(Text(wording.stray(stray)), "    ")
    printer.line()
    printer.line(Text("special tokens", style="bold"))
    for token in vocabulary.special:
        style = "magenta" if token.ends_turn else ""
        printer.line(Text.assemble("  ", (wording.special(token), style), ("  " + ", ".join(token.declared), "dim")))


def _statistics(printer: _Printer, found: Statistics) -> None:
    for sentence in sentences(found):
        printer.line(Text(sentence))
    printer.line()
    for row in table(found.distributions):
        printer.line(Text(row))


def _conversation(printer: _Printer, view: ConversationView, turns: int | None) -> None:
    printer.line(Text(f"conversation {visible(view.id)}", style="bold underline"))
    for sentence in wording.summary(view, turns):
        printer.line(Text(sentence))
    replies = {reply.node: reply for reply in view.replies}
    _chain(printer, layout(view, turns), replies, "")
    printer.line()
    for row in wording.reply_table(view, turns):
        printer.line(Text(row))


def _chain(printer: _Printer, chain: Chain, replies: dict[str, ReplyView], indent: str) -> None:
    for item in runs(chain):
        if not isinstance(item, Fork):
            _run(printer, item, replies, indent)
            continue
        printer.line(Text(item.title, style="bold blue"), indent)
        for number, branch in enumerate(item.branches, start=1):
            corner = "├ " if number < len(item.branches) or item.continues else "└ "
            _chain(printer, branch, replies, indent + corner)
        if item.continues:
            printer.line(Text(f"↓ after {visible(item.continues)}", style="bold blue"), indent)


def _run(printer: _Printer, pieces: Sequence[PieceView], replies: dict[str, ReplyView], indent: str) -> None:
    """Print pieces one after the other as one text."""
    for note in wording.notes(pieces[0]):
        printer.line(Text(note, style="yellow"), indent)
    for node in pieces[0].replies:
        reply = replies[node]
        printer.line(Text(wording.reply(reply, pieces[0]), style=f"bold {_VERDICTS[reply.verdict]}".strip()), indent)
    kind = wording.kind(pieces[0])
    for position, line in _lines(printer, [token for piece in pieces for token in piece.tokens], kind):
        bar = indent + " " * _GUTTER + _BARS[kind]
        printer.line(line, bar, f"{indent}{position:>{_GUTTER - 1}} {_BARS[kind]}")


def _lines(printer: _Printer, tokens: Sequence[Token], kind: str) -> Iterator[tuple[int, Text]]:
    """The lines of the tokens' text, each with the position of the first token that begins in it or lasts into it."""
    line, start = Text(), tokens[0].position
    for number, token in enumerate(tokens):
        if not line:
            start = token.position
        elif not printer.colours:
            line.append(MARK)
        style = printer.style(wording.kind_of_token(token, kind), number)
        if printer.colours and token.special:
            style += " bold underline"
        first, *others = wording.shown(token).split("\n")
        line.append(first, style)
        for other in others:
            yield start, line
            line, start = Text(other, style), token.position
    if line:
        yield start, line

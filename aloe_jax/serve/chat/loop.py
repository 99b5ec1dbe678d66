"""The loop of `aloe chat`: messages, commands and replies, on a terminal or between pipes."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TextIO

from aloe_jax.errors import AloeError, InputError
from aloe_jax.serve.chat.belief import Beliefs
from aloe_jax.serve.chat.lines import Lines
from aloe_jax.serve.chat.speaker import Piece, Speaker
from aloe_jax.serve.chat.talk import Talk
from aloe_jax.serve.trees_file import TreesFile

# What a terminal would obey. Text of a model is shown, and steers nothing.
_CONTROL = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


class Chat:
    """A session: the conversations held in it, of which the last one is going on."""

    def __init__(
        self,
        speaker: Speaker,
        lines: Lines,
        sink: TextIO,
        system: str | None = None,
        beliefs: Beliefs | None = None,
    ) -> None:
        self._speaker, self._lines, self._sink = speaker, lines, sink
        self._beliefs = beliefs or Beliefs(speaker)
        self._talks = [self._beliefs.begin(system)]
        self._system = system
        self._over = False

    @property
    def _talk(self) -> Talk:
        return self._talks[-1]

    def run(self) -> None:
        """Read messages and commands until /quit or the end.

        On a terminal an error (the context is full, the file cannot be written) is shown and the session goes on;
        elsewhere it is raised, as is an unknown command. Text and replies alone are written to a pipe. At the end the
        memory, if there is one, takes in what was learned.
        """
        self._note(f"talking with {self._speaker.name}; /help lists the commands, Ctrl-D ends")
        try:
            with contextlib.suppress(EOFError):  # SIGTERM
                while not self._over and (line := self._lines.next()) is not None:
                    self._tried(partial(self._take, line))
        except AloeError:
            with contextlib.suppress(AloeError):  # the first one is told
                self._remember()
            raise
        self._tried(self._remember)

    def _tried(self, work: Callable[[], None]) -> None:
        """Do some work; an error is told on a terminal and raised elsewhere."""
        try:
            work()
        except AloeError as error:
            if not self._lines.interactive:
                raise
            self._note(str(error))

    def _remember(self) -> None:
        """Let the memory take in what was learned in this conversation."""
        if self._beliefs.due(self._talk):
            self._note("asking what it has learned, for the memory; Ctrl-C leaves that out")
            with self._stoppable("stopped; the memory has what /belief has shown"):
                self._beliefs.ask(self._talk)

    @contextlib.contextmanager
    def _stoppable(self, note: str) -> Iterator[None]:
        """Let Ctrl-C on a terminal, or the end signal, end the block alone."""
        try:
            yield
        except KeyboardInterrupt:
            if not self._lines.interactive:
                raise
            self._note(note)
        except EOFError:  # SIGTERM
            self._over = True

    def _take(self, line: str) -> None:
        if line.startswith("/") and not line.startswith("//"):
            name, _, argument = line.partition(" ")
            if name not in COMMANDS:
                raise InputError(_unknown(name))
            COMMANDS[name].run(self, argument.strip())
        elif line:
            self._talk.say(line.removeprefix("/") if line.startswith("//") else line)
            self._reply()

    def _reply(self) -> None:
        """Sample a reply to the last message and write it as it comes. What came before Ctrl-C or a lost connection is
        kept; where nothing came, the message is forgotten unless it has other replies."""
        pieces: list[Piece] = []
        failure: AloeError | None = None
        stopped = False
        try:
            with contextlib.closing(self._speaker.pieces(self._talk.messages, self._talk.siblings)) as coming:
                for piece in coming:
                    pieces.append(piece)
                    self._write(piece.text)
        except AloeError as error:
            failure = error
        except KeyboardInterrupt:
            if not self._lines.interactive:
                raise
            stopped = True
        except EOFError:  # SIGTERM
            self._over = True
        if pieces:
            self._write("\n")
            self._talk.answer(_joined(pieces), self._speaker.name)
        else:
            self._talk.give_up()
        if failure is not None:
            raise failure
        if stopped:
            self._note("stopped; what came is kept" if pieces else "stopped; nothing came")
        elif pieces and pieces[-1].finish_reason == "length":
            self._note("cut at the maximum of tokens")

    def _write(self, text: str) -> None:
        self._sink.write(text.translate(_CONTROL) if self._lines.interactive else text)
        self._sink.flush()

    def _note(self, text: str) -> None:
        """Tell a person something that is no reply."""
        if self._lines.interactive:
            self._write(f"({text})\n")

    def help(self, argument: str) -> None:
        """Show the commands."""
        for name, command in COMMANDS.items():
            self._write(f"{f'{name} {command.argument}':<18}{command.help}\n")
        self._write("//text            send a message that begins with a slash\n")

    def undo(self, argument: str) -> None:
        """Forget the last message and its replies."""
        self._note("forgotten" if self._talk.undo() else "there is no message to forget")

    def retry(self, argument: str) -> None:
        """Sample another reply."""
        if not self._talk.retry():
            raise InputError("there is no message to reply to; write one")
        self._reply()

    def branch(self, argument: str) -> None:
        """Go back to a turn, or list the turns."""
        turns = self._talk.turns
        if not argument:
            for number, node in enumerate(turns, 1):
                self._write(f"{number}  {node.text}\n")
            return
        if not (argument.isascii() and argument.isdigit() and 1 <= int(argument) <= len(turns)):
            raise InputError(f"/branch {argument}: there are {len(turns)} turns; give the number of one")
        self._talk.branch(int(argument))
        self._note(f"the next message takes the place of turn {argument}")

    def belief(self, argument: str) -> None:
        """Show what the model has learned about the user."""
        with self._stoppable("stopped"):
            found = self._beliefs.ask(self._talk)
            for number, each in enumerate(found, 1):
                self._write(f"{number}  {each}\n")
            if not found:
                self._note("it has learned nothing yet")

    def forget(self, argument: str) -> None:
        """Strike out what the model has learned, and say so in the conversation once that has begun."""
        said = self._beliefs.strike(argument, self._talk)
        if self._talk.turns:
            self._note(f"you say: {said}")
            self._talk.say(said)
            self._reply()
        else:
            self._note("forgotten")

    def system(self, argument: str) -> None:
        """Show the system message, or start over with another one."""
        if argument:
            self._system = argument
            self._start()
        else:
            self._write((self._system or "no system message") + "\n")

    def reset(self, argument: str) -> None:
        """Start over."""
        self._start()

    def save(self, argument: str) -> None:
        """Add the session's conversations to a file."""
        if not argument:
            raise InputError("/save lacks a file; write /save trees.jsonl")
        records = [record for talk in self._talks if (record := talk.record()) is not None]
        if not records:
            raise InputError("there is no reply to save yet")
        file = TreesFile(os.path.expanduser(argument))
        for record in records:
            file.add(record)
        self._note(f"{argument} has {len(file)} conversations")

    def quit(self, argument: str) -> None:
        """Leave."""
        self._over = True

    def _start(self) -> None:
        self._tried(self._remember)
        self._talks = [talk for talk in self._talks if talk.record() is not None]
        self._talks.append(self._beliefs.begin(self._system))
        self._note("a new conversation")


class _Command(NamedTuple):
    argument: str
    help: str
    run: Callable[[Chat, str], None]


COMMANDS = {
    "/help": _Command("", "show this list", Chat.help),
    "/undo": _Command("", "forget the last message and its replies", Chat.undo),
    "/retry": _Command("", "sample another reply; the conversation goes on from it", Chat.retry),
    "/branch": _Command("[N]", "go back to turn N and continue as a sibling; without N, list the turns", Chat.branch),
    "/belief": _Command(
        "", "show what the model has learned about you, which it is asked beside the conversation", Chat.belief
    ),
    "/forget": _Command("N", "strike out line N of /belief, and tell the model", Chat.forget),
    "/system": _Command("[TEXT]", "start over with this system message; without TEXT, show it", Chat.system),
    "/reset": _Command("", "start over; the system message stays", Chat.reset),
    "/save": _Command("FILE", "add all conversations of the session to a trees.jsonl", Chat.save),
    "/quit": _Command("", "leave, as Ctrl-D does", Chat.quit),
}


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {close[0]}?" if close else "/help lists the commands."
    return f"there is no command {name}: {hint} To send it as a message, write /{name}"


def _joined(pieces: list[Piece]) -> Piece:
    return Piece(
        text="".join(piece.text for piece in pieces),
        token_ids=tuple(token for piece in pieces for token in piece.token_ids),
        log_probs=tuple(value for piece in pieces for value in piece.log_probs),
        tokenizer=next((piece.tokenizer for piece in pieces if piece.tokenizer), None),
        finish_reason=pieces[-1].finish_reason,
    )

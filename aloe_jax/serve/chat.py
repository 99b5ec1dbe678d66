"""`aloe chat`: a conversation on the terminal, or on any two text streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from aloe_jax.decode.requests import Request, Sampling
from aloe_jax.errors import InputError
from aloe_jax.serve.worker import Engine
from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import ChatFormat

HELP = "/reset starts over, /quit (or end of input) leaves."


def chat_loop(
    answer: Callable[[list[Message]], str], source: TextIO, sink: TextIO, *, system: str | None = None
) -> None:
    """Read one message per line from `source` and write each answer to `sink`, until /quit or the end of input.

    `answer` gets the whole dialogue, which ends with the user's message. /reset drops the dialogue but not the
    `system` message. Prompts and help are written only if `source` is a terminal. There, an InputError from `answer`
    (the context is full) is shown and the message dropped; elsewhere it is raised.
    """
    terminal = source.isatty()
    start = [Message(role="system", content=system)] if system else []
    dialogue = list(start)
    if terminal:
        sink.write(HELP + "\n")
    while (line := _next_line(source, sink, terminal)) is not None:
        if line == "/quit":
            return
        if line == "/reset":
            dialogue = list(start)
        elif line:
            asked = [*dialogue, Message(role="user", content=line)]
            try:
                text = answer(asked)
            except InputError as error:
                if not terminal:
                    raise
                sink.write(f"{error}\n{HELP}\n")
                continue
            dialogue = [*asked, Message(role="assistant", content=text)]
            sink.write(text + "\n")
            sink.flush()


def _next_line(source: TextIO, sink: TextIO, terminal: bool) -> str | None:
    """The next line without surrounding space; None at the end of input or at Ctrl-C on the prompt."""
    if terminal:
        sink.write("> ")
        sink.flush()
    try:
        line = source.readline()
    except KeyboardInterrupt:
        line = ""
    if line:
        return line.strip()
    if terminal:
        sink.write("\n")
    return None


def engine_answer(
    engine: Engine, chat_format: ChatFormat, sampling: Sampling, *, seed: int
) -> Callable[[list[Message]], str]:
    """An `answer` for `chat_loop` that samples from `engine` in this thread. It raises InputError where the dialogue
    leaves no room for a reply of `sampling.max_tokens`."""

    def answer(messages: list[Message]) -> str:
        prompt = chat_format.prompt_ids(messages)
        ticket = engine.submit(Request(prompt=tuple(prompt), sampling=sampling, seed=seed))
        finished = dict(engine.step())
        while ticket not in finished:
            finished.update(engine.step())
        (completion,) = finished[ticket]
        return chat_format.tokenizer.decode(completion.text_ids)

    return answer

"""The terminal conversation, on text streams."""

import io

import pytest

from aloe_jax.decode.requests import Sampling
from aloe_jax.errors import InputError
from aloe_jax.serve.chat import chat_loop, engine_answer
from aloe_jax.tree.schema import Message


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(source, system=None):
    """What was written, and the dialogues `answer` was given as (role, content) lists. `answer` refuses "long"."""
    seen = []

    def answer(messages):
        if messages[-1].content == "long":
            raise InputError("the context is full")
        seen.append([(message.role, message.content) for message in messages])
        return f"reply {len(seen)}"

    sink = io.StringIO()
    chat_loop(answer, source, sink, system=system)
    return sink.getvalue(), seen


def test_pipe_gets_answers_alone():
    written, seen = run(io.StringIO("hi\n\n  there \n"))
    assert written == "reply 1\nreply 2\n"
    assert seen == [[("user", "hi")], [("user", "hi"), ("assistant", "reply 1"), ("user", "there")]]


def test_last_line_without_a_line_break_counts():
    assert run(io.StringIO("hi"))[0] == "reply 1\n"


def test_terminal_gets_prompts_and_help():
    written, _ = run(Terminal("hi\n"))
    assert written == "/reset starts over, /quit (or end of input) leaves.\n> reply 1\n> \n"


def test_reset_forgets_the_dialogue_but_not_the_system_message():
    _, seen = run(io.StringIO("one\n/reset\ntwo\n"), system="be kind")
    assert seen == [[("system", "be kind"), ("user", text)] for text in ("one", "two")]


def test_quit_leaves_the_rest_unread():
    source = io.StringIO("one\n/quit\ntwo\n")
    _, seen = run(source)
    assert len(seen) == 1
    assert source.read() == "two\n"


def test_refused_message_is_forgotten_on_a_terminal_and_raised_elsewhere():
    written, seen = run(Terminal("one\nlong\ntwo\n"))
    assert "the context is full\n" in written
    assert seen[-1] == [("user", "one"), ("assistant", "reply 1"), ("user", "two")]
    with pytest.raises(InputError, match="the context is full"):
        run(io.StringIO("long\n"))


def test_ctrl_c_at_the_prompt_leaves():
    class Interrupted(Terminal):
        def readline(self):
            raise KeyboardInterrupt

    written, seen = run(Interrupted())
    assert written.endswith("> \n")
    assert seen == []


def test_engine_answers_with_the_text_of_its_completion(engine, chat_format):
    dialogue = [Message(role="user", content="hello")]
    cut = engine_answer(engine, chat_format, Sampling(max_tokens=3), seed=4)(dialogue)
    whole = engine_answer(engine, chat_format, Sampling(max_tokens=50), seed=4)(dialogue)
    assert len(cut) == 3
    assert len(whole) == 12  # the end-of-turn token has no text
    assert whole.startswith(cut)
    assert not engine.busy

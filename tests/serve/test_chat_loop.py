"""The conversation of `aloe chat`: what its commands do to the tree, and what is written where."""

import io

import pytest

from aloe_jax.decode.requests import Sampling
from aloe_jax.errors import AloeError, InputError
from aloe_jax.serve.chat.engine_speaker import engine_speaker
from aloe_jax.serve.chat.lines import PipedLines
from aloe_jax.serve.chat.loop import COMMANDS, Chat
from aloe_jax.serve.chat.speaker import Piece
from aloe_jax.tree.schema import Message, read_trees

STOPPED = KeyboardInterrupt()


class Typed:
    """Lines as a person types them."""

    interactive = True

    def __init__(self, *lines):
        self._lines = iter(lines)

    def next(self):
        return next(self._lines, None)


class Scripted:
    """Replies "reply N" in two pieces and keeps the dialogues. "long" is refused, "lose" and "stop" break off after the
    first piece, "silence" before it."""

    name = "runs/x"

    def __init__(self):
        self.seen = []

    def pieces(self, messages, extra_seed):
        said = messages[-1].content
        if said == "long":
            raise InputError("the context is full")
        self.seen.append(([(message.role, message.content) for message in messages], extra_seed))
        if said == "silence":
            raise STOPPED
        yield Piece("rep", (1, 2), (-0.5, -1.0), None, "hash")
        if said in ("lose", "stop", "end"):
            raise {"lose": AloeError("the connection was lost"), "stop": STOPPED, "end": EOFError()}[said]
        yield Piece(f"ly {len(self.seen)}", (3,), (-0.1,), "length" if said == "cut" else "stop", "hash")


def run(lines, system=None):
    """What was written, and the dialogues that were answered."""
    speaker, sink = Scripted(), io.StringIO()
    Chat(speaker, lines, sink, system).run()
    return sink.getvalue(), [dialogue for dialogue, _ in speaker.seen], [seed for _, seed in speaker.seen]


def piped(text, **options):
    return run(PipedLines(io.StringIO(text)), **options)


def typed(*lines, **options):
    """As `run`, from a person, without the greeting."""
    written, *rest = run(Typed(*lines), **options)
    greeting, _, written = written.partition("\n")
    assert greeting == "(talking with runs/x; /help lists the commands, Ctrl-D ends)"
    return written, *rest


def test_a_pipe_gets_replies_alone():
    written, seen, _ = piped("hi\n\n  there \nlast")
    assert written == "reply 1\nreply 2\nreply 3\n"
    assert seen[1] == [("user", "hi"), ("assistant", "reply 1"), ("user", "there")]


def test_an_unknown_command_is_never_sent():
    written, seen, _ = typed("/hlep", "/etc/passwd", "//etc is a folder")
    assert "there is no command /hlep: did you mean /help? To send it as a message, write //hlep" in written
    assert "there is no command /etc/passwd: /help lists the commands." in written
    assert seen == [[("user", "/etc is a folder")]]
    with pytest.raises(InputError, match="did you mean /retry"):
        piped("hi\n/rety\n")


def test_help_has_every_command():
    written, _, _ = piped("/help\n")
    assert [line.split()[0] for line in written.splitlines()] == [*COMMANDS, "//text"]


def test_reset_and_system_start_over():
    _, seen, _ = piped("one\n/reset\ntwo\n/system be brief\nthree\n", system="be kind")
    assert seen == [
        [("system", "be kind"), ("user", "one")],
        [("system", "be kind"), ("user", "two")],
        [("system", "be brief"), ("user", "three")],
    ]
    assert piped("/system\n", system="be kind")[0] == "be kind\n"


def test_quit_leaves_the_rest_unread():
    source = io.StringIO("one\n/quit\ntwo\n")
    _, seen, _ = run(PipedLines(source))
    assert len(seen) == 1
    assert source.read() == "two\n"


def test_retry_and_branch_make_siblings_and_undo_forgets(tmp_path):
    file = tmp_path / "trees.jsonl"
    lines = ("one", "two", "/retry", "/retry", "/branch", "/branch 1", "three", "gone", "/undo", f"/save {file}")
    written, seen, seeds = typed(*lines)
    assert seen[2] == seen[3] == [("user", "one"), ("assistant", "reply 1"), ("user", "two")]
    assert seen[4] == [("user", "three")]
    assert seeds == [0, 0, 1, 2, 0, 0]
    assert "1  one\n2  two\n" in written
    (tree,) = read_trees(file)
    by_text = {node.text: node for node in tree.nodes}
    assert set(by_text) == {"one", "reply 1", "two", "reply 2", "reply 3", "reply 4", "three", "reply 5"}
    assert {by_text[f"reply {number}"].parent for number in (2, 3, 4)} == {by_text["two"].id}
    assert by_text["one"].parent is by_text["three"].parent is None
    assert [tree.node(name).text for name in tree.path] == ["three", "reply 5"]
    node = by_text["reply 1"]
    assert (node.condition, node.token_ids, node.logprobs, node.tokenizer) == (
        "runs/x",
        (1, 2, 3),
        (-0.5, -1.0, -0.1),
        "hash",
    )


def test_saving_again_replaces_and_every_conversation_is_kept(tmp_path):
    file = tmp_path / "trees.jsonl"
    piped(f"one\n/save {file}\ntwo\n/reset\nthree\n/save {file}\n")
    assert [[node.text for node in tree.nodes] for tree in read_trees(file)] == [
        ["one", "reply 1", "two", "reply 2"],
        ["three", "reply 3"],
    ]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("/save", "write /save trees.jsonl"),
        ("/save x.jsonl", "no reply to save yet"),
        ("/retry", "no message to reply to"),
        ("/branch 2", "there are 0 turns"),
        ("/branch ²", "there are 0 turns"),
    ],
)
def test_a_command_that_cannot_be_done_is_refused(line, part):
    with pytest.raises(InputError, match=part):
        piped(f"{line}\n")
    assert part in typed(line)[0]


def test_a_refused_message_is_forgotten_on_a_terminal_and_raised_elsewhere():
    written, seen, _ = typed("one", "long", "two")
    assert "(the context is full)\n" in written
    assert seen[-1] == [("user", "one"), ("assistant", "reply 1"), ("user", "two")]
    with pytest.raises(InputError, match="the context is full"):
        piped("long\n")


@pytest.mark.parametrize(
    ("said", "note"), [("stop", "stopped; what came is kept"), ("lose", "the connection was lost")]
)
def test_what_came_is_kept(tmp_path, said, note):
    file = tmp_path / "trees.jsonl"
    written, seen, _ = typed(said, "on", f"/save {file}")
    assert written.startswith(f"rep\n({note})\n")
    assert seen[1] == [("user", said), ("assistant", "rep"), ("user", "on")]
    (tree,) = read_trees(file)
    assert (tree.replies()[0].token_ids, tree.replies()[0].flags) == ((1, 2), ("truncated",))


def test_silence_leaves_the_conversation_as_it_was():
    written, seen, _ = typed("silence", "on")
    assert written.startswith("(stopped; nothing came)\n")
    assert seen[1] == [("user", "on")]
    with pytest.raises(KeyboardInterrupt):  # a pipe is ended
        piped("silence\n")


def test_the_end_signal_ends_in_mid_reply(tmp_path):
    assert typed("end", "on")[1] == [[("user", "end")]]


def test_a_reply_at_its_limit_says_so():
    assert typed("cut")[0] == "reply 1\n(cut at the maximum of tokens)\n"


def test_text_of_a_model_steers_no_terminal():
    class Rude(Scripted):
        def pieces(self, messages, extra_seed):
            yield Piece("\x1b[2Jhi\u009b\t\r\n", finish_reason="stop")

    shown, raw = io.StringIO(), io.StringIO()
    Chat(Rude(), Typed("hi"), shown).run()
    assert shown.getvalue().endswith("\\x1b[2Jhi\\x9b\t\\r\n\n")
    Chat(Rude(), PipedLines(io.StringIO("hi\n")), raw).run()
    assert raw.getvalue() == "\x1b[2Jhi\u009b\t\r\n\n"


def test_an_engine_replies_piece_by_piece(engine, chat_format):
    dialogue = [Message(role="user", content="hello")]

    def said(**options):
        with engine_speaker(engine, chat_format, "tiny", Sampling(**options), 4) as speaker:
            return list(speaker.pieces(dialogue, 0)), list(speaker.pieces(dialogue, 1))

    (whole, other), (cut, _) = said(max_tokens=50), said(max_tokens=3)
    text = "".join(piece.text for piece in whole)
    assert len(whole) == 2
    assert len(text) == 12  # the end-of-turn token has no text
    assert text.startswith("".join(piece.text for piece in cut))
    assert (whole[-1].finish_reason, cut[-1].finish_reason) == ("stop", "length")
    assert sum(len(piece.token_ids) for piece in whole) == sum(len(piece.log_probs) for piece in whole) == 13
    assert whole[0].tokenizer == chat_format.tokenizer.hash
    assert text != "".join(piece.text for piece in other)


def test_a_reply_that_is_closed_frees_the_engine(engine, chat_format):
    with engine_speaker(engine, chat_format, "tiny", Sampling(max_tokens=9), 4) as speaker:
        engine.hold()
        coming = speaker.pieces([Message(role="user", content="hello")], 0)
        engine.release()
        next(coming)
        coming.close()
        assert "".join(piece.text for piece in speaker.pieces([Message(role="user", content="again")], 0))
    assert not engine.busy

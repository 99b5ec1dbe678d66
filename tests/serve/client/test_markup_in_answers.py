"""Answers with the markup of a chat format in their text: thoughts in every spelling, and turns that did not end."""

import pytest
from aiohttp import web

from aloe_jax.errors import InputError
from aloe_jax.serve.client.thinking import without_thoughts
from helpers.scripted_server import Script, talk


def choice(content, finish="stop"):
    return {"choices": [{"message": {"content": content}, "finish_reason": finish}]}


@pytest.mark.parametrize(
    "text",
    [
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Bees?<|return|>",
        "<|channel|>commentary<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Bees?",
        "<|channel|>final<|message|>Bees?",
        "<|channel>thought\nHm.<channel|>Bees?",
        "<unused94>thought\nHm.<unused95>Bees?",
        "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Bees?<|END_RESPONSE|>",
        "<|begin_of_thought|>\nHm.\n<|end_of_thought|>\n\n<|begin_of_solution|>\nBees?\n<|end_of_solution|>",
        "<mm:think>Hm.</mm:think>Bees?",
        "<longcat_think>Hm.</longcat_think>Bees?",
        "<think>Hm.</think>\n<answer>Bees?</answer>",
        "<think>Hm.</think><response>Bees?</response>",
        "Hm.\n[BEGIN FINAL RESPONSE]\nBees?\n[END FINAL RESPONSE]",
        "Here is my thought process:\nHm.\n\nHere is my response:\nBees?",
    ],
)
def test_thoughts_in_other_spellings_are_cut(text):
    [reply], _ = talk(Script(choice(text)))
    assert (reply.text, reply.truncated) == ("Bees?", False)
    assert reply.thought


def test_a_channel_of_thoughts_alone_is_no_reply():
    [reply], _ = talk(Script(choice("<|channel|>analysis<|message|>They greet me. I", finish="length")))
    assert (reply.text, reply.truncated) == ("", True)


@pytest.mark.parametrize("text", ["Here is my response: bees.", "I say <answer>bees</answer>.", "The <channel> is on."])
def test_such_words_alone_are_no_thoughts(text):
    assert without_thoughts(text) == (text, None)


@pytest.mark.parametrize("finish", ["stop", "length"])
@pytest.mark.parametrize(
    "text",
    [
        *(f"Bees?{end}" for end in ("<|im_end|>", "<|im_end|>\n", "<|eot_id|>", "</s>", "<end_of_turn>\n<eos>")),
        "Bees?<|im_end|>\n<|im_start|>user\nYes.<|im_end|>",
        "Bees?<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nYes.",
        "Bees?<|end|>\nuser\nYes.",
        "<|im_start|>assistant\nBees?<|im_end|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\nBees?<|eot_id|>",
        "assistant\n\nBees?<|eot_id|>",
    ],
)
def test_a_reply_ends_where_its_turn_does(text, finish):
    """Servers that miss a stop token hand it out as text, and may run on into the next turn. The reply is whole."""
    given = choice(text, finish)
    given["choices"][0] |= {"token_ids": [1, 2]}
    [reply], _ = talk(Script(given))
    assert (reply.text, reply.truncated, reply.thought, reply.token_ids) == ("Bees?", False, None, None)


@pytest.mark.parametrize(
    "text", ["A turn ends with <|im_end|> there.", "Tea at <s>four</s>", "Say <|user|> first.", "assistant, help!"]
)
def test_markup_that_a_reply_is_about_stays(text):
    [reply], _ = talk(Script(choice(text)))
    assert (reply.text, reply.truncated) == (text, False)


def test_a_choice_with_its_end_of_turn_is_that_choice():
    given = choice("1<eos>")
    given["choices"][0]["logprobs"] = {"content": [{"token": "1", "logprob": -0.1, "top_logprobs": []}]}
    [reply], _ = talk(Script(given), choices=["1", "2"])
    assert reply.text == "1"


def test_a_stream_that_was_not_requested_is_named_at_once():
    async def stream(request):
        text = 'data: {"choices": [{"delta": {"content": "Bees?"}}]}\n\ndata: [DONE]\n\n'
        return web.Response(text=text, content_type="text/event-stream")

    script = Script(stream)
    with pytest.raises(InputError, match="streams its answer, which was not requested"):
        talk(script)
    assert len(script.bodies) == 1

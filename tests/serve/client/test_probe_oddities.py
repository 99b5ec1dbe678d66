"""Servers whose ways only a probe shows: thinking, equal answers, other names, refused fields."""

import asyncio
import json

import pytest
from aiohttp import web

from aloe_jax.errors import InputError, ResumableError
from aloe_jax.serve.client import constraints
from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.client import Client
from aloe_jax.serve.client.probe import missing, probe, spent_on_thoughts
from helpers.fake_server import MODEL, FakeServer, serving
from helpers.scripted_server import Pauses


def probed(server, wanted=("n", "seed", "system"), model=MODEL, **fields):
    """The abilities, the notices, and the client's answer afterwards to a call with n = 2."""
    notices = []

    async def run():
        async with (
            serving(server) as url,
            Client(url, model, timing=Pauses().timing(), notice=notices.append) as client,
        ):
            [abilities] = (await probe(client, wanted, fields)).values()
            given = await client.chat([], seed=1, n=2, logprobs=False, token_ids=False)
            spent = await spent_on_thoughts(client, 128, fields)
            return abilities, notices, given, spent

    return asyncio.run(run())


class Odd(FakeServer):
    """A server that changes what it is asked or answers. `change` gets the request and the answer; it may return a
    refusal in place of the answer."""

    def __init__(self, change, **settings):
        super().__init__(**settings)
        self.change = change

    async def complete(self, request):
        asked = await request.json()
        answer = self.answer({"seed": None, **asked})
        found = self.change(asked, answer)
        return found if found is not None else web.json_response(answer)


def thinks(tokens, switch=True):
    """Thinks `tokens` tokens before it answers, unless the template is told otherwise."""

    def change(asked, answer):
        if switch and asked.get("chat_template_kwargs") == {"enable_thinking": False}:
            return
        for each in answer["choices"]:
            each["message"]["reasoning_content"] = "Hm, hm."
            if asked["max_tokens"] < tokens:
                each["message"]["content"] = None
                each["finish_reason"] = "length"

    return change


def test_a_model_that_spends_all_tokens_on_thinking_is_told_so():
    abilities, _, _, spent = probed(Odd(thinks(500)), ("choice", "schema", "n"))
    assert abilities.reasons
    assert (abilities.choice, abilities.schema_form) == ("structured_outputs", "response_format")  # tried with room
    assert abilities.ignored == ()
    assert spent is not None
    assert any("thinks before it answers" in sentence for sentence in missing(abilities))


def test_a_model_told_not_to_think_does_not():
    abilities, _, _, spent = probed(Odd(thinks(500)), chat_template_kwargs={"enable_thinking": False})
    assert not abilities.reasons
    assert spent is None


def test_a_model_that_thinks_little_is_no_matter():
    _, _, _, spent = probed(Odd(thinks(100)))
    assert spent is None


def test_equal_answers_to_one_call_are_noticed_and_asked_for_one_by_one():
    def equal(asked, answer):
        for each in answer["choices"]:
            each["message"] = answer["choices"][0]["message"]

    abilities, _, given, _ = probed(Odd(equal))
    assert (abilities.n, abilities.varied) == (True, False)
    assert any("equal texts" in sentence for sentence in missing(abilities))
    assert given[0].text != given[1].text
    assert probed(FakeServer())[0].varied


def test_a_dated_name_behind_an_alias_is_the_models_name():
    def dated(asked, answer):
        answer["model"] = "mixture-20250101"

    abilities, _, given, _ = probed(Odd(dated))
    assert abilities.answers_as == "mixture-20250101"
    assert len(given) == 2


def test_fields_that_are_refused_are_noticed_once():
    def refuse(asked, answer):
        for name in ("seed", "n", "max_tokens"):
            if name in asked:
                error = {"message": f"Unsupported parameter: '{name}'", "code": "unsupported_parameter", "param": name}
                return web.json_response({"error": error}, status=400)
        if asked.get("temperature", 1.0) != 1.0:
            error = {"message": "Unsupported value: only 1 is supported", "param": "temperature"}
            return web.json_response({"error": error}, status=400)
        answer["choices"] = answer["choices"][:1]
        return None

    abilities, notices, given, _ = probed(Odd(refuse))
    assert (abilities.n, abilities.seed) == (False, False)
    assert len(given) == 2
    for name in ("seed", "n", "max_tokens", "temperature"):
        assert sum(f"refuses {name};" in notice for notice in notices) == 1


def test_a_server_that_does_not_say_how_answers_end_is_noticed():
    def endless(asked, answer):
        for each in answer["choices"]:
            del each["finish_reason"]

    assert not probed(Odd(endless))[0].finish


def test_what_a_probe_was_told_is_shown():
    def quota(asked, answer):
        error = {"message": "You exceeded your current quota", "code": "insufficient_quota"}
        return web.json_response({"error": error}, status=429)

    with pytest.raises(ResumableError, match="You exceeded your current quota"):
        probed(Odd(quota))

    def page(asked, answer):
        return web.Response(text="<html>Sign in</html>", content_type="text/html")

    with pytest.raises(InputError, match="text/html where JSON was expected: <html>Sign in"):
        probed(Odd(page))

    def words(asked, answer):
        return web.Response(text="upstream warming up", content_type="text/plain")

    with pytest.raises(ResumableError, match=r"text/plain.*no JSON: 'upstream warming up'"):
        probed(Odd(words))

    def missing_model(asked, answer):
        return web.json_response({"error": {"message": "no model 'x'"}}, status=404)

    with pytest.raises(InputError, match=rf"no model 'x'.*the server lists {MODEL}"):
        probed(Odd(missing_model), model="x")


def test_a_record_of_abilities_is_that_of_before():
    found = probed(FakeServer())[0].recorded()
    assert list(found) == [
        *("models", "answers_as", "choice", "schema_form", "ignored", "logprobs", "top_logprobs", "n", "seed", "system")
    ]
    assert "reasons" in probed(Odd(thinks(100)))[0].recorded()


READ = ["1", " 1\n", '"1"', "1.", "1)", "(1)", "**1**", "1\n\nbecause reply 2 is curt", "1 - it listens"]
READ += ["1, since 2 is curt", "Reply 1", "Answer: 1", "The better reply is 1.", "The answer is **Reply 1**"]
UNREAD = ["", "3", "12", "1.5", "1 or 2", "1/2", "both", "I like 1", "neither 1 nor 2", "1 and 2"]


@pytest.mark.parametrize("text", READ)
def test_answers_that_begin_with_a_choice_are_read(text):
    assert constraints.chosen(text, ("1", "2")) == "1"
    assert constraints.probabilities(Answer(text), ("1", "2")) == {"1": 1.0, "2": 0.0}


@pytest.mark.parametrize("text", UNREAD)
def test_answers_that_name_no_choice_alone_are_unreadable(text):
    assert constraints.chosen(text, ("1", "2")) is None


def test_probabilities_are_those_at_the_choice():
    """The answer names its choice in its third token: exp(-0.1) = 0.905 and exp(-2.4) = 0.0907, 0.909 of both."""
    tokens = ("Reply", ": ", "1")
    top = ((("Reply", -0.1), ("2", -3.0)), ((": ", -0.1),), (("1", -0.1), ("2", -2.4)))
    found = constraints.probabilities(Answer("Reply: 1", tokens=tokens, top=top), ("1", "2"))
    assert found == pytest.approx({"1": 0.9089, "2": 0.0911}, abs=1e-4)


def test_options_that_are_not_set_stay_out_of_requests():
    client = Client("http://127.0.0.1:1/v1", "tiny")
    bare = client.request([], seed=1)
    assert client.request([], seed=1, chat_template_kwargs={}, reasoning_effort="") == bare
    more = client.request([], seed=1, chat_template_kwargs={"enable_thinking": False}, reasoning_effort="low")
    assert json.dumps(more).startswith(json.dumps(bare)[:-1])
    assert (more["chat_template_kwargs"], more["reasoning_effort"]) == ({"enable_thinking": False}, "low")

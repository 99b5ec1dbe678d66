"""What servers say that is no plain answer: what is needed of it is read, the rest is told in their own words."""

import asyncio
import json
import ssl
import zlib

import pytest
from aiohttp import web
from yarl import URL

from aloe_jax.errors import InputError, ResumableError
from aloe_jax.serve.client import endpoint
from aloe_jax.serve.client.answers import Answer, said
from aloe_jax.serve.client.call_errors import CallError, FailedCallError, RefusedCallError
from aloe_jax.serve.client.client import Client
from aloe_jax.serve.client.endpoint import same_model
from aloe_jax.serve.client.exchange import certificates, proxy_of
from aloe_jax.serve.client.refusals import error_object, refused_field
from aloe_jax.serve.client.thinking import without_thoughts
from aloe_jax.tree.schema import Message
from helpers.scripted_server import GOOD, HELLO, Pauses, Script, answer, talk


@pytest.fixture(autouse=True)
def no_breaker(monkeypatch):
    """Servers here may fail as often as they like before they count as down."""
    monkeypatch.setattr(endpoint, "BREAK_AFTER", 1000)


def choice(content="hi", finish="stop", **more):
    return {"choices": [{"message": {"content": content, **more}, "finish_reason": finish}]}


def by_content(respond):
    """A step that answers as `respond(body)` says, and GOOD where that is None."""

    async def step(request):
        found = respond(await request.json())
        return web.json_response(GOOD) if found is None else found

    return step


def refused_for(word):
    """A server that filters messages with the word."""

    def respond(body):
        if word in body["messages"][-1]["content"]:
            return web.json_response({"error": {"message": "it was filtered", "code": "content_filter"}}, status=400)
        return None

    return Script(by_content(respond))


@pytest.mark.parametrize(
    "odd",
    [
        {"created": 1_700_000_000.25},
        {"id": None, "object": None, "model": None},
        {"usage": {"prompt_tokens": None, "completion_tokens": 2.0, "total_tokens": "5"}},
        {"usage": [1]},
        {"model": "tiny-2024-07-18"},
        {"model": "Owner/Tiny"},
        {"system_fingerprint": [], "tokenizer_hash": 7},
        {"error": None},
    ],
)
def test_only_what_is_needed_of_an_answer_is_required(odd):
    (reply,), client = talk(Script({**GOOD, **odd}))
    assert (reply.text, client.completions.retries) == ("hi", 0)


@pytest.mark.parametrize(
    "message",
    [
        {"role": None, "content": "hi"},
        {"content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]},
        {"content": "hi", "tool_calls": None, "audio": {}},
    ],
)
def test_a_message_of_another_shape_is_read(message):
    (reply,), _ = talk(Script({"choices": [{"message": message, "index": None, "logprobs": None}]}))
    assert reply.text == "hi"


@pytest.mark.parametrize("reason", ["content_filter", "length", "tool_calls", "SAFETY", None, 3, ["stop"]])
def test_what_did_not_end_is_truncated(reason):
    (reply,), _ = talk(Script(choice(finish=reason)))
    assert reply.truncated


@pytest.mark.parametrize("reason", ["stop", "eos", "STOP", "end_turn"])
def test_what_ended_is_whole(reason):
    (reply,), _ = talk(Script(choice(finish=reason)))
    assert not reply.truncated


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_what_was_broken_off_is_tried_again(reason):
    (reply,), client = talk(Script(choice("half", reason), choice("whole")))
    assert (reply.text, client.completions.retries) == ("whole", 1)


def test_a_refusal_in_place_of_the_content_is_no_whole_reply():
    (reply,), _ = talk(Script(choice(None, refusal="I will not.")))
    assert (reply.text, reply.truncated) == ("I will not.", True)


@pytest.mark.parametrize(
    ("text", "kept", "thought"),
    [
        ("<think>Hm.</think>\n\nBees?", "Bees?", "<think>Hm.</think>"),
        ("Hm.</think>Bees?", "Bees?", "Hm.</think>"),
        ("<think>a</think>Bees?<think>b</think>", "Bees?", "<think>a</think><think>b</think>"),
        ("<think>Hm", "", "<think>Hm"),
        ("[THINK]x[/THINK]Bees?", "Bees?", "[THINK]x[/THINK]"),
        (" 3 < 4, I think. ", " 3 < 4, I think. ", None),
    ],
)
def test_thoughts_are_cut(text, kept, thought):
    assert without_thoughts(text) == (kept, thought)
    assert without_thoughts(text, within=True) == ((kept, thought) if thought else ("", text))
    [reply], _ = talk(Script(choice(text)))
    assert (reply.text, reply.thought) == (kept, thought)


def test_ids_that_hold_thoughts_are_not_trained_on():
    given = choice("Bees?", reasoning_content="Hm.")
    given["choices"][0] |= {"token_ids": [1, 2], "logprobs": {"content": [{"logprob": -1.0}, {"logprob": -1.0}]}}
    [reply], _ = talk(Script(given))
    assert (reply.text, reply.thought, reply.token_ids, reply.logprobs) == ("Bees?", "Hm.", None, None)


def test_probable_tokens_behind_the_thoughts_are_kept():
    tokens, top = ("<think>", "so 2", "</think>", "1"), ((("x", -1.0),), (("x", -1.0),), (("x", -1.0),), (("1", -0.1),))
    cut = said(Answer("<think>so 2</think>1", tokens=tokens, top=top))
    assert (cut.text, cut.tokens, cut.top) == ("1", ("1",), ((("1", -0.1),),))


def test_half_a_surrogate_pair_is_one_sentence_and_no_retry():
    script = Script(answer(200, text=json.dumps(choice("\ud83d"))))
    with pytest.raises(RefusedCallError, match="half of a surrogate pair"):
        talk(script)
    assert len(script.bodies) == 1


def test_half_a_character_among_the_probable_tokens_is_none_of_ours():
    content = [{"token": "\ud83d", "logprob": -1.0, "top_logprobs": [{"token": "1", "logprob": -1.0}, {"token": "x"}]}]
    given = {"choices": [{"message": {"content": "1"}, "logprobs": {"content": content}}]}
    [reply], _ = talk(Script(answer(200, text=json.dumps(given))))
    assert (reply.tokens, reply.top) == (("\ufffd",), ((("1", -1.0),),))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"choices": ' + "9" * 6000 + "}", '"\ufeff'])
def test_hostile_json_is_a_broken_answer(text):
    (reply,), client = talk(Script(answer(200, text=text), GOOD))
    assert (reply.text, client.completions.retries) == ("hi", 1)


def test_one_refused_prompt_is_that_calls_failure():
    async def run():
        script = refused_for("bomb")
        async with script.serving() as url, Client(url, "tiny", timing=Pauses().timing()) as client:
            with pytest.raises(RefusedCallError, match="it was filtered") as caught:
                await client.chat([Message(role="user", content="a bomb")], seed=1)
            return caught.value, await client.chat(HELLO, seed=1)

    error, [reply] = asyncio.run(run())
    assert (error.kind, error.exit_code, reply.text) == ("400 content_filter", 2, "hi")


@pytest.mark.parametrize("step", [500, None, answer(200, text="<<<")])
def test_a_prompt_that_fails_for_ever_is_its_calls_failure_where_a_greeting_is_answered(step):
    async def odd(request):
        body = await request.json()
        if body["messages"][0]["content"] != "odd":
            return web.json_response(GOOD)
        if step is None:
            request.transport.abort()
            return web.Response()
        return web.json_response({}, status=500) if step == 500 else await step(request)

    with pytest.raises(FailedCallError, match="3 attempts"):
        talk(Script(odd), [Message(role="user", content="odd")], client={"retries": 2})
    with pytest.raises(ResumableError) as caught:  # a server that answers nobody is no failure of one call
        talk(Script(step), client={"retries": 2})
    assert not isinstance(caught.value, CallError)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"error": {"message": "the model is overloaded", "code": 503}}, "503: the model is overloaded"),
        ({"object": "error", "message": "no such adapter", "code": 400}, "400: no such adapter"),
        ({"detail": "wrong token"}, "wrong token"),
        ({"error": "out of memory"}, "out of memory"),
    ],
)
def test_an_error_inside_a_200_is_told_in_the_servers_words(body, told):
    with pytest.raises((InputError, ResumableError), match=told):
        talk(Script(body), client={"retries": 1})


def test_words_of_a_server_are_one_line_without_what_no_file_holds():
    text = json.dumps({"error": {"message": "no\n\n\x1b[31mroom \ud83d left " + "x" * 5000}})
    with pytest.raises(InputError, match=r"answers 400: no \[31mroom left x+$") as caught:
        talk(Script(answer(400, text=text)))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1200
    with pytest.raises(ResumableError, match=r"choices: Field required.*no adapter of that name"):
        talk(Script({"status": "no adapter of that name"}), client={"retries": 0})


def test_a_used_up_budget_is_no_matter_of_pauses():
    pauses = Pauses()
    text = json.dumps({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})
    with pytest.raises(ResumableError, match=r"exceeded your current quota.*budget of the key in ALOE_API_KEY"):
        talk(Script(answer(429, text=text)), pauses=pauses)
    assert pauses == []


def test_json_under_the_name_of_a_page_is_read():
    (reply,), _ = talk(Script(answer(200, {"Content-Type": "text/html"}, json.dumps(GOOD))))
    assert reply.text == "hi"


def test_a_page_is_shown_with_its_type_and_a_redirect_with_its_place():
    page = answer(200, {"Content-Type": "text/html"}, "<html><title>Welcome to nginx</title></html>")
    with pytest.raises(InputError, match="text/html where JSON was expected: <html><title>Welcome to nginx"):
        talk(Script(page))
    with pytest.raises(InputError, match=r"it redirects to https://new\.example/v1"):
        talk(Script(answer(308, {"Location": "https://new.example/v1/chat/completions"})))


def test_an_address_without_its_version_is_guessed():
    async def run():
        async with Script(GOOD).serving() as url, Client(url.removesuffix("/v1"), "tiny") as client:
            await client.chat(HELLO, seed=1)

    with pytest.raises(InputError, match=r"answers 404: .*did you mean http://127\.0\.0\.1:\d+/v1 as base_url\?"):
        asyncio.run(run())


def test_an_address_that_is_too_long_is_guessed():
    async def run():
        async with Script(GOOD).serving() as url, Client(f"{url}/chat/completions", "tiny") as client:
            await client.chat(HELLO, seed=1)

    with pytest.raises(InputError, match="leave /chat/completions out of base_url"):
        asyncio.run(run())


OPENAI = {"code": "unsupported_parameter", "type": "invalid_request_error"}


@pytest.mark.parametrize(
    ("field", "error"),
    [
        ("seed", {"message": "Unrecognized request argument supplied: seed"}),
        ("seed", {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}),
        ("n", {"message": "'n' must be 1", "param": "n"}),
        ("temperature", {"message": "Unsupported parameter: 'temperature'", "param": "temperature", **OPENAI}),
        ("top_p", {"message": "unknown field `top_p`"}),
        ("return_token_ids", {"message": "Unknown name return_token_ids: Cannot find field."}),
        ("max_tokens", {"message": "Use 'max_completion_tokens' instead.", "param": "max_tokens", **OPENAI}),
    ],
)
def test_a_refused_field_is_left_out_once_with_a_notice(field, error):
    notices = []
    body = error if "detail" in error else {"error": error}

    def respond(asked):
        return web.json_response(body, status=400) if field in asked and (field != "n" or asked["n"] > 1) else None

    async def run():
        script = Script(by_content(respond))
        async with script.serving() as url, Client(url, "tiny", notice=notices.append) as client:
            for seed in (1, 2):
                assert len(await client.chat(HELLO, seed=seed, n=2 if field == "n" else 1)) == (
                    2 if field == "n" else 1
                )
        return script.bodies

    bodies = asyncio.run(run())
    assert field in bodies[0]
    assert not any(field in each for each in bodies[1:])
    assert len(notices) == 1
    assert f"refuses {field}" in notices[0]
    if field == "max_tokens":
        assert [each["max_completion_tokens"] for each in bodies[1:]] == [256, 256]


def test_a_temperature_that_is_refused_away_from_its_default_is_named():
    error = {"message": "Unsupported value: 'temperature' does not support 0.2", "param": "temperature"}
    step = answer(400, text=json.dumps({"error": error}))
    with pytest.raises(InputError, match=r"does not support 0\.2; set config\.roles\.ROLE\.temperature to 1") as caught:
        talk(Script(step), temperature=0.2)
    assert not isinstance(caught.value, CallError)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096 tokens; you requested 5000 (1000 in max_tokens)",
        "the seed 4294967296 is too large",
        "no n is an island",
    ],
)
def test_an_error_about_something_else_refuses_no_field(message):
    body = {"n": 1, "seed": 1, "max_tokens": 5, "temperature": 0.0}
    assert refused_field(error_object(json.dumps({"error": {"message": message}}).encode()), body) is None


def test_names_of_one_model():
    assert same_model("gpt-4o", "gpt-4o-2024-08-06")
    assert same_model("Qwen/Qwen3-8B", "qwen3-8b")
    assert not same_model("gpt-4o", "gpt-4o-mini")
    assert not same_model("tiny", "another-7b")


def test_a_compression_that_was_not_asked_for_is_named():
    script = Script(answer(200, {"Content-Encoding": "br"}, "?"))
    with pytest.raises(InputError, match="compressed in a way that was not asked for"):
        talk(script)
    assert len(script.bodies) == 1
    packed = zlib.compress(json.dumps(GOOD).encode())

    async def deflate(request):
        return web.Response(body=packed, headers={"Content-Encoding": "deflate"})

    [reply], _ = talk(Script(deflate))
    assert reply.text == "hi"


@pytest.mark.parametrize(("key", "what"), [("sk-1\nsk-2", "a line break"), ("sk-“1”", "not printable ASCII")])
def test_a_key_that_no_header_carries(monkeypatch, key, what):
    monkeypatch.setenv("ALOE_API_KEY", key)
    with pytest.raises(InputError, match=f"the key in the environment variable ALOE_API_KEY holds .*{what}") as caught:
        talk(Script(GOOD))
    assert "sk-" not in str(caught.value)


def test_a_proxy_of_the_environment_is_used(monkeypatch):
    """The address has no server; the proxy, a script, is sent the whole of it."""

    async def run():
        script = Script(GOOD)
        async with script.serving() as url:
            monkeypatch.setenv("http_proxy", url.removesuffix("/v1"))
            monkeypatch.setenv("no_proxy", "")
            async with Client("http://model.invalid/v1", "tiny") as client:
                return await client.chat(HELLO, seed=1), script.headers

    [reply], [headers] = asyncio.run(run())
    assert (reply.text, headers["Host"]) == ("hi", "model.invalid")
    monkeypatch.setenv("no_proxy", "model.invalid,.example")
    assert proxy_of(URL("http://model.invalid/v1")) is None
    assert proxy_of(URL("http://a.example/v1")) is None
    assert proxy_of(URL("http://other.invalid/v1")) is not None
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
    with pytest.raises(InputError, match="speaks socks5; expected an HTTP proxy"):
        proxy_of(URL("http://other.invalid/v1"))
    monkeypatch.setenv("http_proxy", "http://me:sesame@127.0.0.1:9")
    with pytest.raises(ResumableError, match=r"the proxy http://127\.0\.0\.1:9 cannot be reached") as caught:
        asyncio.run(lost())
    assert "sesame" not in str(caught.value)


async def lost():
    async with Client("http://other.invalid/v1", "tiny", retries=0) as client:
        await client.chat(HELLO, seed=1)


def test_certificates_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(InputError, match=r"none\.pem' in the environment variable SSL_CERT_FILE cannot be used"):
        certificates()
    monkeypatch.delenv("SSL_CERT_FILE")
    assert certificates().verify_mode == ssl.CERT_REQUIRED

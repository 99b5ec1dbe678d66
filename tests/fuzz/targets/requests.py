"""Bodies of requests to `aloe serve`: the application in process, with a decoding engine of a tiny model behind it."""

from __future__ import annotations

import asyncio
import codecs
import functools
import json
import math
import random
import re
import tempfile
from pathlib import Path
from typing import Any

import jax
import tokenizers
from tokenizers import decoders, pre_tokenizers

from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.engine import Engine
from aloe_jax.models import decoder
from aloe_jax.serve.served_model import ServedModel
from aloe_jax.serve.server.app import create_app
from aloe_jax.serve.server.protection import protected
from aloe_jax.serve.server.settings import ServerSettings
from aloe_jax.serve.worker import Worker
from aloe_jax.tree.template import ChatFormat
from fuzz import mutators
from fuzz.case import Case, Result
from fuzz.targets.data import strictly_read
from helpers import hub_files
from helpers.byte_model import TINY

ASKED: dict[str, Any] = {
    "model": "tiny",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": [{"type": "text", "text": "And?"}]},
    ],
    "max_tokens": 6,
    "seed": 3,
}
MORE: dict[str, tuple[Any, ...]] = {
    "temperature": (0, 0.7, 2.0),
    "top_p": (0.5, 1.0),
    "top_k": (-1, 0, 5),
    "n": (1, 2, 3),
    "logprobs": (True, False),
    "return_token_ids": (True, False),
    "stream": (True, False),
    "stream_options": ({"include_usage": True},),
    "stop": (None, [], "x", ["e", "th"]),
    "min_p": (0, 0.2),
    "min_tokens": (0, 3),
    "presence_penalty": (0, -1.5),
    "frequency_penalty": (0, 0.5),
    "repetition_penalty": (1, 1.3),
    "ignore_eos": (True, False),
    "stop_token_ids": ([], [101]),
    "max_completion_tokens": (6,),
    "chat_template_kwargs": ({}, {"enable_thinking": False}),
    "tools": (None, []),
    "user": ("someone",),
    "logit_bias": ({}, {"5": 1}),
    "structured_outputs": (
        {"choice": ["yes", "no"]},
        {"regex": "[a-c]{2,4}"},
        {"json": {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}},
    ),
    "response_format": (
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [1, 2]}}},
    ),
}


TEMPLATE = hub_files.TEMPLATE + "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"


@functools.cache
def _served() -> tuple[Any, str]:
    """The application, and the text that the end-of-turn token has."""
    folder = Path(tempfile.mkdtemp(prefix="aloe-fuzz-served-"))
    hub_files.write_tokenizer_files(folder, TINY.vocab - 1)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()  # a grammar needs the bytes of the tokens
    backend.save(str(folder / "tokenizer.json"))
    chat = ChatFormat.load(folder)
    enders, init = chat.tokenizer.end_of_turn_ids, jax.jit(lambda key: decoder.init_params(TINY, key))
    engine = Engine(
        TINY, init(jax.random.key(0)), slots=4, context=96, end_of_turn=enders, grammar=Grammar(chat.tokenizer)
    )
    worker = Worker(engine)
    worker.start()
    bare, settings = create_app([ServedModel("tiny", worker, chat)], max_body_bytes=2**20), ServerSettings()
    app = protected(bare, "127.0.0.1", None, settings)
    for more in ({"n": 2}, {"n": 2, "logprobs": True, "top_logprobs": 3}, {"structured_outputs": {"regex": "a+"}}):
        # Programs are compiled before a case, which has a deadline.
        status, answer = _answered(app, json.dumps(ASKED | more).encode())
        assert status == 200, answer
    return app, chat.tokenizer.end_of_turn_texts[0]


def _answered(app: Any, body: bytes) -> tuple[int, bytes]:
    """Status and body of the response to a request for a chat completion."""
    path, parts, status = "/v1/chat/completions", list[bytes](), 0
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": path, "query_string": b"",
        "raw_path": path.encode(), "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1),
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
    }  # fmt: skip

    async def ask() -> None:
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                await asyncio.Event().wait()  # the client stays
            asked = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            parts.append(message.get("body", b""))

        await app(scope, receive, send)

    asyncio.run(ask())
    return status, b"".join(parts)


def requests(rng: random.Random, folder: Path) -> Case:
    """A request for a chat completion: the completion that was asked for, or a refusal as OpenAI spells it."""
    names = rng.sample(list(MORE), rng.randint(0, 5))
    asked = ASKED | {name: rng.choice(MORE[name]) for name in names}
    if asked.get("logprobs") and rng.random() < 0.5:
        asked["top_logprobs"] = 3
    kind, value, told = rng.choice(("json", "json", "json", "bytes", "equal")), asked, "another spelling"
    if kind == "json":
        value, told = mutators.mutate_json(rng, asked)
    body = mutators.json_text(value).encode("utf-8", "surrogatepass")
    if kind == "equal":
        body = mutators.respelled(rng, asked).encode()
    elif kind == "bytes":
        body, told = mutators.mutate_bytes(rng, body)
    (folder / "body.json").write_bytes(body)
    app, _ = _served()

    def call() -> Result:
        status, answer = _answered(app, body)
        if status == 200:
            return Result(0, answer.decode(), "")
        error = json.loads(answer)["error"]
        if not 400 <= status < 500 or set(error) != {"message", "type", "param", "code"}:
            return Result(1, "", f"{status} {answer.decode()}")
        return Result(2, "", f"aloe: {error['message']}\n")

    def check(result: Result) -> str | None:
        if kind == "equal" and not asked.get("stream"):
            plain = _answered(app, json.dumps(asked).encode())[1]
            if json.loads(plain)["choices"] != json.loads(result.out)["choices"]:
                return "another answer than to the same request plainly spelled"
        read = strictly_read(b"[" + body.removeprefix(codecs.BOM_UTF8) + b"]")
        if not read or not isinstance(read[0], dict):
            return "a body that is not strictly a JSON object was answered"
        return _unlike(read[0], result.out)

    return Case(call, f"POST /v1/chat/completions with {names}", told, check=check)


def _unlike(asked: dict[str, Any], answer: str) -> str | None:
    """What of an answer is not what was asked for."""
    if asked.get("stream"):
        *events, end = [line.removeprefix("data: ") for line in answer.split("\n\n") if line]
        chunks = [json.loads(event) for event in events]
        if end != "[DONE]":
            return f"the stream ends with {end!r}"
        choices = _joined([choice for chunk in chunks for choice in chunk["choices"]])
        usage = None
    else:
        whole = json.loads(answer)
        choices, usage = whole["choices"], whole["usage"]
        if whole["object"] != "chat.completion" or whole["model"] != asked["model"]:
            return f"{whole['object']} of {whole['model']}"
    if [choice["index"] for choice in choices] != list(range(asked.get("n") or 1)):
        return f"{len(choices)} choices"
    limits = (asked.get("max_tokens"), asked.get("max_completion_tokens"), 96)
    limit = next(each for each in limits if each is not None)
    if usage and not 0 <= usage["completion_tokens"] <= limit * len(choices):
        return f"{usage} with a limit of {limit}"
    return next(filter(None, (_wrong_choice(asked, choice, limit) for choice in choices)), None)


def _joined(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The choices of a whole answer that the choices of a stream's chunks are together."""
    choices: dict[int, dict[str, Any]] = {}
    for part in parts:
        if (choice := choices.get(part["index"])) is None:
            choices[part["index"]] = part | {"message": part["delta"]}
            continue
        choice["message"]["content"] += part["delta"]["content"]
        choice |= {name: part[name] for name in ("finish_reason", "stop_reason")}
        if part["token_ids"] is not None:
            choice["token_ids"] = [*(choice["token_ids"] or ()), *part["token_ids"]]
        if part["logprobs"] is not None:
            before = choice["logprobs"]["content"] if choice["logprobs"] else []
            choice["logprobs"] = {"content": before + part["logprobs"]["content"]}
    return list(choices.values())


def _wrong_choice(asked: dict[str, Any], choice: dict[str, Any], limit: int) -> str | None:
    text, reason = choice["message"]["content"], choice["finish_reason"]
    text.encode()
    if choice["message"]["role"] != "assistant" or reason not in ("stop", "length") or _served()[1] in text:
        return f"{choice['message']} that ended by {reason}"
    tokens = choice["logprobs"] and choice["logprobs"]["content"]
    if bool(asked.get("logprobs")) != (tokens is not None) or bool(asked.get("return_token_ids")) != (
        choice["token_ids"] is not None
    ):
        return "log-probabilities or ids without being asked for, or the other way round"
    if tokens is not None:
        wanted = asked.get("top_logprobs") or 0
        if any(not -1e9 < token["logprob"] <= 1e-3 or len(token["top_logprobs"]) > wanted for token in tokens):
            return f"log-probabilities {tokens}"
    counts = {len(each) for each in (tokens, choice["token_ids"]) if each is not None}
    if len(counts) > 1 or any(not 0 <= count <= limit for count in counts):
        return f"{counts} tokens with a limit of {limit}"
    return _unconstrained(asked, text) if reason == "stop" and choice["stop_reason"] is None else None


def _unconstrained(asked: dict[str, Any], text: str) -> str | None:
    """What of a whole reply breaks the constraint that the request put on it."""
    form, held = asked.get("response_format") or {}, asked.get("structured_outputs") or {}
    schema = form.get("json_schema", {}).get("schema") if form.get("json_schema") else held.get("json")
    if form.get("type") == "json_object" or schema is not None:
        value = json.loads(text)
        wrong = form.get("type") == "json_object" and not isinstance(value, dict)
        if schema == {"enum": [1, 2]}:
            wrong = value not in (1, 2) or not math.isfinite(value)
        return f"{text!r} does not follow {schema or form}" if wrong else None
    if held.get("choice") and text not in held["choice"]:
        return f"{text!r} is none of {held['choice']}"
    if held.get("regex") == "[a-c]{2,4}" and not re.fullmatch(held["regex"], text):
        return f"{text!r} does not match {held['regex']}"
    return None

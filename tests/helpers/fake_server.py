"""A chat server whose answers are a pure function of the request, and which can misbehave in every way that servers do.

    python tests/helpers/fake_server.py --port=8000 --latency=0.005 --faults=all --log=asked.jsonl

It understands what the roles of `data_gen` ask: plain messages, choices and JSON schemas. A fault strikes an attempt,
never an answer: which attempts it strikes is drawn by a counter, so that the same request is answered the same way once
it is answered, with faults or without. An answer that was computed counts as paid when it is handed to the connection.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import math
import random
import signal
import threading
from collections import Counter

from aiohttp import web

MODEL = "fake-1"
FAULTS = (
    "429",
    "429 with Retry-After",
    "500",
    "torn JSON",
    "torn body",
    "wrong model",
    "ignored constraint",
    "wrong logprobs",
    "dropped connection",
    "slow drip",
)
WORDS = [
    "river",
    "lamp",
    "garden",
    "train",
    "bread",
    "violin",
    "market",
    "winter",
    "cousin",
    "harbour",
    "pencil",
    "ladder",
    "kitchen",
    "storm",
    "ticket",
    "blanket",
    "engine",
    "letter",
    "orchard",
    "bridge",
    "candle",
    "museum",
    "pocket",
    "saddle",
    "thunder",
    "village",
    "whistle",
    "basket",
    "copper",
    "feather",
    "island",
]
LINKS = "and while because after before since until where although".split()  # noqa: SIM905


def number(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def sentence(key: object) -> str:
    """Words of no meaning, different for different keys."""
    rng = random.Random(number("sentence", key))
    first, second, third = rng.sample(WORDS, 3)
    return f"My {first} met the {second} {rng.choice(LINKS)} a {third} number {rng.randrange(10_000)} came along."


def text_of(request: dict, index: int) -> str:
    """The answer to a request, whatever server it is sent to."""
    key = json.dumps([request["messages"], request.get("seed"), index], sort_keys=True)
    if choices := choices_of(request):
        return choices[number("choice", key) % len(choices)]
    if schema := schema_of(request):
        return json.dumps(value_of(schema, key), separators=(",", ":"))
    if number("refused", key) % 8 == 0:
        return "As an AI language model I cannot help with that."
    return sentence(key)


def key_of(request: dict) -> str:
    """What tells requests apart, in the server's form and in the client's."""
    constrained = bool(choices_of(request) or request.get("choices"))
    parts = [request["messages"], request["seed"], request["n"], request["max_tokens"], constrained]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def choices_of(request: dict) -> list[str]:
    return (request.get("structured_outputs") or {}).get("choice") or []


def schema_of(request: dict) -> dict | None:
    return ((request.get("response_format") or {}).get("json_schema") or {}).get("schema")


def value_of(schema: dict, key: str):
    """A value that fits the schema."""
    if "enum" in schema:
        return schema["enum"][number("enum", key) % len(schema["enum"])]
    if schema["type"] == "object":
        return {name: value_of(each, f"{key} {name}") for name, each in schema["properties"].items()}
    if schema["type"] == "array":
        least, most = schema.get("minItems", 0), schema.get("maxItems", 3)
        count = least + number("count", key) % (most - least + 1)
        return [value_of(schema["items"], f"{key} {place}") for place in range(count)]
    return sentence(key)


class FakeServer:
    """State of one server. `faults` strike `share` of the attempts; `hopeless` are shares of the conversations whose
    opening is refused, answered with garbage, or kills the connection at every attempt; `bias` makes it answer the
    first of two choices whatever is asked; `ignores` makes it keep to no constraint; `down` closes every connection."""

    def __init__(
        self, *, latency=0.0, faults=(), share=0.3, seed=0, bias=False, ignores=False, key="", log=None, hopeless=None
    ):
        self.latency, self.faults, self.share, self.bias, self.ignores = latency, tuple(faults), share, bias, ignores
        self.key, self.log = key, log
        self.hopeless = hopeless or {}
        self.rng = random.Random(seed)
        self.asked: Counter[str] = Counter()  # requests by content
        self.paid: Counter[str] = Counter()  # answers handed out, by content
        self.struck: Counter[str] = Counter()
        self.headers: list[str] = []
        self.under_way = self.most = 0
        self.down = False

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/counts", self.counts)
        return app

    async def counts(self, request):
        return web.json_response({"paid": self.paid.total(), "asked": self.asked.total(), "most": self.most})

    async def models(self, request):
        if self.down:
            request.transport.abort()
        return web.json_response({"data": [{"id": MODEL}]})

    async def complete(self, request):
        if self.down:
            request.transport.abort()
            return web.Response()
        asked = await request.json()
        name = key_of(asked) if "seed" in asked else ""
        self.asked[name] += 1
        self.headers.append(request.headers.get("Authorization", ""))
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": f"wrong key {self.headers[-1]}"}}, status=401)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            if (never := self.never(request, asked)) is not None:
                return never
            fault = self.rng.choice(self.faults) if self.faults and self.rng.random() < self.share else None
            if fault is not None:
                self.struck[fault] += 1
                struck = await self.strike(fault, request, asked)
                if struck is not None:
                    return struck
            response = web.json_response(self.answer(asked))
        finally:
            self.under_way -= 1
        if self.log is not None:
            self.log.write(name + "\n")
            self.log.flush()
        self.paid[name] += 1
        return response

    def never(self, request, asked: dict):
        """The response to an opening that this server will never answer; None for all others."""
        messages = asked["messages"]
        if len(messages) != 2 or messages[0]["role"] != "system" or messages[1]["content"] == "Hello!":
            return None  # no opening of a user, or a probe
        if choices_of(asked) or schema_of(asked):
            return None
        drawn = number("hopeless", json.dumps(messages), asked.get("seed")) % 1000 / 1000
        for kind, share in self.hopeless.items():
            if drawn < share:
                self.struck[kind] += 1
                if kind == "dies":
                    request.transport.abort()
                    return web.Response()
                if kind == "garbage":
                    return web.Response(text="<<<< " + sentence(drawn), content_type="text/plain")
                refusal = {"message": "the prompt was filtered", "code": "content_filter", "param": "prompt"}
                return web.json_response({"error": refusal}, status=400)
            drawn -= share
        return None

    def answer(self, asked: dict) -> dict:
        choices = [self.choice(asked, index) for index in range(asked.get("n", 1))]
        tokens = sum(len(each["message"]["content"].split()) for each in choices)
        usage = {"prompt_tokens": len(json.dumps(asked["messages"])) // 4, "completion_tokens": tokens}
        return {"model": MODEL, "choices": choices, "usage": usage}

    def choice(self, asked: dict, index: int) -> dict:
        if self.ignores and (choices_of(asked) or schema_of(asked)):
            asked = {**asked, "structured_outputs": None, "response_format": None}
        text = text_of(asked, index)
        options = choices_of(asked)
        if self.bias and options:
            text = options[0]
        found = {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        if asked.get("logprobs"):
            found["logprobs"] = {"content": self.logprobs(text, options, asked.get("top_logprobs", 0))}
        return found

    def logprobs(self, text: str, options: list[str], top: int) -> list[dict]:
        if not options:
            shown = [{"token": "well", "logprob": -1.0}, {"token": "so", "logprob": -2.0}]
            return [{"token": word, "logprob": -1.0, "top_logprobs": shown[:top]} for word in text.split()]
        share = 1.0 if self.bias else 0.8  # of the choice that is given; the others share the rest
        rest = (1.0 - share) / max(1, len(options) - 1)
        shown = [{"token": each, "logprob": math.log(max(share if each == text else rest, 1e-9))} for each in options]
        return [{"token": text, "logprob": math.log(share), "top_logprobs": shown[:top]}]

    async def strike(self, fault: str, request, asked: dict):
        if fault == "429":
            return web.json_response({"error": {"message": "too many"}}, status=429)
        if fault == "429 with Retry-After":
            return web.json_response({"error": {"message": "too many"}}, status=429, headers={"Retry-After": "0.01"})
        if fault == "500":
            return web.json_response({"error": {"message": "oh no"}}, status=500)
        if fault == "dropped connection":
            request.transport.abort()
            return web.Response()
        whole = self.answer(asked)
        if fault == "torn JSON":
            return web.Response(text=json.dumps(whole)[:-20], content_type="application/json")
        if fault == "wrong model":
            return web.json_response({**whole, "model": "another-7b"})
        if fault == "wrong logprobs" and asked.get("logprobs"):
            for each in whole["choices"]:
                each["logprobs"]["content"][0]["logprob"] = 17.0
            return web.json_response(whole)
        if fault == "ignored constraint" and (choices_of(asked) or schema_of(asked)):
            for each in whole["choices"]:
                each["message"]["content"] = "Well, that depends."
            return web.json_response(whole)
        if fault in ("torn body", "slow drip"):
            response = web.StreamResponse(headers={"Content-Length": "100000"})
            await response.prepare(request)
            for _ in range(1 if fault == "torn body" else 5):
                await response.write(b'{"choices": [')
                await asyncio.sleep(0.002)
            request.transport.abort()
            return response
        return None  # the fault has nothing to spoil here


async def serve(server: FakeServer, port: int) -> tuple[web.AppRunner, int]:
    """Start it; returns what stops it and the port."""
    runner = web.AppRunner(server.app(), shutdown_timeout=0.01, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    return runner, runner.addresses[0][1]


@contextlib.asynccontextmanager
async def serving(*servers: FakeServer):
    """The servers' addresses with commas between them; they end with the block."""
    async with contextlib.AsyncExitStack() as stack:
        urls = []
        for server in servers:
            runner, port = await serve(server, 0)
            stack.push_async_callback(runner.cleanup)
            urls.append(f"http://127.0.0.1:{port}/v1")
        yield ",".join(urls)


@contextlib.contextmanager
def running(server: FakeServer):
    """The server's address; it runs in a thread of its own until the block ends."""
    loop, found, started = asyncio.new_event_loop(), [], threading.Event()

    def work():
        asyncio.set_event_loop(loop)
        found.append(loop.run_until_complete(serve(server, 0)))
        started.set()
        loop.run_forever()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    started.wait()
    try:
        yield f"http://127.0.0.1:{found[0][1]}/v1"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--faults", default="")
    parser.add_argument("--log", default="")
    options = parser.parse_args()
    faults = FAULTS if options.faults == "all" else [each for each in options.faults.split(",") if each]
    log = open(options.log, "a") if options.log else None  # noqa: SIM115 - for as long as it serves
    _, port = await serve(FakeServer(latency=options.latency, faults=faults, log=log), options.port)
    print(port, flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())

"""The page of `aloe serve` over a server that streams scripted replies, a token per event, and misbehaves when told to:
what the page does in the middle of a reply cannot be held still with a real engine."""

import asyncio
import json
import math
import random

from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from aloe_jax.serve.server.access import Access
from aloe_jax.serve.server.http_server import HttpServer
from aloe_jax.serve.server.page_endpoint import routes
from helpers.tree_samples import tokenizer

MODELS = ("runs/quiet/base", "runs/quiet/aligned")
REPLIES = (
    "Walk along the harbour early, before the boats come in, and then look for the bookshop behind the church.",
    "There is a lot to do! The market opens on Saturday at nine, and the lighthouse has a café.",
    "What do you enjoy when you have a day to yourself: being outside, making something, or company?",
    "A reading room with a stove sounds right. The library keeps one upstairs, and hardly anybody knows it.",
    "<b>Bold</b> idea: swim.\n\nThen have soup.",
)
BELIEF = [
    {"item": "I like quiet places and old books.", "turn": 2},
    {"item": "I have just moved to a small town by the sea.", "turn": 1},
]  # what every model has learned
HELD, LOST, REFUSED, CUT = "hold", "lose", "refuse", "cut"  # messages with an effect
SHOWN = 3  # tokens before a reply is held or lost


def events(model, messages, seed, cut=None, text=None):
    """The data of each event of a reply: one token, and the end of the turn unless it is `cut` after some tokens. A
    `text` is the reply in place of a drawn one."""
    vocabulary = tokenizer()
    draw = random.Random(f"{model} {messages} {seed}")
    # Different for the two models and for seeds that follow each other.
    text = text or REPLIES[(MODELS.index(model) + 2 * seed + len(messages)) % len(REPLIES)]
    ids = vocabulary.encode(text)
    kept = ids[:cut] if cut else [*ids, min(vocabulary.end_of_turn_ids)]
    told = ""
    for number, token in enumerate(kept):
        whole = vocabulary.decode(kept[: number + 1])
        new = "" if whole.endswith("\ufffd") else whole[len(told) :]
        told += new
        logprob = -(draw.random() ** 3) * 6
        top = [
            {"token": word, "logprob": math.log(0.3 / (place + 1))} for place, word in enumerate((" the", " a", " I"))
        ]
        entry = {"token": vocabulary.decode([token], skip_special=False), "logprob": logprob, "top_logprobs": top}
        last = number + 1 == len(kept)
        choice = {
            "index": 0,
            "delta": {"content": new},
            "logprobs": {"content": [entry]},
            "token_ids": [token],
            "finish_reason": ("length" if cut else "stop") if last else None,
        }
        yield {"object": "chat.completion.chunk", "choices": [choice], "tokenizer_hash": vocabulary.hash}


class StreamingServer:
    """Serves MODELS between `with` and its end. `requests` are the bodies that came."""

    def __init__(self, port=0, trees=None, models=MODELS, pause=0.0):
        self.requests, self.models, self.pause = [], models, pause
        self._released, self._loop = asyncio.Event(), None
        self.sent = 0  # tokens of the last reply
        self.gone = 0  # replies whose reader left
        mine = [
            *routes(Access([], 2**20), trees),
            Route("/v1/models", self._models),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
        ]
        self.http = HttpServer(Starlette(routes=mine), "127.0.0.1", port)

    def release(self):
        """Let held replies go on, and lose those to be lost."""
        self._loop.call_soon_threadsafe(self._released.set)

    def texts(self, number):
        """The text of each token of the reply to a request."""
        body = self.requests[number]
        found = events(body["model"], body["messages"], body["seed"])
        return [data["choices"][0]["delta"]["content"] for data in found]

    def _models(self, request):
        cards = [{"id": name, "tokenizer_hash": tokenizer().hash} for name in self.models]
        return JSONResponse({"object": "list", "data": cards})

    async def _chat(self, request):
        body = await request.json()
        self.requests.append(body)
        said = body["messages"][-1]["content"]
        if said == REFUSED:
            error = {"error": {"message": "too many requests are waiting", "type": "rate_limit_error"}}
            return JSONResponse(error, 429, {"Retry-After": "7"})
        return StreamingResponse(self._stream(body, said), media_type="text/event-stream")

    async def _stream(self, body, said):
        self._loop, self.sent = asyncio.get_running_loop(), 0
        seed = body.get("seed", len(self.requests))
        text = json.dumps({"known": BELIEF}) if "response_format" in body else None
        reply = events(body["model"], body["messages"], seed, cut=5 if said == CUT else None, text=text)
        try:
            for number, data in enumerate(reply):
                if number == SHOWN and said in (HELD, LOST):
                    await self._released.wait()
                    if said == LOST:
                        raise ConnectionAbortedError("as told")
                yield f"data: {json.dumps(data)}\n\n"
                self.sent = number + 1
                await asyncio.sleep(self.pause)
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.gone += 1
            raise

    def __enter__(self):
        self.http.start()
        return self

    def __exit__(self, *failure):
        self.http.stop()

"""Minutes of many clients at one server: nothing may be lost or left, and replies are those given alone. Run by hand:

    PYTHONPATH=tests uv run python tests/long/server_load.py --minutes=10

The server is in this process, its clients in another one, which does not slow it. The first half of the time is without
constrained requests, the second with one in five. A reply equals the one that a server with a single slot gave before
the load, unless the two best tokens lie within 1e-4 of each other; of a seeded reply the noise that was added is not
known, so its differences are counted, and one in 500 is allowed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

NAME = "load"
CHAT = "/v1/chat/completions"
WARM_UP = 10.0  # seconds of load before the first measurement
GROWTH = 32 << 20  # bytes that the process may grow by in the second half
NEAR = 1e-4  # log-probabilities of two tokens that rounding may exchange
CLOSE = 5e-5  # of the same token beside other neighbours
SHARED = "You are a patient friend who asks before giving advice, and answers in a few plain words."
WORDS = tuple(f"{start}{end}" for start in ("ba", "mo", "ti", "fen", "sul") for end in ("ra", "lin", "do", "st", "ek"))
CONSTRAINTS: tuple[dict[str, Any], ...] = (
    {"choice": ["yes", "no", "maybe so"]},
    {"regex": "[a-f]{3,12}"},
    {"json": {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}},
)
BAD: tuple[tuple[str, bytes | dict[str, Any]], ...] = (
    (CHAT, b"{"),
    (CHAT, b"[" * 100_000),
    (CHAT, {"n": 0}),
    (CHAT, {"model": "another"}),
    (CHAT, {"messages": []}),
    (CHAT, {"messages": [{"role": "user", "content": "x " * 20_000}]}),
    (CHAT, {"max_tokens": 10**9}),
    (CHAT, {"structured_outputs": {"regex": "(a"}}),
    (CHAT, {"made_up": 1}),
    ("/v1/completions", {"prompt": 5}),
    ("/v1/nothing", {}),
)


def a_request(draw: np.random.Generator, constrained: bool) -> dict[str, Any]:
    """A greedy or seeded request; its words come from few, so that many prompts begin alike."""
    said = lambda most: " ".join(draw.choice(WORDS, draw.integers(1, most)))  # noqa: E731
    messages = [{"role": "system", "content": SHARED}] if draw.random() < 0.5 else []
    for _ in range(draw.integers(0, 3)):
        messages += [{"role": "user", "content": said(10)}, {"role": "assistant", "content": said(10)}]
    messages.append({"role": "user", "content": said(25)})
    request: dict[str, Any] = {
        "model": NAME,
        "messages": messages,
        "max_tokens": int(draw.integers(1, 48)),
        "seed": int(draw.integers(2**32)),
        "temperature": float(draw.choice([0.0, 0.7, 1.0])),
        "n": int(draw.choice([1, 1, 1, 2, 3])),
        "logprobs": True,
        "top_logprobs": 2,
        "return_token_ids": True,
    }
    if constrained:
        request["structured_outputs"] = CONSTRAINTS[draw.integers(len(CONSTRAINTS))]
    elif draw.random() < 0.3:
        request["stop"] = [str(each) for each in draw.choice(["e", "a ", "th", "\n", "é"], 2, replace=False)]
    return request


class Clients:
    """Many clients at one server, in one event loop, until a time is over."""

    def __init__(self, url: str, work: dict[str, Any], seed: int) -> None:
        self._url, self._seed = url, seed
        self._specs = [
            spec for spec in work["specs"] if work["constrained"] or "structured_outputs" not in spec["body"]
        ]
        self._end = time.monotonic() + work["seconds"]
        self.counts: Counter[str] = Counter()
        self.first: list[float] = []  # seconds to the first token of an unconstrained stream
        self.per_token: list[float] = []  # and per token behind the first ones
        self.problems: list[str] = []

    async def run(self, clients: int) -> None:
        timeout, connector = aiohttp.ClientTimeout(total=600), aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(self._url, timeout=timeout, connector=connector) as self._session:
            await asyncio.gather(*(self._client(number) for number in range(clients)))

    async def _client(self, number: int) -> None:
        draw = np.random.default_rng([self._seed, number])
        while time.monotonic() < self._end and len(self.problems) < 20:
            spec, lot = self._specs[draw.integers(len(self._specs))], draw.random()
            try:
                if lot < 0.10:
                    await self._bad(draw)
                elif lot < 0.25:
                    await self._leave(spec["body"], draw)
                elif lot < 0.65:
                    await self._stream(spec)
                else:
                    await self._whole(spec)
            except (aiohttp.ClientError, AssertionError, TimeoutError, KeyError, ValueError) as error:
                self.problems.append(f"{type(error).__name__}: {error}; {json.dumps(spec['body'])[:500]}")
            await asyncio.sleep(draw.random() * 0.05)

    async def _bad(self, draw: np.random.Generator) -> None:
        path, body = BAD[draw.integers(len(BAD))]
        if isinstance(body, dict):
            body = json.dumps({"model": NAME, "messages": [{"role": "user", "content": "x"}]} | body).encode()
        async with self._session.post(path, data=body, headers={"Content-Type": "application/json"}) as response:
            answer = await response.json()
        assert 400 <= response.status < 500, f"{response.status} for {body[:80]!r}"
        assert set(answer["error"]) == {"message", "type", "param", "code"}, answer
        self.counts["bad"] += 1

    async def _leave(self, body: dict[str, Any], draw: np.random.Generator) -> None:
        """Go away after some events of a stream, or after a while."""
        stream, patience = bool(draw.random() < 0.6), draw.random() * 0.3
        most = int(draw.integers(0, 4))

        async def ask() -> None:
            async with self._session.post(CHAT, json=body | {"stream": stream, "max_tokens": 48}) as response:
                async for _, _ in response.content.iter_chunks():
                    nonlocal most
                    most -= 1
                    if stream and most < 0:
                        response.close()
                        return

        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ask(), None if stream and most else patience)
        self.counts["left"] += 1

    async def _whole(self, spec: dict[str, Any]) -> None:
        async with self._session.post(CHAT, json=spec["body"]) as response:
            answer = await response.json()
        if response.status == 429:
            self.counts["429"] += 1
            return
        assert response.status == 200, answer
        self._compare(spec, [_reply(choice, choice["message"]["content"]) for choice in answer["choices"]])
        self.counts["whole"] += 1

    async def _stream(self, spec: dict[str, Any]) -> None:
        asked, replies = time.monotonic(), [_reply({}, "") for _ in range(spec["body"]["n"])]
        first: float | None = None
        begun, last, ended = [0] * len(replies), [0.0] * len(replies), False
        starts = [0.0] * len(replies)
        async with self._session.post(CHAT, json=spec["body"] | {"stream": True}) as response:
            if response.status == 429:
                self.counts["429"] += 1
                return
            assert response.status == 200, await response.text()
            async for line in response.content:
                now = time.monotonic()
                if not line.startswith(b"data: "):
                    continue
                if line == b"data: [DONE]\n":
                    ended = True
                    continue
                chunk = json.loads(line[6:])
                assert "error" not in chunk, chunk
                for choice in chunk["choices"]:
                    index, ids = choice["index"], choice.get("token_ids") or []
                    _extend(replies[index], choice, choice["delta"].get("content") or "")
                    if ids:
                        first = first or now
                        if not begun[index]:
                            begun[index], starts[index] = len(ids), now
                        last[index] = now
        assert ended, "a stream without [DONE]"
        self._compare(spec, replies)
        self.counts["streamed"] += 1
        if "structured_outputs" not in spec["body"] and first is not None:
            self.first.append(first - asked)
            for reply, count, start, end in zip(replies, begun, starts, last, strict=True):
                if len(reply["ids"]) > count:
                    self.per_token.append((end - start) / (len(reply["ids"]) - count))

    def _compare(self, spec: dict[str, Any], replies: list[dict[str, Any]]) -> None:
        greedy = spec["body"]["temperature"] == 0
        for reply, alone in zip(replies, spec["alone"], strict=True):
            self.counts["compared"] += 1
            places = zip(reply["ids"], alone["ids"], strict=False)
            place = next((place for place, (one, other) in enumerate(places) if one != other), None)
            np.testing.assert_allclose(reply["log_probs"][:place], alone["log_probs"][:place], atol=CLOSE)
            if place is None:
                assert {**reply, "log_probs": 0, "gaps": 0} == {**alone, "log_probs": 0, "gaps": 0}, "another reply"
            elif greedy:
                assert alone["gaps"][place] < NEAR, f"another token at {place}, {alone['gaps'][place]} apart"
                self.counts["greedy ties"] += 1
            else:
                self.counts["seeded ties"] += 1


def _reply(choice: dict[str, Any], text: str) -> dict[str, Any]:
    reply: dict[str, Any] = {"ids": [], "log_probs": [], "gaps": [], "text": "", "reason": None}
    _extend(reply, choice, text)
    return reply


def _extend(reply: dict[str, Any], choice: dict[str, Any], text: str) -> None:
    reply["text"] += text
    reply["reason"] = choice.get("finish_reason") or reply["reason"]
    reply["ids"] += choice.get("token_ids") or []
    for token in (choice.get("logprobs") or {}).get("content") or []:
        best = [each["logprob"] for each in token["top_logprobs"]]
        reply["log_probs"].append(token["logprob"])
        reply["gaps"].append(best[0] - best[1] if len(best) > 1 else float(np.inf))


def be_clients(options: argparse.Namespace) -> None:
    """The body of the clients' process: what they did, as JSON."""
    work = json.loads(Path(options.work).read_text())
    clients = Clients(options.against, work, options.seed)
    asyncio.run(clients.run(options.clients))
    found = {name: getattr(clients, name) for name in ("counts", "first", "per_token", "problems")}
    Path(options.work).with_suffix(".out").write_text(json.dumps(found))


def make(model: str, slots: int) -> tuple[Any, Any]:
    """An engine of the tiny random model or of SmolLM2, and its chat format."""
    from aloe_jax.decode.constraint import Grammar
    from aloe_jax.decode.engine import Engine
    from aloe_jax.serve.local import load_engine
    from helpers.tiny import CHAT as FORMAT
    from helpers.tiny import MODEL, params

    if model == "smollm2":
        return load_engine("embedded:smollm2", slots=slots, context=1024)
    tokenizer = FORMAT.tokenizer
    ends, vocab = tokenizer.end_of_turn_ids, tokenizer.vocab_size
    engine = Engine(
        MODEL, params(), slots=slots, context=768, end_of_turn=ends, vocab=vocab, grammar=Grammar(tokenizer)
    )
    return engine, FORMAT


def alone(model: str, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The requests with the replies that each gets when nobody else asks; those that do not fit are left out."""
    import urllib.error
    import urllib.request

    from aloe_jax.serve.server.server import Server

    specs = []
    with Server(*make(model, 1), NAME) as server:
        for body in requests:
            data = json.dumps(body).encode()
            asked = urllib.request.Request(f"{server.base_url}/chat/completions", data, method="POST")
            try:
                with urllib.request.urlopen(asked, timeout=600) as response:
                    choices = json.load(response)["choices"]
            except urllib.error.HTTPError:
                continue
            specs.append({"body": body, "alone": [_reply(each, each["message"]["content"]) for each in choices]})
    return specs


def held(engine: Any) -> dict[str, int]:
    """What the process and its engine hold now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    state = engine.state
    return {
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "bytes": pages * resource.getpagesize(),
        "used pages": state.used_pages,
        "running": state.running,
        "waiting": len(engine._waiting),
    }


def load(
    server: Any, options: argparse.Namespace, specs: list[Any], seconds: float, constrained: bool
) -> dict[str, Any]:
    """What the clients of another process did in these seconds."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work.json"
        work.write_text(json.dumps({"specs": specs, "seconds": seconds, "constrained": constrained}))
        address = server.base_url.removesuffix("/v1")
        command = [sys.executable, __file__, f"--against={address}", f"--work={work}"]
        command += [f"--clients={options.clients}", f"--seed={options.seed + int(seconds * 10) + constrained}"]
        subprocess.run(command, check=True)
        found = json.loads(work.with_suffix(".out").read_text())
    for problem in found["problems"]:
        print(f"problem: {problem}", flush=True)
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(found["counts"].items()))
    print(f"{'with' if constrained else 'without'} constrained neighbours, {seconds:.0f} s: {told}")
    for name, values in (("first token", found["first"]), ("per token", found["per_token"])):
        if values:
            p50, p99 = np.percentile(values, [50, 99]) * 1000
            print(f"  {name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(values):,} unconstrained streams", flush=True)
    return found


def be_server(options: argparse.Namespace) -> None:
    """Load a server and look at what is left."""
    from aloe_jax.serve.server.server import Server

    draw = np.random.default_rng(options.seed)
    slots = options.slots or {"tiny": 16, "smollm2": 8}[options.model]
    wanted = options.requests or {"tiny": 300, "smollm2": 60}[options.model]
    specs = alone(options.model, [a_request(draw, constrained=number % 5 == 0) for number in range(wanted)])
    print(f"{len(specs)} requests, each answered alone by a server with one slot", flush=True)
    engine, chat = make(options.model, slots)
    engine.warm_up()
    with Server(engine, chat, NAME) as server:
        load(server, options, specs, WARM_UP, True)
        kept, found = [settled(engine)], []
        for constrained in (False, True):
            found.append(load(server, options, specs, 30 * options.minutes, constrained))
            kept.append(settled(engine))
    for when, each in zip(("before", "between", "after"), kept, strict=True):
        print(f"held {when}: {each}", flush=True)
    begin, between, end = kept
    counts: Counter[str] = sum((Counter(each["counts"]) for each in found), Counter())
    problems = [problem for each in found for problem in each["problems"]]
    assert not problems, f"{len(problems)} problems"
    assert server.failure is None
    assert counts["seeded ties"] <= 1 + counts["compared"] // 500, "too many differences for ties"
    for share in engine._shares:
        assert share.tree.held == share.tree.unused, "a page without tokens is held"
        assert not share.running
        assert not share._promised
    assert not engine._finished
    for name in ("threads", "files", "used pages", "running", "waiting"):
        assert end[name] == begin[name], f"{name}: {begin[name]} before, {end[name]} after"
    grown = end["bytes"] - between["bytes"]  # what is made once was made in the first half
    assert grown < GROWTH, f"{grown / 2**20:.0f} MiB more"
    print("nothing was left")


def settled(engine: Any) -> dict[str, int]:
    """What is held when connections have been closed and requests of clients who left were cancelled."""
    deadline = time.monotonic() + 30
    while (engine.busy or engine.state.running) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(6)  # longer than an idle connection is kept
    return held(engine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--model", choices=("tiny", "smollm2"), default="tiny")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--slots", type=int, help="sequences that decode together (default: 16, smollm2: 8)")
    parser.add_argument("--requests", type=int, help="different requests (default: 300, smollm2: 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--against", help=argparse.SUPPRESS)  # of the clients' process
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.against:
        be_clients(options)
    else:
        be_server(options)


if __name__ == "__main__":
    main()

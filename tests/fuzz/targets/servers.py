"""Answers of chat servers: statuses, headers and bodies on the wire, read by the client and by its probe."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.client import Client, Timing
from aloe_jax.serve.client.probe import probe as probe_servers
from aloe_jax.tree.schema import Message
from fuzz import mutators
from fuzz.case import Case, Result, function

HELLO = [Message(role="user", content="Hello there!")]
STATUSES = (200, 201, 204, 206, 301, 302, 307, 304, 400, 401, 403, 404, 405, 413, 422, 429, 500, 502, 503, 529, 999)
HEADERS = (
    "Retry-After: 1", "Retry-After: soon", "Retry-After: -5", "Retry-After: 99999999999999999999", "Retry-After: inf",
    "Retry-After: Wed, 21 Oct 2099 07:28:00 GMT", "Retry-After: Wed, 99 Oct 99999 07:28:00 GMT", "Retry-After: ",
    "Content-Encoding: br", "Content-Encoding: gzip", "Content-Encoding: zstd", "Transfer-Encoding: chunked",
    "Location: /v1/other", "Location: http://[::1", "Content-Type: text/html", "Content-Type: application/json; x=\"",
    "Content-Type: text/plain; charset=utf-16", "Content-Length: 5", "X: \xff", "Broken header", "Set-Cookie: a",
)  # fmt: skip
TEXT = "A walk along the river, perhaps."


def _good(n: int = 1, more: dict[str, Any] | None = None) -> dict[str, Any]:
    token = {"token": "A", "logprob": -0.5, "bytes": [65], "top_logprobs": [{"token": "A", "logprob": -0.5}]}
    return {
        "id": "c-1", "object": "chat.completion", "created": 1, "model": "tiny", "system_fingerprint": None,
        "choices": [
            {"index": at, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop",
             "logprobs": {"content": [token, token]}}
            for at in range(n)
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}, **(more or {}),
    }  # fmt: skip


def _answer(rng: random.Random, n: int) -> tuple[bytes, str]:
    """The bytes of an HTTP response, mutated, and the change in words."""
    status, headers, told = 200, ["Content-Type: application/json"], []
    value: Any = _good(n)
    if rng.random() < 0.3:
        status = rng.choice(STATUSES)
        value = {
            "error": {"message": f"scripted {status}", "type": "x", "code": rng.choice(("content_filter", None, 3))}
        }
        told.append(str(status))
    if rng.random() < 0.75:
        value, change = mutators.mutate_json(rng, value)
        told.append(change)
    if isinstance(value, dict) and isinstance(value.get("choices"), list) and rng.random() < 0.2:
        for choice in value["choices"]:
            if isinstance(choice, dict):
                choice["finish_reason"] = rng.choice(
                    ("length", "content_filter", "abort", None, "error", "tool_calls", 3)
                )
    body = mutators.json_text(value).encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        body, change = mutators.mutate_bytes(rng, body)
        told.append(change)
    if rng.random() < 0.25:
        headers.append(rng.choice(HEADERS))
        told.append(headers[-1])
    if not any(header.startswith(("Content-Length", "Transfer")) for header in headers):
        headers.append(f"Content-Length: {len(body) + (rng.choice((-3, 9)) if rng.random() < 0.05 else 0)}")
    head = f"HTTP/1.1 {status} Something\r\n" + "\r\n".join((*headers, "Connection: close")) + "\r\n\r\n"
    raw = head.encode("latin-1") + body
    if rng.random() < 0.05:
        raw, change = mutators.mutate_bytes(rng, raw)
        told.append(f"wire {change}")
    return raw, ", ".join(told) or "nothing"


class Wire:
    """A server that writes the given bytes, one response per connection; the last one repeats."""

    def __init__(self, responses: list[bytes]) -> None:
        self.responses, self.count = responses, 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(row.split(b":")[1]) for row in head.lower().split(b"\r\n") if row.startswith(b"content-length")), 0
            )
            await reader.readexactly(length)
            writer.write(self.responses[min(self.count, len(self.responses) - 1)])
            self.count += 1
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def __aenter__(self) -> str:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/v1"

    async def __aexit__(self, *error: object) -> None:
        self.server.close()


def _timing() -> Timing:
    """Pauses that take no time on the wall and their time on the clock of the client."""
    passed = [0.0]

    async def sleep(seconds: float) -> None:
        passed[0] += seconds
        await asyncio.sleep(0)

    return Timing(sleep=sleep, now=lambda: 1e6 + passed[0], jitter=lambda low, high: high)


def _asked(responses: list[bytes], use: Callable[[Client], Any]) -> Any:
    async def run() -> Any:
        options = {"retries": 2, "timeout": 3.0, "patience": 5.0, "timing": _timing()}
        async with Wire(responses) as url, Client(url, "tiny", **options) as client:
            return await use(client)

    return asyncio.run(run())


def answers(rng: random.Random, folder: Path) -> Case:
    """A chat completion: the text of the answer, or the reason why there is none."""
    n = rng.choice((1, 1, 2))
    raw, told = _answer(rng, n)
    good = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
        + json.dumps(_good(n)).encode()
    )
    responses = [raw, good] if rng.random() < 0.3 else [raw]
    (folder / "response").write_bytes(b"".join(responses))
    found: list[Answer] = []

    async def use(client: Client) -> None:
        found[:] = await client.chat(HELLO, seed=1, n=n, top_logprobs=rng.choice((0, 1)), max_tokens=16)

    return Case(
        function(lambda: _asked(responses, use)), f"a chat completion with n={n}", told,
        check=lambda result: _sound(found, n, responses),
    )  # fmt: skip


def _sound(found: list[Answer], n: int, responses: list[bytes]) -> str | None:
    """What is wrong with answers that were taken."""
    if len(found) != n:
        return f"{len(found)} answers where {n} were asked"
    for one in found:
        one.text.encode()  # a lone surrogate could be written nowhere
        if any(not -1e9 < value <= 1e-3 for value in one.logprobs or ()):
            return f"log-probabilities {one.logprobs}"
        if len(responses) > 1:
            continue
        try:
            choices = json.loads(responses[0].partition(b"\r\n\r\n")[2])["choices"]
            reasons = [choice.get("finish_reason") for choice in choices]
            texts = [choice["message"]["content"] for choice in choices]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        plain = all(isinstance(text, str) and "think>" not in text for text in texts)
        if plain and one.text.strip() not in [text.strip() for text in texts]:
            return f"the text {one.text[:80]!r} is in no choice"
        if all(reason not in ("stop", None) for reason in reasons) and not one.truncated:
            return f"finish_reason {reasons} counts as a normal end"
    return None


def probe(rng: random.Random, folder: Path) -> Case:
    """What the probe makes of a server that answers oddly."""
    shapes = [_answer(rng, 1) for _ in range(rng.choice((1, 2, 6)))]
    models = json.dumps({"object": "list", "data": [{"id": "tiny"}]}).encode()
    listed = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + models
    responses = [raw for raw, _ in shapes]
    if rng.random() < 0.7:
        responses = [listed, *responses]
    (folder / "response").write_bytes(b"".join(responses))

    async def use(client: Client) -> None:
        await probe_servers(client)

    told = "; ".join(change for _, change in shapes)
    return Case(function(lambda: _asked(responses, use)), "the probe of a server", told, check=_quiet)


def _quiet(result: Result) -> str | None:
    return None

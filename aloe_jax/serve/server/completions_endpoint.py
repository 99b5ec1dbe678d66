"""POST /v1/completions."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from aloe_jax.decode.requests import Top
from aloe_jax.serve.generation import Generation, stop_reason
from aloe_jax.serve.prompts import echoed, text_prompts
from aloe_jax.serve.protocol.completions import CompletionRequest, CompletionResponse, TextChoice, TextLogprobs
from aloe_jax.serve.protocol.parsing import parse_request
from aloe_jax.serve.protocol.usage import Usage
from aloe_jax.serve.reply_text import TextDelta
from aloe_jax.serve.served_model import ServedModel
from aloe_jax.serve.server import delivery
from aloe_jax.serve.server.access import Access
from aloe_jax.serve.server.described import Operation

OPERATIONS = (
    Operation(
        "post",
        "/v1/completions",
        "Continue a text",
        answer=CompletionResponse,
        asked=(CompletionRequest,),
        chunk=CompletionResponse,
    ),
)


def routes(access: Access) -> list[Route]:
    """The route of text completions."""

    async def completions(http: HttpRequest) -> Response:
        request = parse_request(await access.body(http), CompletionRequest)
        model = access.model(request.model)
        prompts = await asyncio.to_thread(text_prompts, model, request)
        answer = await asyncio.to_thread(_Answer, model, request, prompts)  # which decodes what it echoes
        generation = Generation(model, request, prompts, score=request.echo and request.wants_logprobs)
        return await delivery.answered(http, generation, answer)

    return [Route("/v1/completions", completions, methods=["POST"])]


class _Answer:
    """Puts the completions of one request into the form of OpenAI's older API."""

    def __init__(self, model: ServedModel, request: CompletionRequest, prompts: Sequence[list[int]]) -> None:
        self._model, self._request, self._prompts = model, request, prompts
        self._frame: dict[str, Any] = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model.name,
            "tokenizer_hash": model.chat_format.tokenizer.hash if request.return_token_ids else None,
        }
        self._echoes = [
            echoed(model.chat_format.tokenizer, *pair) if request.echo else ("", [])
            for pair in zip(request.prompts, prompts, strict=True)
        ]

    def whole(self, completions: Sequence[TextDelta]) -> CompletionResponse:
        """The answer in one piece."""
        choices = [self._choice(each, first=True) for each in completions]
        sampled = sum(len(each.token_ids) for each in completions)
        return CompletionResponse(choices=choices, usage=self._usage(sampled), **self._frame)

    async def chunks(self, generation: Generation) -> AsyncIterator[str]:
        """The answer as JSON texts; the first one of each choice begins with the prompt where that is echoed."""
        options, sampled = self._request.stream_options, 0
        begun: set[int] = set()
        async for delta in generation:
            sampled += len(delta.token_ids)
            choice = self._choice(delta, first=delta.index not in begun)
            begun.add(delta.index)
            usage = self._usage(sampled) if options.continuous_usage_stats else None
            chunk = CompletionResponse(choices=[choice], usage=usage, **self._frame)
            yield chunk.model_dump_json(exclude=options.left_out)
        if options.include_usage:
            yield CompletionResponse(choices=[], usage=self._usage(sampled), **self._frame).model_dump_json()

    def _usage(self, sampled: int) -> Usage:
        return Usage.of(sum(map(len, self._prompts)), sampled)

    def _choice(self, delta: TextDelta, first: bool) -> TextChoice:
        """A completion, or a part of one; the `first` part may begin with the prompt."""
        request, number = self._request, delta.index // self._request.n
        echo, _ = self._echoes[number]
        return TextChoice(
            index=delta.index,
            text=echo + delta.text if first else delta.text,
            logprobs=self._logprobs(delta, first) if request.wants_logprobs else None,
            finish_reason=delta.finish_reason,
            stop_reason=stop_reason(request, delta),
            token_ids=list(delta.token_ids) if request.return_token_ids else None,
            prompt_token_ids=self._prompts[number] if request.return_token_ids and first else None,
        )

    def _logprobs(self, delta: TextDelta, first: bool) -> TextLogprobs:
        number = delta.index // self._request.n
        echo, offsets = self._echoes[number]
        listed = TextLogprobs()
        if first and delta.prompt is not None:
            self._add(listed, self._prompts[number], delta.prompt.log_probs, delta.prompt.top, offsets)
        self._add(listed, delta.token_ids, delta.log_probs, delta.top, [len(echo) + each for each in delta.offsets])
        return listed

    def _add(
        self,
        listed: TextLogprobs,
        ids: Sequence[int],
        log_probs: Sequence[float | None],
        tops: Sequence[Top],
        offsets: Sequence[int],
    ) -> None:
        """Append tokens to a list. Each is among its most probable ones too, also where it is not one of them."""
        for token, log_prob, top, offset in zip(ids, log_probs, tops or ((),) * len(ids), offsets, strict=True):
            listed.tokens.append(self._name(token))
            listed.token_logprobs.append(log_prob)
            listed.text_offset.append(offset)
            if log_prob is None:
                listed.top_logprobs.append(None)
                continue
            named: dict[str, float] = {}
            for each, value in (*top, (token, log_prob)):
                named.setdefault(self._name(each), value)
            listed.top_logprobs.append(named)

    def _name(self, token: int) -> str:
        text = self._model.token_text(token)
        return f"token_id:{token}" if "\ufffd" in text else text

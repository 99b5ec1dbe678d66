"""Chat completions of one decoding engine: what the HTTP application and the in-process client share."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, NamedTuple

from aloe_jax.decode.requests import MAX_SEED, Completion, ConstraintError, Request, Sampling
from aloe_jax.errors import InputError
from aloe_jax.serve.client.thinking import opens_thoughts
from aloe_jax.serve.protocol import ApiError, ChatRequest, Usage
from aloe_jax.serve.worker import OverloadedError, UnavailableError, Worker
from aloe_jax.tree.template import ChatFormat


class Completed(NamedTuple):
    """Token ids of the prompt, and its completions."""

    prompt: list[int]
    completions: list[Completion]

    @property
    def usage(self) -> Usage:
        sampled = sum(len(completion.token_ids) for completion in self.completions)
        prompt = len(self.prompt)
        return Usage(prompt_tokens=prompt, completion_tokens=sampled, total_tokens=prompt + sampled)


class ChatCompletions:
    """Turns a chat request into one of the engine behind `worker`, and its completions into texts."""

    def __init__(self, worker: Worker, chat_format: ChatFormat) -> None:
        self._worker = worker
        self._chat = chat_format

    @property
    def tokenizer_hash(self) -> str:
        """Of the tokenizer that token ids belong to."""
        return self._chat.tokenizer.hash

    async def complete(self, request: ChatRequest, gone: asyncio.Future[Any] | None = None) -> Completed | None:
        """The completions, or None if `gone` is done before them; the engine's request is cancelled then, as it is
        where this coroutine is.

        Raises ApiError: 400 for a request that the template or the engine refuses, 429 and 503 where the worker takes
        none.
        """
        prompt = self._prompt(request)
        try:
            answer = asyncio.wrap_future(self._worker.submit(self._engine_request(request, prompt)))
            try:
                await asyncio.wait([answer, gone] if gone else [answer], return_when=asyncio.FIRST_COMPLETED)
                return Completed(prompt, answer.result()) if answer.done() else None
            finally:
                answer.cancel()
        except ConstraintError as error:
            field = request.constraint[0] if request.constraint else None
            raise ApiError(400, f"field '{field}': {error}", param=field) from None
        except InputError as error:
            raise ApiError(400, str(error)) from None
        except OverloadedError:
            message = "too many requests are waiting; try again later"
            raise ApiError(429, message, type="rate_limit_error", headers={"Retry-After": "1"}) from None
        except UnavailableError:
            message = "the server is stopping or its decoding engine failed"
            raise ApiError(503, message, type="server_error") from None

    def text(self, completion: Completion) -> str:
        """The text of a reply."""
        return self._chat.tokenizer.decode(completion.text_ids)

    def token_text(self, token: int) -> str:
        """The text of one token, special ones included; with U+FFFD where it is a piece of a character."""
        return self._chat.tokenizer.decode([token], skip_special=False)

    def opens_thoughts(self, request: ChatRequest) -> bool:
        """Whether the template begins the model's thoughts in the prompt of a request that it renders."""
        return opens_thoughts(self._chat.render(request.messages, add_generation_prompt=True))

    def _prompt(self, request: ChatRequest) -> list[int]:
        """Token ids of the prompt. ApiError (400) if the template refuses the messages or the reply has no room."""
        try:
            prompt = self._chat.prompt_ids(request.messages)
        except InputError as error:
            raise ApiError(400, str(error), param="messages") from None
        wanted = request.limit or 1
        if len(prompt) + wanted > self._worker.context:
            raise ApiError(
                400,
                f"the messages take {len(prompt)} tokens and the reply may take {wanted}, together more than the "
                f"model's context of {self._worker.context}; shorten the messages or lower max_tokens",
                code="context_length_exceeded",
                param="messages",
            )
        return prompt

    def _engine_request(self, request: ChatRequest, prompt: list[int]) -> Request:
        sampling = Sampling(
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=max(request.top_k, 0),
            max_tokens=request.limit or self._worker.context - len(prompt),
            top_logprobs=request.top_logprobs,
        )
        constraint = request.constraint[1] if request.constraint else None
        seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
        return Request(prompt=tuple(prompt), sampling=sampling, seed=seed, n=request.n, constraint=constraint)

"""A chat client whose model decodes in this process: calls reach the engine without HTTP, and no port is opened."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, Unpack

from aloe_jax.decode.requests import Completion
from aloe_jax.errors import ResumableError
from aloe_jax.serve.client import answers, constraints
from aloe_jax.serve.client.abilities import Abilities, bodies
from aloe_jax.serve.client.answers import Answer, said
from aloe_jax.serve.client.call_errors import FailedCallError, RefusedCallError
from aloe_jax.serve.client.interface import CallOptions, ChatClient, Completions, Request, Response, call_id
from aloe_jax.serve.client.limits import AdaptiveLimit
from aloe_jax.serve.client.thinking import opens_thoughts
from aloe_jax.serve.generation import complete
from aloe_jax.serve.protocol.chat import ChatRequest
from aloe_jax.serve.protocol.errors import ApiError
from aloe_jax.serve.protocol.parsing import validated
from aloe_jax.serve.served_model import ServedModel
from aloe_jax.serve.worker import Engine, Worker
from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import ChatFormat
from aloe_jax.tree.tokenizer import Tokenizer

ADDRESS = "in process"
OUR_ABILITIES = Abilities()
ROUNDS = 64  # of the event loop, more than there are callbacks between an answer and the next question


@dataclass
class InProcess:
    """Implements `EndpointStatus` for an engine of this process."""

    model: str
    limit: AdaptiveLimit
    address: str = ADDRESS
    answered: int = 0
    retries: int = 0
    down: bool = False


class InProcessClient(ChatClient):
    """Chat completions of `engine` under the name `model`; the answers are those that a server of the engine gives.

    `identity` is the hash of the model and its template: the name alone does not say which model answered, so it is
    part of every request, and so of the id that its answers are stored under.

    Inside `with client` the engine belongs to a thread of its own. At most `concurrency` calls are under way.
    """

    def __init__(
        self, engine: Engine, chat_format: ChatFormat, model: str, *, concurrency: int, identity: str = ""
    ) -> None:
        self.model, self._identity = model, identity
        self.completions = Completions()
        self._endpoint = InProcess(model, AdaptiveLimit(concurrency, concurrency))
        self.endpoints = [self._endpoint]
        self._worker = Worker(engine, max_waiting=concurrency, settle=self._settle, deliver=self._deliver)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._served = ServedModel(model, self._worker, chat_format)
        self._places = asyncio.Semaphore(concurrency)
        self._open = 0  # calls that have no answer yet

    def __enter__(self) -> Self:
        self._worker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.stop()

    async def __aenter__(self) -> Self:
        self._places = asyncio.Semaphore(self._endpoint.limit.most)  # one of this event loop
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close: the engine stays with the surrounding `with`."""
        self._loop = None

    def request(self, messages: Sequence[Message], **options: Unpack[CallOptions]) -> Request:
        """A call as data, with the model's identity in its name."""
        request = super().request(messages, **options)
        if self._identity:
            request["model"] = f"{self.model}@{self._identity}"
        return request

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return self._open - self._endpoint.limit.under_way

    @property
    def failure(self) -> BaseException | None:
        """What the engine raised while decoding; from then on every call ends in ResumableError."""
        return self._worker.failure

    def _deliver(self, give: Callable[[], None]) -> None:
        """Give the answers of a step in the event loop's thread, before it goes on with any of them."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(give)
                return
        give()

    def _settle(self) -> None:
        """Wait, in the engine's thread, until the event loop has gone round often enough for callers that got an answer
        to ask again."""
        loop, settled = self._loop, threading.Event()
        if loop is None:
            return

        def go_round(times: int) -> None:
            if times:
                loop.call_soon(go_round, times - 1)
            else:
                settled.set()

        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(go_round, ROUNDS)
            while not settled.wait(1.0) and not loop.is_closed():
                pass

    async def sampled(
        self, messages: Sequence[Message], prompt: list[int], **options: Unpack[CallOptions]
    ) -> list[Answer]:
        """Answers to the messages as `chat` gives them, after the token ids `prompt`, which need not be those that the
        messages are tokenised to. They keep all ids that were sampled, those of thoughts too, which the text lacks."""
        return (await self._responded(self.request(messages, **options), prompt)).answers

    async def respond(self, request: Request, affinity: str = "") -> Response:
        """The answers to a request; all calls of equal `affinity` are at one place anyway.

        Raises CallError if the request is refused or its answer is none, and ResumableError if the engine stopped.
        """
        return await self._responded(request, None)

    async def _responded(self, request: Request, prompt: list[int] | None) -> Response:
        self._open += 1
        try:
            async with self._places:
                response = await self._complete(request, prompt)
        finally:
            self._open -= 1
        self.completions.add(response.usage)
        return response

    async def _complete(self, request: Request, prompt: list[int] | None) -> Response:
        [body] = bodies(request, OUR_ABILITIES)
        self._endpoint.limit.enter()
        try:
            asked = validated(body, ChatRequest)
            completed = await complete(self._served, asked, prompt)
        except ApiError as error:
            if error.status == 400:
                code = error.body["error"]["code"]
                raise RefusedCallError(str(error), f"400 {code}" if code else "400") from None
            raise ResumableError(str(error)) from None
        finally:
            self._endpoint.limit.leave()
        call = call_id(request)
        broken = functools.partial(constraints.broken, choices=request.get("choices"), schema=request.get("schema"))
        free = not (request.get("choices") or request.get("schema"))  # a constraint leaves no room for thoughts
        given = [self._answer(asked, completion, call, free) for completion in completed.completions]
        if prompt is not None:
            given = [
                replace(answer, token_ids=drawn.token_ids, logprobs=drawn.log_probs, tokenizer=self._tokenizer.hash)
                for answer, drawn in zip(given, completed.completions, strict=True)
            ]
        for answer in given:
            if reason := answers.wrong_log_prob(answer.logprobs or ()) or broken(answer):
                raise FailedCallError(f"{self.model} {ADDRESS}: {reason}", "broken answer")
        self._endpoint.answered += 1
        return Response(given, completed.usage)

    def _answer(self, asked: ChatRequest, completion: Completion, call: str, free: bool) -> Answer:
        tokens = top = None
        if asked.logprobs and any(completion.top):
            text = self._served.token_text
            tokens = tuple(map(text, completion.token_ids))
            top = tuple(tuple((text(token), log_prob) for token, log_prob in each) for each in completion.top)
        tokenizer = self._tokenizer
        given = Answer(
            text=tokenizer.decode(completion.text_ids),
            finish_reason=completion.finish_reason,
            token_ids=completion.token_ids if asked.return_token_ids else None,
            logprobs=completion.log_probs if asked.logprobs else None,
            tokenizer=tokenizer.hash if asked.return_token_ids else None,
            call=call,
            tokens=tokens,
            top=top,
        )
        return said(given, opened=free and given.truncated and self._opens_thoughts(asked))

    @property
    def _tokenizer(self) -> Tokenizer:
        return self._served.chat_format.tokenizer

    def _opens_thoughts(self, asked: ChatRequest) -> bool:
        """Whether the template begins the model's thoughts in the prompt of a request that it renders."""
        return opens_thoughts(self._served.chat_format.render(asked.messages, add_generation_prompt=True))

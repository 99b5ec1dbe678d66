"""Who replies in `aloe chat`: an engine of this process."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager

from aloe_jax.decode.requests import Constraint, Request, Sampling
from aloe_jax.errors import AloeError
from aloe_jax.serve.chat.speaker import Piece
from aloe_jax.serve.reply_text import ReplyTexts
from aloe_jax.serve.worker import Engine, UnavailableError, Worker
from aloe_jax.tree.probe import ANSWER_TOKENS
from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import ChatFormat


class EngineSpeaker:
    """Replies of an engine of this process, which `worker` owns. InputError from `pieces` is a dialogue that leaves no
    room for a reply of `sampling.max_tokens`."""

    def __init__(self, worker: Worker, chat_format: ChatFormat, name: str, sampling: Sampling, seed: int) -> None:
        self.name = name
        self._worker, self._chat = worker, chat_format
        self._sampling, self._seed = sampling, seed

    def pieces(self, messages: Sequence[Message], extra_seed: int) -> Generator[Piece]:
        prompt = tuple(self._chat.prompt_ids(messages))
        yield from self._said(Request(prompt, self._sampling, self._seed + extra_seed))

    def constrained(self, messages: Sequence[Message], schema: Mapping[str, object]) -> str:
        prompt = tuple(self._chat.prompt_ids(messages))
        room = max(self._worker.context - len(prompt), 1)  # where there is none the engine says so
        sampling = Sampling(temperature=0, max_tokens=min(ANSWER_TOKENS, room))
        return "".join(
            piece.text for piece in self._said(Request(prompt, sampling, constraint=Constraint.json(schema)))
        )

    def _said(self, request: Request) -> Generator[Piece]:
        """What is decoded, as it comes."""
        tokenizer = self._chat.tokenizer
        try:
            with self._worker.stream(request) as stream:
                for delta in ReplyTexts(stream, tokenizer):
                    yield Piece(delta.text, delta.token_ids, delta.log_probs, delta.finish_reason, tokenizer.hash)
        except UnavailableError:
            raise AloeError(f"the decoding engine failed: {self._worker.failure}") from self._worker.failure


@contextmanager
def engine_speaker(
    engine: Engine, chat_format: ChatFormat, name: str, sampling: Sampling, seed: int
) -> Iterator[EngineSpeaker]:
    """A speaker of an engine, whose thread lives as long as the block."""
    worker = Worker(engine)
    worker.start()
    try:
        yield EngineSpeaker(worker, chat_format, name, sampling, seed)
    finally:
        worker.stop()

"""The aloe_jax side of decode.py. Its arguments are ANSWERS MODEL: a file descriptor and a model's source.

Each question names what to measure (`part`) and its sizes; `Engine` is used as its callers use it. Engines and weights
of one part are released before the next. No token ends a turn, so every reply has the length that was asked for.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from decode_floor import Floor
from dialogues import dialogues
from worker import serve

from aloe_jax import memory
from aloe_jax.decode.engine import Engine
from aloe_jax.decode.requests import Request, Sampling
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.load import load_params
from aloe_jax.hub.source import resolve_model

GREEDY = Sampling(temperature=0.0)


class Ours:
    """Answers the questions of decode.py about one model."""

    def __init__(self, source: str) -> None:
        self.folder = resolve_model(source)
        self.model, self.chat = read_chat_model(self.folder)
        self.params = load_params(self.folder, self.model)
        self._engines: dict[tuple[int, int], Engine] = {}
        self._floor: Floor | None = None

    def answer(self, question: dict[str, Any]) -> object:
        """The numbers of one part."""
        return getattr(self, question.pop("part"))(**question)

    def release(self) -> None:
        """Drop the engines and weights of earlier parts."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()
        self._floor = None
        memory.release()

    def make_dialogues(self, first: int, count: int, turns: int) -> list[list[list[int]]]:
        """Token ids of `count` dialogues, numbered from `first`."""
        return dialogues(self.chat, first, count, turns)

    def run_dialogues(self, dialogues: Sequence[Sequence[list[int]]], tokens: int, context: int) -> dict[str, float]:
        """Seconds of a batch of dialogues, all of them one turn at a time."""
        turns = self.turns(dialogues, tokens, context)
        return {key: sum(turn[key] for turn in turns) for key in turns[0]}

    def turns(self, dialogues: Sequence[Sequence[list[int]]], tokens: int, context: int) -> list[dict[str, float]]:
        """The same, of each turn."""
        engine = self._engine(len(dialogues), context)
        history: list[list[int]] = [[] for _ in dialogues]
        found = []
        for pieces in zip(*dialogues, strict=True):
            prompts = [past + piece for past, piece in zip(history, pieces, strict=True)]
            began, began_cpu = time.perf_counter(), time.process_time()
            history = self._replies(engine, prompts, tokens)
            found.append({"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu})
        return found

    def step(self, sequences: int, slots: int, history: int, tokens: int, context: int) -> list[dict[str, float]]:
        """Seconds of `sequences` replies of one token and of `tokens + 1` to prompts of `history` tokens that have been
        read before: the difference is that of `tokens` decode steps. A longer history begins with the shorter ones, so
        that the engine reads each token once."""
        engine = self._engine(slots, context)
        prompts = [self._prompt(number, context)[:history] for number in range(sequences)]
        self._replies(engine, prompts, tokens + 1)
        found = []
        for length in (1, tokens + 1):
            began, began_cpu = time.perf_counter(), time.process_time()
            self._replies(engine, prompts, length)
            found.append({"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu})
        return found

    def floor(self, rows: int, tokens: int) -> dict[str, float]:
        """Seconds of the matrix products of a step alone, the mean over `tokens` steps."""
        floor = self._floor = self._floor or Floor(self.model, self.params)
        floor.step(rows)
        began, began_cpu = time.perf_counter(), time.process_time()
        for _ in range(tokens):
            floor.step(rows)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
        return {"seconds": seconds / tokens, "cpu_seconds": cpu_seconds / tokens}

    def siblings(self, siblings: int, turns: int, tokens: int, context: int, first: int) -> int:
        """Prompt tokens computed for a dialogue with `siblings` replies per turn, of which the first goes on."""
        engine = self._engine(siblings, context)
        before = engine.prefilled
        [pieces] = dialogues(self.chat, first, 1, turns)
        history: list[int] = []
        for piece in pieces:
            prompt = (*history, *piece)
            sampling = dataclasses.replace(GREEDY, temperature=1.0, max_tokens=tokens)
            [replies] = engine.generate([Request(prompt, sampling, n=siblings)])
            history = [*prompt, *replies[0].token_ids]
        return engine.prefilled - before

    def _engine(self, slots: int, context: int) -> Engine:
        if (slots, context) not in self._engines:
            engine = Engine(
                self.model,
                self.params,
                slots=slots,
                context=context,
                end_of_turn=frozenset(),
                vocab=self.chat.tokenizer.vocab_size,
            )
            self._engines[slots, context] = engine
        return self._engines[slots, context]

    def _replies(self, engine: Engine, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        """Each prompt with a reply of `tokens` tokens."""
        sampling = dataclasses.replace(GREEDY, max_tokens=tokens)
        found = engine.generate([Request(tuple(prompt), sampling) for prompt in prompts])
        assert all(len(completion.token_ids) == tokens for [completion] in found)
        return [[*prompt, *completion.token_ids] for prompt, [completion] in zip(prompts, found, strict=True)]

    def _prompt(self, number: int, length: int) -> list[int]:
        return np.random.default_rng(number).integers(100, self.model.vocab - 100, length).tolist()


def main() -> None:
    ours = Ours(sys.argv[2])
    serve(int(sys.argv[1]), {"folder": str(ours.folder)}, ours.answer)


if __name__ == "__main__":
    main()

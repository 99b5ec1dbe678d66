"""The `transformers` side of decode.py. Its arguments are ANSWERS FOLDER: a file descriptor, a Hugging Face folder.

Needs torch and transformers only. All dialogues of a turn are one left-padded batch; `generate` reads the whole history
again, since its cache ends with the call. f32, greedy, and no end of turn before the last token.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM
from worker import serve


def turn(model: Any, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
    """A reply of `tokens` tokens to each prompt."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        found = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
        )
    return found[:, longest:].tolist()


def main() -> None:
    descriptor, folder = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def answer(question: dict[str, Any]) -> dict[str, float]:
        dialogues, tokens = question["dialogues"], question["tokens"]
        history: list[list[int]] = [[] for _ in dialogues]
        began, began_cpu = time.perf_counter(), time.process_time()
        for pieces in zip(*dialogues, strict=True):
            prompts = [past + piece for past, piece in zip(history, pieces, strict=True)]
            replies = turn(model, prompts, tokens)
            history = [prompt + reply for prompt, reply in zip(prompts, replies, strict=True)]
        return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu}

    serve(descriptor, {}, answer)


if __name__ == "__main__":
    main()

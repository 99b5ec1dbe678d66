"""The llama.cpp side of decode.py. Its arguments are ANSWERS MODEL SLOTS CONTEXT: a file descriptor, a GGUF file, the
number of parallel slots and the tokens of each.

Needs xllamacpp only, which runs llama.cpp's own server in this process, called over HTTP: continuous batching over the
slots, each with the prompt cache of its dialogue. Weights and cache in f32, greedy, end-of-turn tokens ignored.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import xllamacpp
from worker import serve


def parameters(model: str, slots: int, context: int) -> xllamacpp.CommonParams:
    """The server's settings."""
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_parallel, params.n_ctx = slots, slots * context
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cache_ram_mib = 0  # no copies of slots beside the slots
    params.verbosity = 1  # errors
    for threads in (params.cpuparams, params.cpuparams_batch):
        threads.n_threads = len(os.sched_getaffinity(0))
    return params


def main() -> None:
    descriptor, model, slots, context = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    server = xllamacpp.Server(parameters(model, slots, context))
    url = f"{server.listening_address}/completion"

    def reply(slot: int, prompt: Sequence[int], tokens: int) -> list[int]:
        request = {
            "prompt": prompt,
            "id_slot": slot,
            "n_predict": tokens,
            "samplers": ["top_k"],
            "top_k": 1,
            "ignore_eos": True,
            "cache_prompt": True,
            "return_tokens": True,
        }
        body = urllib.request.Request(url, json.dumps(request).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(body) as response:
            found: list[int] = json.load(response)["tokens"]
        assert len(found) == tokens, found
        return found

    def answer(question: dict[str, Any]) -> dict[str, float]:
        dialogues, tokens = question["dialogues"], question["tokens"]
        history: list[list[int]] = [[] for _ in dialogues]
        began, began_cpu = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(len(dialogues)) as pool:
            for pieces in zip(*dialogues, strict=True):
                prompts = [past + piece for past, piece in zip(history, pieces, strict=True)]
                replies = pool.map(reply, range(len(prompts)), prompts, [tokens] * len(prompts))
                history = [prompt + found for prompt, found in zip(prompts, replies, strict=True)]
        return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu}

    serve(descriptor, {}, answer)


if __name__ == "__main__":
    main()

"""Minutes of random submissions, forks and cancels of an engine in this process: no page, sequence, thread or megabyte
may be lost, and replies are those given alone. Run by hand:

    PYTHONPATH=tests uv run python tests/long/engine_leaks.py --minutes=10
"""

from __future__ import annotations

import argparse
import gc
import resource
import threading
import time
from pathlib import Path

import numpy as np

from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.engine import Engine
from aloe_jax.decode.requests import Constraint, Request, Sampling
from helpers.tiny import MODEL, params
from helpers.tree_samples import tokenizer

CONTEXT, PAGES = 384, 40
CHOICES = Constraint(choices=("yes", "no", "maybe so"))
ROUND = 200  # steps between two looks at what is left
GROWTH = 16 << 20  # bytes that the process may grow by after the first rounds


def resident() -> int:
    """Bytes of memory that the process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def make(**sizes: int) -> Engine:
    tokens = tokenizer()
    return Engine(
        MODEL,
        params(),
        context=CONTEXT,
        end_of_turn=tokens.end_of_turn_ids,
        vocab=tokens.vocab_size,
        grammar=Grammar(tokens),
        **sizes,
    )


def a_request(draw: np.random.Generator, said: list[tuple[int, ...]]) -> Request:
    base = said[draw.integers(len(said))] if said and draw.random() < 0.7 else ()
    new = draw.integers(6, 90, draw.integers(1, 60)).tolist()
    prompt = (*base[: draw.integers(0, len(base) + 1)], *new)[-(CONTEXT - 40) :]
    sampling = Sampling(max_tokens=int(draw.integers(1, 40)), top_logprobs=int(draw.integers(0, 3)))
    constraint = CHOICES if draw.random() < 0.2 else None
    return Request(prompt, sampling, seed=int(draw.integers(1000)), n=int(draw.integers(1, 4)), constraint=constraint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = np.random.default_rng(options.seed)
    engine, alone = make(slots=7, pages=PAGES), make(slots=1)
    threads, counts = (
        threading.active_count(),
        {"submitted": 0, "cancelled": 0, "finished": 0, "compared": 0, "ties": 0},
    )
    said: list[tuple[int, ...]] = []
    began, rounds, first = time.monotonic(), 0, 0
    while time.monotonic() - began < 60 * options.minutes:
        sent: dict[int, Request] = {}
        for _ in range(ROUND):
            for _ in range(draw.integers(0, 3)):
                request = a_request(draw, said)
                sent[engine.submit(request)] = request
                counts["submitted"] += 1
            if sent and draw.random() < 0.2:
                engine.cancel(ticket := list(sent)[draw.integers(len(sent))])
                counts["cancelled"] += sent.pop(ticket, None) is not None
            take(engine, sent, said, counts, draw, alone)
        while engine.busy:
            take(engine, sent, said, counts, draw, alone)
        del said[:-50]
        assert not sent, f"{len(sent)} requests were lost"
        check(engine)
        assert threading.active_count() == threads, "a thread was left"
        rounds += 1
        gc.collect()
        if rounds == 3:
            first = resident()
        assert rounds < 3 or resident() - first < GROWTH, f"{(resident() - first) / 2**20:.0f} MiB more than at first"
        told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        minutes, found = (time.monotonic() - began) / 60, engine.found / (engine.found + engine.prefilled)
        print(
            f"{minutes:.1f} min: {told}; {found:.0%} of prompt tokens found; {resident() / 2**20:.0f} MiB", flush=True
        )


def take(
    engine: Engine,
    sent: dict[int, Request],
    said: list[tuple[int, ...]],
    counts: dict[str, int],
    draw: np.random.Generator,
    alone: Engine,
) -> None:
    """One step; one finished request in twenty is compared with the replies that it gets alone."""
    for ticket, completions in engine.step():
        request = sent.pop(ticket)
        counts["finished"] += 1
        said.append((*request.prompt, *completions[0].token_ids))
        if draw.random() < 0.05:
            counts["compared"] += 1
            [expected] = alone.generate([request])
            for one, other in zip(completions, expected, strict=True):
                same = next(
                    (place for place, (a, b) in enumerate(zip(one.token_ids, other.token_ids)) if a != b),  # noqa: B905
                    None,
                )
                counts["ties"] += same is not None
                np.testing.assert_allclose(one.log_probs[:same], other.log_probs[:same], atol=5e-5)
            assert counts["ties"] <= 1 + counts["compared"] // 500, "too many differences for ties"


def check(engine: Engine) -> None:
    for share in engine._shares:
        assert share.tree.available == PAGES - 1, f"{PAGES - 1 - share.tree.available} pages were lost"
        assert share.tree.held == share.tree.unused, "a page without tokens is held"
        assert not share.running
        assert not share._promised
    assert not engine._finished


if __name__ == "__main__":
    main()

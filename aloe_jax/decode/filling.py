"""Fills plans with the rows of sequences."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt32

from aloe_jax.decode import plans
from aloe_jax.decode.plans import Burst, Prefill, Shape
from aloe_jax.decode.programs import BURST
from aloe_jax.decode.sampling import ALL
from aloe_jax.decode.sequence import Sequence
from aloe_jax.decode.share import Share

MIXED_BURST = 4  # steps of a burst with a constrained sequence, which takes one of them
LIVE_BURST = 4  # steps of a burst with a sequence whose tokens somebody reads as they come

Chunk = tuple[Sequence, int, int]  # `count` tokens of a prompt from `start` on: (sequence, start, count)


def prefill_plan(shape: Shape, shares: list[Share], chunks: list[list[Chunk]], bucket: int) -> Prefill:
    """A prefill of each share's chunks, at most `bucket`."""
    plan = plans.no_chunks(bucket * shape.shares, shape)
    requests = [sequence.request for found in chunks for sequence, _, _ in found]
    if scored := [request for request in requests if request.score]:
        plan = plans.with_targets(plan, want_top=any(request.sampling.top_logprobs for request in scored))
    for number, (share, found) in enumerate(zip(shares, chunks, strict=True)):
        for row, (sequence, start, count) in enumerate(found, number * bucket):
            prompt = sequence.request.prompt
            plan.tokens[row, :count] = prompt[start : start + count]
            plan.start[row], plan.length[row] = start, count
            table = share.table(sequence)
            plan.tables[row, : len(table)] = table
            if scored:
                plan.targets[row, :count] = prompt[start + 1 : start + 1 + count]
    return plan


def burst_plan(
    shape: Shape, shares: list[Share], rows: list[list[Sequence]], words: int, ends: tuple[int, ...]
) -> Burst:
    """A burst of the sequences `rows` of each share, which take the pages for it. `words` is the number of words of
    bits that the vocabulary takes; `ends` end replies without options."""
    everyone = [sequence for share in rows for sequence in share]
    left = {id(each): 1 if each.matcher else each.most - len(each.token_ids) for each in everyone}
    steps = min(_steps(everyone), max(left.values()))
    bucket = next(size for size in shape.row_buckets if size >= max(map(len, rows)))
    plan = plans.idle_rows(bucket * shape.shares, shape.width)
    if any(sequence.matcher for sequence in everyone):
        plan = plan._replace(allowed=np.full((len(plan.token), words), ALL, np.uint32))
    if any(sequence.request.sampling.adjusts for sequence in everyone):
        plan = plans.with_options(plan, shape.context, ends)
    for number, (share, sequences) in enumerate(zip(shares, rows, strict=True)):
        for row, sequence in enumerate(sequences, number * bucket):
            sampling = sequence.request.sampling
            share.reserve(sequence, min(steps, left[id(sequence)]))
            plan.token[row], plan.position[row] = sequence.token, sequence.ran
            plan.left[row], plan.key[row] = left[id(sequence)], sequence.key
            plan.temperature[row], plan.top_p[row], plan.top_k[row] = (
                sampling.temperature,
                sampling.top_p,
                sampling.top_k,
            )
            table = share.table(sequence)
            plan.tables[row, : len(table)] = table
            if sequence.matcher:
                bits = _allowed(sequence)[:words]  # either vocabulary may be padded
                plan.allowed[row] = 0
                plan.allowed[row, : len(bits)] = bits
            if sampling.adjusts:
                _fill_options(plan, row, sequence)
    want_top = any(sequence.request.sampling.top_logprobs for sequence in everyone)
    return plan._replace(want_top=np.asarray(want_top), steps=np.asarray(steps, np.int32))


def _steps(everyone: list[Sequence]) -> int:
    constrained = sum(sequence.matcher is not None for sequence in everyone)
    if constrained:
        return 1 if constrained == len(everyone) else MIXED_BURST
    return LIVE_BURST if any(sequence.request.live for sequence in everyone) else BURST


def _fill_options(plan: Burst, row: int, sequence: Sequence) -> None:
    sampling = sequence.request.sampling
    plan.min_p[row] = sampling.min_p
    plan.presence[row], plan.frequency[row] = sampling.presence_penalty, sampling.frequency_penalty
    plan.repetition[row] = sampling.repetition_penalty
    plan.min_tokens[row] = 0 if sequence.matcher else sampling.min_tokens
    plan.ends[row] = plans.NO_TOKEN
    plan.ends[row, : len(sequence.ends)] = sorted(sequence.ends)
    for place, (token, bias) in enumerate(sampling.logit_bias):
        plan.bias_ids[row, place], plan.bias[row, place] = token, bias
    plan.prompt_length[row] = len(sequence.request.prompt)
    if sampling.penalises:
        seen = sequence.tokens(0, sequence.ran + 1)
        plan.seen[row, : len(seen)] = seen


def _allowed(sequence: Sequence) -> UInt32[np.ndarray, W]:
    """The bits of the tokens that the grammar allows next; of those that end a reply which has too few tokens only
    where there is no other."""
    assert sequence.matcher is not None
    bits = sequence.matcher.allowed
    if len(sequence.token_ids) >= sequence.request.sampling.min_tokens:
        return bits
    others = bits.copy()
    for token in sequence.ends:
        if token // 32 < len(others):
            others[token // 32] &= ~np.uint32(1 << token % 32)
    return others if others.any() else bits

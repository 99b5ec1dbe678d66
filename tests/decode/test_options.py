"""Sampling options against a plain twin: one token after the other, by sorting, over the scores of a forward pass."""

import dataclasses

import jax
import numpy as np
import pytest

from aloe_jax.decode.requests import Constraint, Request, Sampling
from aloe_jax.errors import InputError
from aloe_jax.parallel.mesh import make_mesh
from decode.test_engine import CONSTRAINED, END, REQUESTS, assert_agree, engine, log_probs, reply_logits
from helpers.tiny import MODEL
from helpers.tree_samples import tokenizer

PROMPT = (7, 8, 9, 7)
OFTEN_END = ((END, 6.0),)  # a random model seldom ends a reply
OPTIONS = [
    Request(PROMPT, Sampling(temperature=0.0, max_tokens=30, repetition_penalty=1.3)),
    Request(PROMPT, Sampling(temperature=0.0, max_tokens=30, repetition_penalty=0.7, presence_penalty=-0.5)),
    Request(PROMPT, Sampling(temperature=0.0, max_tokens=30, presence_penalty=1.5, top_logprobs=3)),
    Request(PROMPT, Sampling(temperature=0.0, max_tokens=30, frequency_penalty=0.9)),
    Request(PROMPT, Sampling(max_tokens=20, min_p=0.2), seed=1, n=2),
    Request(PROMPT, Sampling(temperature=1.5, max_tokens=20, min_p=0.05, top_k=9, top_p=0.8), seed=-1),
    Request(PROMPT, Sampling(max_tokens=20, logit_bias=((11, 3.5), (12, -100.0), (13, 4.0))), seed=2**63),
    Request(PROMPT, Sampling(max_tokens=9, temperature=0.0, logit_bias=((11, 100.0),)), seed=4),
    Request(PROMPT, Sampling(max_tokens=30, logit_bias=OFTEN_END, min_tokens=13), seed=5, n=3),
    Request(PROMPT, Sampling(max_tokens=30, logit_bias=OFTEN_END, ignore_eos=True), seed=6),
    Request(PROMPT, Sampling(max_tokens=30, stop_token_ids=tuple(range(30, 46))), seed=7, n=2),
    Request(
        PROMPT,
        Sampling(
            temperature=0.8,
            max_tokens=40,
            min_p=0.02,
            top_p=0.95,
            presence_penalty=0.4,
            frequency_penalty=0.3,
            repetition_penalty=1.1,
            logit_bias=((END, 9.0), (20, 1.0)),
            stop_token_ids=(21,),
            min_tokens=5,
        ),
        seed=-(2**63),
        n=2,
    ),
]


@pytest.fixture(scope="module")
def shared():
    return engine()


def ends_of(sampling):
    return {*sampling.stop_token_ids, *(() if sampling.ignore_eos else (END,))}


def moved(request, earlier, logits):
    """The logits [V] behind the tokens `earlier` of a reply, after biases and penalties, in f64."""
    sampling = request.sampling
    scores = logits.astype(np.float64)
    for token, bias in sampling.logit_bias:
        scores[token] += bias
    for token in {*request.prompt, *earlier}:
        factor = sampling.repetition_penalty
        scores[token] = scores[token] / factor if scores[token] > 0 else scores[token] * factor
    for token in set(earlier):
        scores[token] -= sampling.presence_penalty + sampling.frequency_penalty * earlier.count(token)
    if len(earlier) < sampling.min_tokens:
        scores[list(ends_of(sampling))] = -np.inf
    return scores


def kept(scores, sampling):
    """A mask of what min-p, top-k and top-p leave of scores at their temperature."""
    probs = np.exp(scores - scores.max())
    mask = probs >= sampling.min_p
    order = np.argsort(-np.where(mask, probs, 0.0))
    order = order[: min(sampling.top_k or len(order), int(mask.sum()))]
    mass = np.cumsum(probs[order]) / probs[order].sum()
    mask = np.zeros(len(scores), bool)
    mask[order[: int(np.searchsorted(mass, sampling.top_p - 1e-9)) + 1]] = True
    return mask


def drawn_scores(request, index, earlier, logits):
    """The scores [V] of which the next token has the largest."""
    sampling, scores = request.sampling, moved(request, earlier, logits)
    if sampling.temperature == 0:
        return scores
    scores = scores / sampling.temperature
    seed = request.seed % 2**64
    key = jax.random.wrap_key_data(np.array([seed >> 32, seed % 2**32], np.uint32))
    key = jax.random.fold_in(jax.random.fold_in(key, index), len(request.prompt) + len(earlier) - 1)
    noise = np.asarray(jax.random.gumbel(key, scores.shape), np.float64)
    return np.where(kept(scores, sampling), scores + noise, -np.inf)


def assert_drawn_as_the_twin_would(request, index, completion):
    """Every token has the largest score, but for ties within 1e-4, and the reply ends where it should."""
    sampling, ids = request.sampling, completion.token_ids
    for place, row in enumerate(reply_logits(request.prompt, ids)):
        scores = drawn_scores(request, index, list(ids[:place]), row)
        assert scores[ids[place]] >= scores.max() - 1e-4, (request, place)
    ending = [place for place, token in enumerate(ids) if token in ends_of(sampling)]
    if completion.finish_reason == "stop":
        assert ending == [len(ids) - 1] >= [sampling.min_tokens]
    else:
        assert (ending, len(ids)) == ([], sampling.max_tokens)


def assert_all_drawn_as_the_twin_would(requests, found):
    for request, completions in zip(requests, found, strict=True):
        for index, completion in enumerate(completions):
            assert_drawn_as_the_twin_would(request, index, completion)


def test_tokens_are_those_of_the_plain_twin(shared):
    found = shared.generate(OPTIONS)
    assert_all_drawn_as_the_twin_would(OPTIONS, found)
    assert {one.finish_reason for completions in found for one in completions} == {"stop", "length"}
    # Each option changes what is drawn; equal replies would not show that it does anything.
    for request, completions in zip(OPTIONS, found, strict=True):
        plain = dataclasses.replace(
            Sampling(), temperature=request.sampling.temperature, max_tokens=request.sampling.max_tokens
        )
        [without] = shared.generate([dataclasses.replace(request, sampling=plain)])
        assert [one.token_ids for one in without] != [one.token_ids for one in completions]


def test_log_probs_are_those_of_the_model(shared):
    for request, completions in zip(OPTIONS, shared.generate(OPTIONS), strict=True):
        for completion in completions:
            table = log_probs(request.prompt, completion)
            expected = table[np.arange(len(completion.token_ids)), list(completion.token_ids)]
            np.testing.assert_allclose(completion.log_probs, expected, atol=1e-4)
            for row, top in zip(table, completion.top, strict=False):
                assert [token for token, _ in top] == np.argsort(-row)[:3].tolist()


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert (one.token_ids, one.finish_reason) == (other.token_ids, other.finish_reason)
        np.testing.assert_allclose(one.log_probs, other.log_probs, atol=5e-5)


def test_company_changes_nothing(shared):
    """Neither a request with options, nor one without beside it."""
    requests = [each for pair in zip(OPTIONS, (REQUESTS + CONSTRAINED) * 2, strict=True) for each in pair]
    together = shared.generate(requests)
    for request, found in zip(requests[::2], together[::2], strict=True):
        same(found, shared.generate([request])[0])
    assert_agree(requests[1::2], [shared.generate([each])[0] for each in requests[1::2]], together[1::2])


@pytest.mark.slow
def test_a_mesh_gives_the_same():
    """Where a burst is one program."""
    mesh = make_mesh(fsdp=4, tensor=2)
    assert_all_drawn_as_the_twin_would(OPTIONS, engine(slots=8, mesh=mesh).generate(OPTIONS))


def test_seeds_have_64_bits(shared):
    """-1 is 2**64 - 1, the upper half counts, and a small seed is that of `jax.random.key`."""

    def drawn(seed):
        return shared.generate([Request(PROMPT, Sampling(max_tokens=12), seed=seed)])[0][0].token_ids

    assert drawn(-1) == drawn(2**64 - 1)
    assert len({drawn(seed) for seed in (3, 3 + 2**32, 3 - 2**63)}) == 3


def test_a_constrained_reply_keeps_options(shared):
    """A bias decides between choices; `min_tokens` holds an end back where the text may go on, and not where it must
    end."""
    words = Constraint(choices=("yes", "no"))
    y, n = (tokenizer().encode(word)[0] for word in words.choices)
    for token, word in ((y, "yes"), (n, "no")):
        sampling = Sampling(max_tokens=20, logit_bias=((token, 100.0),), min_tokens=20)
        [[found]] = shared.generate([Request(PROMPT, sampling, seed=1, constraint=words)])
        assert tokenizer().decode(found.text_ids) == word
        assert found.finish_reason == "stop"
    longer = Constraint(choices=("", "a", "ab", "abcd"))
    for minimum in (1, 3):
        sampling = Sampling(max_tokens=20, min_tokens=minimum, logit_bias=((END, 50.0),))
        [completions] = shared.generate([Request(PROMPT, sampling, seed=1, n=5, constraint=longer)])
        assert all(len(each.text_ids) >= 1 for each in completions)


@pytest.mark.parametrize(
    ("sampling", "reason"),
    [
        (Sampling(min_p=1.5), "min_p 1.5 must be between 0 and 1"),
        (Sampling(presence_penalty=2.5), "presence_penalty 2.5 must be between -2 and 2"),
        (Sampling(frequency_penalty=float("nan")), "frequency_penalty nan must"),
        (Sampling(repetition_penalty=0.0), "repetition_penalty 0.0 must be between 0.01 and 100"),
        (Sampling(repetition_penalty=1e-39), "repetition_penalty 1e-39 must be between 0.01 and 100"),
        (Sampling(logit_bias=((1, 101.0),)), "logit_bias 101.0 of token 1 must be between -100 and 100"),
        (Sampling(logit_bias=((1, 1.0), (1, 2.0))), "logit_bias names a token twice"),
        (Sampling(logit_bias=tuple((token, 1.0) for token in range(301))), "logit_bias of 301 tokens: at most 300"),
        (Sampling(logit_bias=((MODEL.vocab, 1.0),)), f"^logit_bias with the token id {MODEL.vocab}: "),
        (Sampling(stop_token_ids=(-1,)), "^stop_token_ids with the token id -1: the model's vocab_size"),
        (Sampling(stop_token_ids=tuple(range(17))), "stop_token_ids of 17 tokens: at most 16"),
        (Sampling(max_tokens=3, min_tokens=4), "min_tokens 4 must be between 0 and max_tokens, which is 3"),
    ],
)
def test_impossible_options_are_refused(shared, sampling, reason):
    with pytest.raises(InputError, match=reason):
        shared.submit(Request(PROMPT, sampling))
    assert not shared.busy
    assert not shared._finished  # nothing is kept of a request that got no ticket

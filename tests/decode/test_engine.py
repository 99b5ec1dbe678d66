"""The engine against the plain forward pass, and its promise that neighbours, order, page reuse, eviction and the mesh
change a request by rounding alone."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.engine import Engine
from aloe_jax.decode.programs import BURST
from aloe_jax.decode.requests import Constraint, Request, Sampling
from aloe_jax.errors import InputError
from aloe_jax.models import decoder
from aloe_jax.ops.attention import dense
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.parallel.sharding import param_shardings
from helpers.tiny import MODEL, params
from helpers.tree_samples import tokenizer

END = 5
LENGTH = 64


GRAMMAR = Grammar(dataclasses.replace(tokenizer(), end_of_turn_ids=frozenset({END})))


def engine(slots=3, context=LENGTH, weights=None, mesh=None, **options):
    return Engine(
        MODEL,
        weights or params(),
        slots=slots,
        context=context,
        end_of_turn=frozenset({END}),
        grammar=GRAMMAR,
        mesh=mesh,
        **options,
    )


@pytest.fixture(scope="module")
def shared():
    return engine()


@jax.jit
def logits(tokens):
    def attend(layer, query, key, value, carry):
        return dense(query, key, value, jnp.full(tokens[None].shape, LENGTH), None, None, None, scale=8**-0.5), carry

    hidden, _ = decoder.hidden_states(params(), MODEL, tokens[None], jnp.arange(LENGTH)[None], attend)
    return hidden[0] @ decoder.head_weight(params(), MODEL)


def reply_logits(prompt, token_ids):
    """By the forward pass over the whole sequence: [reply, V]."""
    ids = [*prompt, *token_ids]
    padded = jnp.asarray(ids + [0] * (LENGTH - len(ids)))
    return np.asarray(logits(padded))[len(prompt) - 1 : len(ids) - 1]


def log_probs(prompt, completion):
    """Likewise, normalised."""
    return np.asarray(jax.nn.log_softmax(reply_logits(prompt, completion.token_ids)))


def perturbed(request, index, completion, place):
    """The scores among which the token at `place` of a completion is the largest, by the plain forward pass [V]."""
    table = log_probs(request.prompt, completion)[place]
    sampling = request.sampling
    if sampling.temperature == 0:
        return table
    key = jax.random.fold_in(jax.random.key(request.seed), index)
    key = jax.random.fold_in(key, len(request.prompt) + place - 1)
    return table / sampling.temperature + np.asarray(jax.random.gumbel(key, table.shape))


def assert_agree(requests, expected, found):
    """Equal tokens, and log-probabilities to 5e-5. Tokens may differ where the two best scores lie within 1e-4, and
    behind such a place. A wrong engine cannot hide there: its scores are compared with the forward pass's."""
    ties = 0
    for request, left, right in zip(requests, expected, found, strict=True):
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            pairs = zip(one.token_ids, other.token_ids, strict=False)
            same = next((place for place, (a, b) in enumerate(pairs) if a != b), None)
            if same is None:
                assert (one.token_ids, one.finish_reason) == (other.token_ids, other.finish_reason)
                assert [[token for token, _ in top] for top in one.top] == [
                    [token for token, _ in top] for top in other.top
                ]
            else:
                ties += 1
                scores = perturbed(request, index, one, same)
                assert abs(scores[one.token_ids[same]] - scores[other.token_ids[same]]) < 1e-4
            np.testing.assert_allclose(one.log_probs[:same], other.log_probs[:same], atol=5e-5)
    assert ties <= 1, f"{ties} ties are too many for chance"


REQUESTS = [
    Request((3, 4, 9, 10), Sampling(max_tokens=20), seed=1, n=4),
    Request((7,), Sampling(temperature=0.0, max_tokens=10), seed=2),
    Request(tuple(range(8, 48)), Sampling(temperature=0.7, top_p=0.9, max_tokens=40), seed=3),
    Request((11, 12), Sampling(temperature=1.3, top_k=5, max_tokens=BURST), seed=4, n=2),
    Request((13, 14), Sampling(max_tokens=BURST + 2, top_logprobs=7), seed=5),
]
CONSTRAINED = [
    Request((15, 16), Sampling(top_logprobs=4), seed=6, constraint=Constraint(choices=("yes", "no", "maybe so"))),
]


def test_log_probs_are_those_of_the_forward_pass(shared):
    for request, completions in zip(REQUESTS, shared.generate(REQUESTS), strict=True):
        assert len(completions) == request.n
        for completion in completions:
            table = log_probs(request.prompt, completion)
            expected = table[np.arange(len(completion.token_ids)), list(completion.token_ids)]
            np.testing.assert_allclose(completion.log_probs, expected, atol=1e-4)
            if request.sampling.temperature == 0:
                assert list(completion.token_ids) == table.argmax(axis=-1).tolist()
            if request.sampling.top_k:
                rank = (table > expected[:, None]).sum(axis=-1)
                assert rank.max() < request.sampling.top_k
            wanted = request.sampling.top_logprobs
            assert len(completion.top) == (len(completion.token_ids) if wanted else 0)
            for row, top in zip(table, completion.top, strict=False):
                best = np.argsort(-row)[:wanted]
                assert [token for token, _ in top] == best.tolist()
                np.testing.assert_allclose([value for _, value in top], row[best], atol=1e-4)


def test_company_changes_a_request_by_rounding_alone(shared):
    requests = REQUESTS + CONSTRAINED
    together = shared.generate(requests)
    alone = [engine().generate([request])[0] for request in requests]
    backwards = shared.generate(requests[::-1])[::-1]
    assert_agree(requests, alone, together)
    assert_agree(requests, alone, backwards)


def test_equal_schedules_give_equal_bits(shared):
    requests = REQUESTS + CONSTRAINED
    assert engine().generate(requests) == engine().generate(requests)


def test_a_burst_of_one_program_equals_a_burst_of_parts(shared):
    requests = REQUESTS + CONSTRAINED
    assert_agree(requests, shared.generate(requests), engine(whole=True).generate(requests))


def test_completions_of_one_request_differ(shared):
    [completions] = shared.generate([REQUESTS[0]])
    assert len({completion.token_ids for completion in completions}) > 1


def test_stops_at_end_of_turn_and_at_the_limits(shared):
    seeds = [Request((3, 4), Sampling(temperature=3.0, max_tokens=30), seed=seed) for seed in range(60)]
    reasons = set()
    for [completion] in shared.generate(seeds):
        reasons.add(completion.finish_reason)
        if completion.finish_reason == "stop":
            assert completion.token_ids[-1] == END
            assert END not in completion.token_ids[:-1]
        else:
            assert END not in completion.token_ids
            assert len(completion.token_ids) == 30
        assert len(completion.log_probs) == len(completion.token_ids)
    assert reasons == {"stop", "length"}
    prompt = tuple(range(8, 8 + LENGTH - 3))
    [[completion]] = shared.generate([Request(prompt, Sampling(max_tokens=99), seed=1)])
    assert len(completion.token_ids) <= 3


@pytest.mark.parametrize(("fsdp", "tensor"), [(8, 1), (4, 2), (2, 4)])
def test_a_mesh_changes_a_request_by_rounding_alone(shared, fsdp, tensor):
    mesh = make_mesh(fsdp=fsdp, tensor=tensor)
    places = param_shardings(decoder.abstract_params(MODEL), decoder.logical_axes(MODEL), mesh)
    sharded = engine(slots=8, weights=jax.device_put(params(), places), mesh=mesh)
    requests = REQUESTS + CONSTRAINED
    assert_agree(requests, shared.generate(requests), sharded.generate(requests))


def test_key_heads_divide_over_the_mesh():
    with pytest.raises(InputError, match=r"config\.decode\.mesh\.tensor: 8 does not divide the model's 4 key heads"):
        engine(mesh=make_mesh(fsdp=1, tensor=8))


def test_cancelled_request_never_comes_back(shared):
    kept, dropped, waiting = (shared.submit(REQUESTS[0]) for _ in range(3))
    found = dict(shared.step())
    shared.cancel(dropped)
    shared.cancel(waiting)
    shared.cancel(999)
    while shared.busy:
        found.update(shared.step())
    assert set(found) == {kept}
    assert_agree([REQUESTS[0]], [found[kept]], shared.generate([REQUESTS[0]]))


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Request(()), "prompt of 0 tokens"),
        (Request((1,) * LENGTH), f"prompt of {LENGTH} tokens"),
        (Request((1, MODEL.vocab)), f"the token id {MODEL.vocab}: the model's vocab_size is {MODEL.vocab}"),
        (Request((-1, 1)), "the token id -1"),
        (Request((1,), n=0), "n 0 must be"),
        (Request((1,), seed=-(2**63) - 1), f"seed -9223372036854775809 must be between -{2**63} and {2**64 - 1}"),
        (Request((1,), seed=2**64), "seed 18446744073709551616"),
        (Request((1,), Sampling(max_tokens=-1)), "max_tokens -1"),
        (Request((1,), Sampling(top_logprobs=21)), "top_logprobs 21 must be between 0 and 20"),
        (Request((1,), Sampling(temperature=-0.5)), "temperature -0.5 must be"),
        (Request((1,), Sampling(temperature=math.nan)), "temperature nan"),
        (Request((1,), Sampling(top_p=0.0)), "top_p 0.0 must be above 0"),
        (Request((1,), Sampling(top_k=-1)), "top_k -1 must be between 0 and 2147483647"),
        (Request((1,), Sampling(top_k=2**31)), "top_k 2147483648"),
    ],
)
def test_impossible_requests_are_refused(shared, request_, reason):
    with pytest.raises(InputError, match=reason):
        shared.submit(request_)
    assert not shared.busy
    assert not shared._finished


def test_impossible_engines_are_refused():
    with pytest.raises(InputError, match="slots: 0"):
        engine(slots=0)
    with pytest.raises(InputError, match="context: 4096 must be between 2 and the model's 1024"):
        engine(context=4096)
